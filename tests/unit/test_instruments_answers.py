"""Replies, checks and short forms: nothing is guessed, and what says nothing counts as nothing."""

from __future__ import annotations

import itertools
import math

import pytest

from neuromod_core.instruments import (
    LABEL_SETS,
    ORDERS,
    Labels,
    Order,
    load_frames,
    load_scales,
    marks,
    parse_reply,
    words,
)
from neuromod_core.instruments.scoring import option_expected, reply_score
from neuromod_core.instruments.validity import acquiescence, careless, inconsistent, most_likely
from neuromod_core.kernel.errors import DataError, UnknownName
from tests.conftest import ROOT

OPTIONS = ("not at all", "slightly", "moderately", "strongly", "completely")
SCALES = load_scales(ROOT / "datasets" / "instruments")


@pytest.mark.parametrize("labels", LABEL_SETS)
def test_every_spelling_of_an_option_is_read_as_it(labels: Labels) -> None:
    for option, (mark, text) in enumerate(zip(marks(labels, OPTIONS), OPTIONS, strict=True)):
        key = text if mark == text else f"{mark} = {text}"
        for reply in (mark, f" {mark}", f"{mark}.", mark.lower(), f'"{mark}"\n', text.upper(), f"**{text}**", key):
            assert parse_reply(reply, labels, OPTIONS) == (option, None), reply


@pytest.mark.parametrize("labels", LABEL_SETS)
@pytest.mark.parametrize(
    "reply", ["7", "33", "3 or 4", "strongly, I think", "I feel that", "somewhat", "-", "F", "not", "three", "0 0"]
)
def test_nonsense_is_missing_with_what_was_said(labels: Labels, reply: str) -> None:
    option, reason = parse_reply(reply, labels, OPTIONS)
    assert option is None
    assert reason in (f"no option: {reply!r}", "an empty reply")


def test_an_empty_reply_and_one_of_blanks_are_missing() -> None:
    assert parse_reply("", "digits", OPTIONS) == parse_reply(" \n", "words", OPTIONS) == (None, "an empty reply")


def test_another_set_of_marks_is_refused() -> None:
    with pytest.raises(UnknownName, match="No label set is called 'digit'"):
        marks("digit", OPTIONS)  # type: ignore[arg-type]


@pytest.mark.parametrize("order", ORDERS)
def test_replies_score_as_certain_probabilities_do(order: Order) -> None:
    for option in range(5):
        certain = [0.0 if each == option else -math.inf for each in range(5)]
        level = option_expected(certain, order).value
        assert level is not None
        assert reply_score([option], order, 5).value == 25 * level
        assert most_likely(certain, order) == level


def test_four_fifths_of_the_replies_must_be_options() -> None:
    assert reply_score([4, 4, 4, 4, None], "ascending", 5).value == 100
    short = reply_score([4, 4, 4, None, None], "ascending", 5)
    assert (short.value, short.n_valid) == (None, 3)
    assert short.reason == "3 of 5 items valid, 4 needed; first missing: the reply is no option"
    with pytest.raises(DataError, match="a reply is option 5; the key has options 0 to 4"):
        reply_score([5], "ascending", 5)


def test_no_option_at_all_is_no_answer() -> None:
    assert most_likely([-math.inf] * 5, "ascending") is None


def test_acquiescence_is_zero_where_opposites_balance_and_extreme_where_both_are_affirmed() -> None:
    assert [acquiescence(level, 4 - level, 5) for level in (0.0, 1.3, 4.0)] == [0.0, 0.0, 0.0]
    assert (acquiescence(4, 4, 5), acquiescence(0, 0, 5)) == (2, -2)
    assert inconsistent(3, 1, 5) is None
    assert (
        inconsistent(4, 3.5, 5) == "a sentence and its opposite are both affirmed: 1.75 levels off balance, 1 allowed"
    )
    assert inconsistent(0, 1.5, 5) == "a sentence and its opposite are both denied: 1.25 levels off balance, 1 allowed"


def test_three_of_four_instructed_responses_are_enough() -> None:
    told = [{0}, {1}, {3}, {4}]
    for answers in itertools.product((0, 1, 3, 4, None), repeat=4):
        right = sum(answer in each for answer, each in zip(answers, told, strict=True))
        reason = careless(answers, told)
        assert (reason is None) == (right >= 3)
        assert reason is None or reason == f"instructed responses: {right} of 4 as told, 3 needed"


@pytest.mark.parametrize("scale", SCALES.values(), ids=list(SCALES))
def test_a_short_form_keeps_order_and_the_consistency_item(scale) -> None:
    names = [item.id for item in scale.items]
    for count in range(1, len(names) + 3):
        short = [item.id for item in scale.short(count).items]
        assert len(short) == min(count, len(names))
        assert short == [name for name in names if name in short]
        assert scale.consistency is None or scale.consistency in short


def test_sentences_without_content_have_no_word_of_an_item() -> None:
    frames = load_frames(ROOT / "datasets" / "instruments" / "frames.yaml")
    said = {word for text in frames.content_free for word in words(text) if len(word) > 2}
    items = [item for scale in SCALES.values() for item in scale.items]
    assert not said & {
        word for item in items for pair in item.wordings for word in words(f"{pair.keyed} {pair.antonym}")
    }
