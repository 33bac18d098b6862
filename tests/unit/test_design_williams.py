from __future__ import annotations

from collections import Counter
from itertools import pairwise

import numpy as np
import pytest

from neuromod_core import design
from neuromod_core.design import assign_sequences, balanced_levels, crossover, sequence_numbers, williams
from neuromod_core.kernel.errors import DesignError


def test_the_public_names_are_sorted_and_exist() -> None:
    assert design.__all__ == sorted(design.__all__)
    assert all(hasattr(design, name) for name in design.__all__)


@pytest.mark.parametrize("t", range(2, 13))
def test_a_williams_design_balances_period_and_first_order_carry_over(t: int) -> None:
    square = williams(t)
    times = 1 if t % 2 == 0 else 2
    assert len(square) == times * t
    assert all(sorted(row) == list(range(t)) for row in square)
    assert all(Counter(column) == dict.fromkeys(range(t), times) for column in zip(*square, strict=True))
    pairs = Counter(pair for row in square for pair in pairwise(row))
    assert pairs == {(a, b): times for a in range(t) for b in range(t) if a != b}


def test_the_square_of_four_is_the_published_one() -> None:
    assert williams(4) == ((0, 1, 3, 2), (1, 2, 0, 3), (2, 3, 1, 0), (3, 0, 2, 1))


@pytest.mark.parametrize("t", [2, 3, 6, 7])
def test_a_randomised_crossover_is_still_a_williams_design_in_every_block(t: int) -> None:
    size = len(williams(t))
    orders = crossover(3 * size, t, np.random.default_rng(t))
    for start in range(0, 3 * size, size):
        block = orders[start : start + size]
        assert set(block) == set(orders)
        pairs = Counter(pair for order in block for pair in pairwise(order))
        assert len(pairs) == t * (t - 1)
        assert len(set(pairs.values())) == 1


def test_randomisation_reaches_every_first_arm_and_every_neighbour() -> None:
    drawn = [crossover(4, 4, np.random.default_rng(seed))[0] for seed in range(200)]
    assert {order[0] for order in drawn} == set(range(4))
    assert len({order[:2] for order in drawn}) == 12


def test_the_same_stream_gives_the_same_crossover() -> None:
    assert crossover(12, 6, np.random.default_rng(5)) == crossover(12, 6, np.random.default_rng(5))


def test_sequences_are_dealt_in_permuted_blocks_and_not_always_in_one_order() -> None:
    dealt = assign_sequences(60, 6, np.random.default_rng(0))
    blocks = [dealt[start : start + 6] for start in range(0, 60, 6)]
    assert all(sorted(block) == list(range(6)) for block in blocks)
    assert len(set(blocks)) > 1


def test_a_sequence_number_stands_for_one_order() -> None:
    orders = crossover(30, 5, np.random.default_rng(0))
    numbers = sequence_numbers(orders)
    assert len(set(numbers)) == len(set(zip(numbers, orders, strict=True))) == 10
    assert sorted(set(numbers)) == list(range(10))


@pytest.mark.parametrize(
    ("units", "arms", "message"),
    [
        (
            48,
            5,
            "48 units cannot be balanced over 5 arms: 10 sequences need a multiple of 10 units; "
            "the nearest allowed: 40, 50.",
        ),
        (
            3,
            4,
            "3 units cannot be balanced over 4 arms: 4 sequences need a multiple of 4 units; the nearest allowed: 4.",
        ),
        (
            0,
            2,
            "0 units cannot be balanced over 2 arms: 2 sequences need a multiple of 2 units; the nearest allowed: 2.",
        ),
        (8, 1, "A crossover of 1 arm(s) has no order to balance; at least 2 arms are needed."),
    ],
)
def test_an_impossible_crossover_says_what_is_possible(units: int, arms: int, message: str) -> None:
    with pytest.raises(DesignError) as caught:
        crossover(units, arms, np.random.default_rng(0))
    assert str(caught.value) == message


@pytest.mark.parametrize(("units", "levels"), [(7, 3), (12, 4), (2, 5), (9, 1)])
def test_dealt_levels_are_balanced_at_every_point(units: int, levels: int) -> None:
    dealt = balanced_levels(units, levels, np.random.default_rng(0))
    assert len(dealt) == units
    for stop in range(1, units + 1):
        counts = Counter(dealt[:stop])
        assert max(counts.values()) - min(counts[level] for level in range(levels)) <= 1


def test_the_level_left_over_is_drawn_by_lot() -> None:
    assert {balanced_levels(4, 3, np.random.default_rng(seed))[3] for seed in range(50)} == {0, 1, 2}


@pytest.mark.parametrize(("units", "levels"), [(0, 2), (2, 0)])
def test_levels_cannot_be_dealt_from_or_to_nothing(units: int, levels: int) -> None:
    with pytest.raises(DesignError, match=rf"{levels} level\(s\) cannot be dealt to {units} unit\(s\)"):
        balanced_levels(units, levels, np.random.default_rng(0))
