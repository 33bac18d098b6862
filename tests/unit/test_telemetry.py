"""Reading a text once more: exactly nothing at dose zero, what was noted while it was written, and no trace left."""

from __future__ import annotations

import math

import pytest
import torch

from neuromod_core.effects import EFFECTS, Stream, Subject
from neuromod_core.engine import Row, dosed, generate, score
from neuromod_core.engine.session import Path
from neuromod_core.engine.telemetry import DISTANCES, Telemetry, observe, repeats, spectral_power
from neuromod_core.kernel.errors import DataError
from neuromod_core.models import LoadedModel
from neuromod_core.packs import Dosed, Pack
from tests.conftest import subject_of

TOKENS = 36


def pack(name: str, **doses: float) -> Pack:
    given = {"steering": {"steering_type": "visionary"}}
    effects = tuple(Dosed(key, EFFECTS[key](**given.get(key, {})), dose) for key, dose in doses.items())
    return Pack(name=name, description="d", kind="t", effects=effects)


NONE, ZERO = pack("none"), pack("zero", steering=0.0, temperature=0.0)
HOT, PUSHED = pack("hot", temperature=1.0), pack("pushed", steering=1.0)
PACKS = (NONE, ZERO, HOT, PUSHED)


def rows_of(model: LoadedModel) -> list[Row]:
    """Rows of unlike length under every pack."""
    text = model.encode("Tell me about a lighthouse, please.")
    return [Row(text[: 9 + at], each, Stream(5, f"u{at // 2}")) for at, each in enumerate(PACKS)]


def told(model: LoadedModel, subject: Subject, path: Path = "library") -> tuple[list[Row], list, list[Telemetry]]:  # type: ignore[type-arg]
    with dosed(model, path) as session:
        rows = rows_of(model)
        written = generate(session, rows, subject, tokens=TOKENS)
        return rows, written, observe(session, rows, [each.tokens for each in written], subject)


def test_dose_zero_is_exactly_the_undosed_model_and_a_dose_is_not(model: LoadedModel, subject: Subject) -> None:
    _, _, (none, zero, hot, pushed) = told(model, subject)
    assert set(none.kl) == set(zero.kl) == {0.0}
    assert max(hot.kl) > 0
    assert max(pushed.kl) > 0


def test_entropy_and_surprisal_are_those_of_the_writing(model: LoadedModel, subject: Subject) -> None:
    """Teacher-forced, the distribution is the one that was sampled from; undosed surprisal is a scored likelihood."""
    rows, written, seen = told(model, subject)
    for each, again in zip(written, seen, strict=True):
        assert again.entropy == pytest.approx(each.entropy, abs=1e-4)
    with dosed(model) as session:
        plain = Row(rows[3].prompt, NONE, rows[3].stream)
        ((likelihood,),) = score(session, [plain], [written[3].tokens], subject)
    assert -math.fsum(seen[3].surprisal) == pytest.approx(likelihood.raw, abs=1e-3)
    assert -math.fsum(seen[0].surprisal) == pytest.approx(math.fsum(written[0].logprob), abs=1e-3)


def test_attention_is_a_share_or_hidden(model: LoadedModel, subject: Subject) -> None:
    for each in told(model, subject)[2]:
        assert (each.attention_mass is None) == (each.attention_entropy is None) == (not subject.shape.attention)
        if each.attention_mass is not None and each.attention_entropy is not None:
            assert sum(each.attention_mass) == pytest.approx(1, abs=1e-5)
            assert len(each.attention_mass) == len(DISTANCES)
            assert 0 <= min(each.attention_entropy) <= max(each.attention_entropy) <= math.log(TOKENS + 20)


def test_the_fused_path_sees_what_the_library_sees(llama: LoadedModel) -> None:
    subject = subject_of(llama)
    slow, fast = told(llama, subject)[2], told(llama, subject, "fused")[2]
    for one, other in zip(slow, fast, strict=True):
        assert one.kl == pytest.approx(other.kl, abs=1e-4)
        assert one.attention_mass == pytest.approx(other.attention_mass, abs=1e-4)
        assert one.spectral_power == pytest.approx(other.spectral_power, abs=1e-4)


def test_looking_changes_nothing_that_is_written_afterwards(llama: LoadedModel) -> None:
    subject = subject_of(llama)
    with dosed(llama) as session:
        rows = rows_of(llama)
        before = generate(session, rows, subject, tokens=TOKENS)
        observe(session, rows, [each.tokens for each in before], subject)
        assert generate(session, rows, subject, tokens=TOKENS) == before


def test_a_row_is_seen_alike_alone_and_among_others(llama: LoadedModel) -> None:
    subject = subject_of(llama)
    with dosed(llama) as session:
        rows = rows_of(llama)
        texts = [each.tokens for each in generate(session, rows, subject, tokens=TOKENS)]
        together = observe(session, rows, texts, subject)
        for row, text, whole in zip(rows, texts, together, strict=True):
            (alone,) = observe(session, [row], [text], subject)
            assert alone.kl == pytest.approx(whole.kl, abs=1e-5)
            assert alone.attention_mass == pytest.approx(whole.attention_mass, abs=1e-5)
        assert observe(session, rows, texts, subject, at_once=1)[2].kl == pytest.approx(together[2].kl, abs=1e-5)


def test_the_undosed_model_may_read_another_prompt(llama: LoadedModel) -> None:
    """What a system text does is a divergence too: the undosed model reads the prompt without it."""
    subject, row = subject_of(llama), rows_of(llama)[0]
    with dosed(llama) as session:
        (same,) = observe(session, [row], [(5, 6, 7)], subject, plain=[row.prompt])
        (other,) = observe(session, [row], [(5, 6, 7)], subject, plain=[row.prompt[:4]])
    assert set(same.kl) == {0.0}
    assert min(other.kl) > 0


def test_texts_that_cannot_be_read_are_refused(llama: LoadedModel) -> None:
    subject, rows = subject_of(llama), rows_of(llama)
    with dosed(llama) as session:
        for texts in ([(1,)], [(1,)] * 3 + [()]):
            with pytest.raises(DataError, match="each row needs one text"):
                observe(session, rows, texts, subject)


@pytest.mark.parametrize(("period", "band"), [(32.0, 0), (8.0, 1), (3.0, 2)])
def test_a_wave_has_its_power_at_its_own_period(period: float, band: int) -> None:
    time = torch.arange(96, dtype=torch.float64)
    phase = torch.linspace(0, 3, 7, dtype=torch.float64)
    power = spectral_power(torch.sin(2 * torch.pi * time[:, None] / period + phase))
    assert power is not None
    assert power[band] > 0.99
    assert sum(power) == pytest.approx(1)


def test_a_spectrum_that_means_nothing_is_missing() -> None:
    assert spectral_power(torch.ones(96, 4)) is None
    assert spectral_power(torch.randn(31, 4, generator=torch.Generator().manual_seed(1))) is None


def test_repetition_is_of_runs_of_four() -> None:
    assert repeats([1, 2, 3]) == (False, False, False)
    assert sum(repeats([1] * 10)) == 6
    assert sum(repeats(list(range(10)))) == 0
