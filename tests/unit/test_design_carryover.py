from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import f as f_distribution

from neuromod_core.design import carry_over, crossover
from neuromod_core.design.carryover import FIRST, previous
from neuromod_core.kernel.errors import DesignError
from tests.oracles.design_carryover import nested_f

Columns = tuple[list[int], list[int], list[int]]


def columns(units: int, arms: int, seed: int = 0) -> Columns:
    orders = crossover(units, arms, np.random.default_rng(seed))
    cells = [(unit, arm, period) for unit, order in enumerate(orders) for period, arm in enumerate(order)]
    return tuple(map(list, zip(*cells, strict=True)))  # type: ignore[return-value]


@pytest.mark.parametrize(("units", "arms"), [(12, 6), (12, 3), (8, 4)])
def test_the_nested_f_agrees_with_a_slow_oracle(units: int, arms: int) -> None:
    unit, arm, period = columns(units, arms)
    y = np.random.default_rng(units).normal(size=len(unit))
    found = carry_over(y, unit, arm, periods=period)
    before = list(previous(unit, arm, period))
    statistic, gained, left = nested_f(y, [unit, period, arm], before)
    assert found.df == (gained, left)
    assert found.statistic == pytest.approx(statistic, rel=1e-9)
    assert found.pvalue == pytest.approx(f_distribution.sf(statistic, gained, left), rel=1e-9)


def test_six_arms_on_twelve_units_have_five_and_forty_five_degrees_of_freedom() -> None:
    unit, arm, period = columns(12, 6)
    assert carry_over(np.random.default_rng(0).normal(size=72), unit, arm, periods=period).df == (5, 45)


def test_a_planted_carry_over_is_seen_and_effects_of_arm_period_and_unit_are_not() -> None:
    unit, arm, period = columns(24, 4)
    noise = 0.1 * np.random.default_rng(1).normal(size=len(unit))
    rest = noise + 3.0 * np.array(unit) + 2.0 * np.array(arm) - np.array(period)
    before = previous(unit, arm, period)
    leak = np.array([0.0 if one == FIRST else float(str(one)) for one in before])
    assert carry_over(rest + leak, unit, arm, periods=period).pvalue < 1e-6
    assert carry_over(rest, unit, arm, periods=period).pvalue == pytest.approx(
        carry_over(noise, unit, arm, periods=period).pvalue, rel=1e-6
    )


def test_p_is_uniform_where_nothing_carries_over() -> None:
    unit, arm, period = columns(8, 4)
    draw = np.random.default_rng(2)
    found = [carry_over(draw.normal(size=len(unit)), unit, arm, periods=period).pvalue for _ in range(400)]
    assert 0.02 < np.mean(np.array(found) < 0.05) < 0.09


def test_the_order_of_cells_does_not_matter() -> None:
    unit, arm, period = columns(8, 4)
    y = np.random.default_rng(3).normal(size=len(unit))
    turn = np.random.default_rng(4).permutation(len(unit))
    mixed = [[column[at] for at in turn] for column in (unit, arm, period)]
    assert carry_over(y[turn], mixed[0], mixed[1], periods=mixed[2]).statistic == pytest.approx(
        carry_over(y, unit, arm, periods=period).statistic
    )


def test_what_cannot_be_estimated_is_refused() -> None:
    unit, arm, period = columns(2, 2)
    with pytest.raises(DesignError, match="cannot be estimated beside unit, period and arm"):
        carry_over([1.0, 2.0, 3.0, 4.0], unit, arm, periods=period)
    with pytest.raises(DesignError, match="finite values"):
        carry_over([1.0, float("nan"), 3.0, 4.0], unit, arm, periods=period)
    with pytest.raises(DesignError, match="finite values"):
        carry_over([1.0], unit, arm, periods=period)
    flat = columns(8, 4)
    with pytest.raises(DesignError, match="residual sum of squares"):
        carry_over(np.array(flat[0], dtype=float), flat[0], flat[1], periods=flat[2])
