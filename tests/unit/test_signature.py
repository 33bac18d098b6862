"""Directions of effect in people, beside a study; and several studies beside each other."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from neuromod_core.kernel.errors import ConfigError, DataError
from neuromod_core.trial import simulate
from neuromod_core.trial.library import load_library
from neuromod_core.trial.plan import Plan
from neuromod_core.trial.signature import Prediction, load, match, pooled
from tests.conftest import ROOT

SHIPPED = ROOT / "datasets" / "signatures" / "directions.yaml"
PREDICTIONS = (
    Prediction("a", "first", 1, "rises", "nobody"),
    Prediction("c", "third", -1, "falls", "nobody"),
    Prediction("b", "second", 1, "above a", "nobody", "a"),
    Prediction("unknown", "first", 1, "no such arm", "nobody"),
)


def study(effect: float = 1.5) -> tuple[Plan, pd.DataFrame]:
    drawn = simulate.study(24, minimum=0.3, draws=99, resamples=99)
    effects = np.zeros((6, 3))
    effects[[3, 4, 5], [0, 1, 2]] = np.array([1, 1, -1]) * effect
    return drawn.plan, drawn.scores(effects, effects, np.random.default_rng(1))


def test_what_ships_names_packs_scales_and_sources_that_exist() -> None:
    library, found = load_library(ROOT), load(SHIPPED)
    assert len(found) > 8
    for one in found:
        assert {one.arm, one.over or one.arm} <= set(library.packs)
        assert library.scale(one.scale)
        assert any(character.isdigit() for character in one.source)


def test_predictions_of_real_effects_come_true_beyond_shams_and_of_none_half_the_time() -> None:
    plan, scores = study()
    found = match(plan, scores, PREDICTIONS)
    assert (found.test.hits, found.test.n, found.test.p_sham) == (3, 3, pytest.approx(1 / 7, abs=0.3))
    assert found.effects[0] == pytest.approx(1.5 / 1.2, abs=0.5)
    assert [row["came true"] for row in found.as_rows()] == ["yes", "yes", "yes", "3 of 3"]
    turned = tuple(dataclasses.replace(one, sign=-one.sign) for one in PREDICTIONS)
    assert match(plan, scores, turned).test.hits == 0


def test_a_study_without_the_arms_and_a_file_that_is_none_are_refused(tmp_path: Path) -> None:
    plan, scores = study()
    with pytest.raises(DataError, match="arms and scales of 0 of 1 predictions; 2 are needed"):
        match(plan, scores, PREDICTIONS[3:])
    file = tmp_path / "predictions.yaml"
    for text, message in (
        ("- {arm: a}", "0.scale: "),
        ("- {arm: a, scale: s, sign: 2, finding: f, source: s}", "is 2;"),
    ):
        file.write_text(text, "utf-8")
        with pytest.raises(ConfigError, match=message):
            load(file)


def test_models_are_pooled_from_six_on() -> None:
    estimates = [0.3, 0.5, 0.1, 0.8, 0.4, 0.6]
    assert pooled(estimates[:5], [0.1] * 5) is None
    found = pooled(estimates, [0.1] * 6)
    assert found is not None
    assert found.estimate == pytest.approx(np.mean(estimates))
