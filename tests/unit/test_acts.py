"""What an effect is said to have done is what it did: nothing at dose zero, and on the right side otherwise."""

from __future__ import annotations

import math

import pytest

from neuromod_core.calibrate.acts import acts
from neuromod_core.effects import EFFECTS
from neuromod_core.engine import dosed
from neuromod_core.models import LoadedModel
from neuromod_core.report.effects import entries, examples, page
from tests.conftest import subject_of

TEXTS = [[(7 * i + 3 * j) % 200 + 20 for j in range(24)] for i in range(2)]


def made(*asked: tuple[str, float]) -> list[tuple[str, object, float]]:
    return [(name, EFFECTS[name](), dose) for name, dose in asked]


def test_nothing_is_done_at_dose_zero_and_something_at_another(llama: LoadedModel) -> None:
    asked = made(("temperature", 0.0), ("temperature", 1.0), ("exponential_decay_kv", 1.0), ("lexical_jitter", 1.0))
    with dosed(llama) as session:
        zero, warm, faded, misread = acts(session, asked, TEXTS, subject_of(llama))
    assert (zero.kl, zero.entropy, zero.moved) == (pytest.approx(0, abs=1e-6), pytest.approx(0, abs=1e-5), 0.0)
    assert warm.kl > 0.01
    assert warm.entropy > 0.01
    assert warm.moved == 0.0
    assert faded.kl > 0
    assert faded.moved is not None
    assert faded.moved > 0.01
    assert misread.kl > 0


def test_a_cut_tail_leaves_a_finite_divergence(llama: LoadedModel) -> None:
    with dosed(llama) as session:
        (cut,) = acts(session, made(("top_k", 1.0)), TEXTS, subject_of(llama))
    assert math.isfinite(cut.kl)
    assert cut.entropy < 0


def test_the_page_counts_the_register_and_shows_what_was_measured(llama: LoadedModel) -> None:
    asked = [one for one in examples({}) if one[0] in {"temperature", "odds_decay_kv"}]
    with dosed(llama) as session:
        found = acts(session, asked, TEXTS, subject_of(llama))
    text = page("a tiny model", asked, found)
    assert all(f"`{one.effect}`" in text for one in entries() if one.family != "visual")
    assert "| `temperature` | 0.25 / 0.5 / 1 |" in text
    assert all(one.formula and one.source for one in entries())
