"""Nuisance factors of units: balanced alone in any beginning, in pairs in any eighteen in a row."""

from __future__ import annotations

from collections import Counter
from itertools import combinations

import numpy as np
import pytest

from neuromod_core.design.factors import LEVELS, RUN, orthogonal_levels
from neuromod_core.kernel.errors import DesignError


@pytest.mark.parametrize("seed", range(5))
def test_levels_are_balanced_in_any_beginning(seed: int) -> None:
    dealt = orthogonal_levels(60, np.random.default_rng(seed))
    for count in range(1, 61):
        for factor, levels in enumerate(LEVELS):
            seen = Counter(unit[factor] for unit in dealt[:count])
            counts = [seen[level] for level in range(levels)]
            assert max(counts) - min(counts) <= 1


def test_every_two_factors_are_orthogonal_in_any_eighteen_in_a_row() -> None:
    dealt = orthogonal_levels(54, np.random.default_rng(1))
    for start in range(54 - RUN):
        part = dealt[start : start + RUN]
        for one, other in combinations(range(len(LEVELS)), 2):
            pairs = Counter((unit[one], unit[other]) for unit in part)
            assert set(pairs.values()) == {RUN // (LEVELS[one] * LEVELS[other])}
            assert len(pairs) == LEVELS[one] * LEVELS[other]


def test_names_of_levels_are_dealt_at_random() -> None:
    assert len({orthogonal_levels(1, np.random.default_rng(seed)) for seed in range(40)}) > 10


def test_no_unit_is_refused() -> None:
    with pytest.raises(DesignError, match="0 units were asked for"):
        orthogonal_levels(0, np.random.default_rng(0))
