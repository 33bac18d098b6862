"""Whole answers after a question: their likelihood is that of reading everything anew, whatever the pack."""

from __future__ import annotations

from itertools import chain

import pytest

from neuromod_core.effects import Stream, Subject
from neuromod_core.engine import Row, choose, dosed, score
from neuromod_core.kernel.errors import DataError
from neuromod_core.models import LoadedModel
from neuromod_core.packs import Pack
from tests.conftest import subject_of
from tests.unit.test_engine import NONE, dosed_pack

PROMPTS = ((3, 4, 5, 6), (9, 8, 7), (11, 12, 13, 14, 15))
QUESTIONS = ((21, 22), (23, 24, 25), (26, 27))
ANSWERS = ((50,), (51, 52), (51, 53, 54))
PACKS = (NONE, dosed_pack("temperature", 0.5), dosed_pack("value_noise_kv", 0.5), dosed_pack("random_eviction_kv", 0.5))


def test_an_answer_is_as_likely_as_after_the_whole_prompt(model: LoadedModel, subject: Subject) -> None:
    rows = [Row(prompt, NONE, Stream(0, "u")) for prompt in PROMPTS]
    with dosed(model) as session:
        read = choose(session, rows, QUESTIONS, (50, 51), subject, texts=ANSWERS, batch=4)
        for row, line in zip(rows, read, strict=True):
            for question, choice in zip(QUESTIONS, line, strict=True):
                whole = Row((*row.prompt, *question), NONE, row.stream)
                (again,) = score(session, [whole], ANSWERS, subject)
                assert [one.raw for one in choice.texts] == pytest.approx([one.raw for one in again], abs=5e-4)
                assert [one.expressed for one in choice.texts] == [one.raw for one in choice.texts]
                assert [one.tokens for one in choice.texts] == [1, 2, 3]


@pytest.mark.parametrize("pack", PACKS, ids=lambda pack: str(pack))
def test_answers_do_not_depend_on_which_others_are_read(llama: LoadedModel, pack: Pack) -> None:
    """The cache is wound back between answers, with all that effects remember in it."""
    rows, subject = [Row(prompt, pack, Stream(0, "u")) for prompt in PROMPTS], subject_of(llama)
    with dosed(llama) as session:
        plain = choose(session, rows, QUESTIONS, (50, 51), subject)
        some = choose(session, rows, QUESTIONS, (50, 51), subject, texts=ANSWERS[2:])
        every = choose(session, rows, QUESTIONS, (50, 51), subject, texts=(*ANSWERS, *ANSWERS))
    for bare, one, six in zip(*map(chain.from_iterable, (plain, some, every)), strict=True):
        assert bare.raw == pytest.approx(one.raw, abs=5e-4)
        assert bare.raw == pytest.approx(six.raw, abs=5e-4)
        assert six.texts[:3] == six.texts[3:]
        assert six.texts[0].raw == pytest.approx(six.raw[0], abs=1e-5)
        assert one.texts[0].raw == pytest.approx(six.texts[2].raw, abs=5e-4)
        assert one.texts[0].expressed == pytest.approx(six.texts[2].expressed, abs=5e-4)


def test_an_empty_answer_is_refused(llama: LoadedModel) -> None:
    with dosed(llama) as session, pytest.raises(DataError, match="answer is empty"):
        choose(session, [Row((1, 2), NONE, Stream(0, "u"))], [(3,)], (4,), subject_of(llama), texts=[()])
