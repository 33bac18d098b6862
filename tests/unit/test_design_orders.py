"""Orders beyond one Williams square: the cyclic option, sets for many arms, sequences balanced over batch slots."""

from __future__ import annotations

from collections import Counter
from itertools import pairwise

import numpy as np
import pytest

from neuromod_core.design import balance, crossover, cyclic, dealt_in_runs, sequences, sets, square, williams
from neuromod_core.kernel.errors import DesignError, UnknownName


@pytest.mark.parametrize("t", range(2, 13))
def test_a_cyclic_square_balances_periods_and_confounds_neighbours(t: int) -> None:
    rows = cyclic(t)
    assert all(sorted(column) == list(range(t)) for column in zip(*rows, strict=True))
    assert set(Counter(pair for row in rows for pair in pairwise(row))) == {(a, (a + 1) % t) for a in range(t)}


@pytest.mark.parametrize("t", range(2, 13))
def test_a_crossover_of_either_order_is_audited_as_its_name_promises(t: int) -> None:
    for name, size in (("williams", len(williams(t))), ("cyclic", t)):
        orders = crossover(size, t, np.random.default_rng(t), order=name)  # type: ignore[arg-type]
        cells = [(unit, arm, period) for unit, order in enumerate(orders) for period, arm in enumerate(order)]
        units, arms, periods = zip(*cells, strict=True)
        failing = {row.factor for row in balance(units, arms, periods=periods).failures}
        assert failing == ({"carry-over"} if name == "cyclic" and t > 2 else set())
        assert balance(units, arms, periods=periods, allowed={"carry-over": size}).ok


@pytest.mark.parametrize("arms", [13, 15, 20, 31])
@pytest.mark.parametrize("shared", [(0,), (0, 1, 2)])
def test_beyond_twelve_arms_units_receive_sets_that_share_the_placebo(arms: int, shared: tuple[int, ...]) -> None:
    parts = sets(arms, shared)
    assert max(map(len, parts)) <= 8
    assert max(map(len, parts)) - min(map(len, parts)) <= 1
    counts = Counter(arm for part in parts for arm in part)
    assert counts == {arm: len(parts) if arm in shared else 1 for arm in range(arms)}
    rows = sequences(arms, shared=shared)
    orders = crossover(2 * len(rows), arms, np.random.default_rng(arms), shared=shared)
    assert all(set(shared) <= set(order) for order in orders)
    for group in {frozenset(order) for order in orders}:
        mine = [order for order in orders if frozenset(order) == group]
        cells = [(unit, arm, period) for unit, order in enumerate(mine) for period, arm in enumerate(order)]
        units, given, periods = zip(*cells, strict=True)
        assert balance(units, given, periods=periods).ok


def test_which_arm_is_in_which_set_is_random_and_shared_arms_stay_shared() -> None:
    drawn = [crossover(16, 15, np.random.default_rng(seed)) for seed in range(12)]
    partners = {frozenset(next(order for order in orders if 1 in order)) for orders in drawn}
    assert len(partners) > 6
    assert all(0 in order for orders in drawn for order in orders)


@pytest.mark.parametrize(("units", "arms", "per"), [(24, 8, 6), (24, 12, 2), (8, 4, 4), (24, 6, 3), (40, 8, 5)])
def test_with_runs_every_arm_takes_every_batch_slot_equally_often(units: int, arms: int, per: int) -> None:
    orders = crossover(units, arms, np.random.default_rng(0), runs=[unit % per for unit in range(units)])
    slots = Counter((period, unit % per, arm) for unit, order in enumerate(orders) for period, arm in enumerate(order))
    for period in range(arms):
        for place in range(per):
            counts = [slots[period, place, arm] for arm in range(arms)]
            assert max(counts) - min(counts) <= 1
    assert len(set(Counter(orders).values())) == 1


@pytest.mark.parametrize("levels", [2, 3, 7])
@pytest.mark.parametrize("per", [1, 2, 5, 6])
def test_runs_are_balanced_within_and_overall(levels: int, per: int) -> None:
    runs = [unit % per for unit in range(42)]
    dealt = dealt_in_runs(runs, levels, np.random.default_rng(per))
    for run in range(per):
        counts = Counter(level for level, mine in zip(dealt, runs, strict=True) if mine == run)
        assert max(counts.values()) - min(counts[level] for level in range(levels)) <= 1
    total = Counter(dealt)
    assert max(total.values()) - min(total.values()) <= 1


def test_dealing_in_runs_is_random() -> None:
    runs = [unit % 3 for unit in range(12)]
    assert len({dealt_in_runs(runs, 4, np.random.default_rng(seed)) for seed in range(20)}) > 15


def test_bad_orders_and_sets_are_refused() -> None:
    with pytest.raises(UnknownName, match="No order is called 'latin'"):
        square(4, "latin")  # type: ignore[arg-type]
    with pytest.raises(DesignError, match="8 arms shared by all sets; sets of 8 allow 1 to 7"):
        sets(20, tuple(range(8)))
    with pytest.raises(DesignError, match="no order to balance"):
        cyclic(1)
    with pytest.raises(DesignError, match=r"0 level\(s\) cannot be dealt to 2 unit\(s\)"):
        dealt_in_runs([0, 1], 0, np.random.default_rng(0))
