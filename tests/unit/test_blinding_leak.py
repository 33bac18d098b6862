"""The metadata-only guesser: at chance on random codes, and not blind to a leak."""

from __future__ import annotations

import numpy as np
import pytest

from neuromod_core.stats import auc
from neuromod_core.trial.leak import LEVEL, guessed

UNITS, CELLS = 24, 4


def case(seed: int, leak: float) -> tuple[np.ndarray, np.ndarray, list[str]]:
    """Cells of units with two active arms each, whose first feature betrays them by `leak` standard deviations."""
    draw = np.random.default_rng(seed)
    labels = np.concatenate([draw.permutation([0.0, 0.0, 1.0, 1.0]) for _ in range(UNITS)])
    features = draw.normal(size=(UNITS * CELLS, 9))
    features[:, 0] += leak * labels
    features[:, 8] = 40.0  # the number of rows: the same for every cell
    return features, labels, [f"u{number}" for number in range(UNITS) for _ in range(CELLS)]


def leaks(seed: int, leak: float) -> bool:
    features, labels, units = case(seed, leak)
    found = auc(
        guessed(features, labels, units), labels, block=units, alternative="greater", draws=999,
        generator=np.random.default_rng(0),
    )  # fmt: skip
    return found.pvalue < LEVEL


def test_random_codes_are_rarely_called_a_leak_and_a_leak_is_found() -> None:
    assert np.mean([leaks(seed, 0.0) for seed in range(200)]) <= 0.03
    assert np.mean([leaks(seed, 1.5) for seed in range(20)]) == 1.0


def test_a_cell_is_guessed_from_other_units_alone() -> None:
    features, labels, units = case(1, 1.0)
    before = guessed(features, labels, units)
    changed = labels.copy()
    changed[:CELLS] = 1 - changed[:CELLS]
    assert guessed(features, changed, units)[:CELLS] == pytest.approx(before[:CELLS])
    assert not np.allclose(guessed(features, changed, units)[CELLS:], before[CELLS:])


def test_a_feature_without_spread_changes_nothing() -> None:
    features, labels, units = case(2, 0.5)
    assert guessed(features, labels, units) == pytest.approx(guessed(features[:, :8], labels, units))
