from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import pytest

from neuromod_core.design import BalanceAudit, BalanceRow, balance, balanced_levels, crossover
from neuromod_core.kernel.errors import DesignError


@dataclass
class Cells:
    """The columns of a crossover, one entry per cell, open to sabotage."""

    orders: list[list[int]]
    nuisance: dict[str, list[int]] = field(default_factory=dict)

    def audit(self) -> BalanceAudit:
        units = [f"u{number}" for number, order in enumerate(self.orders) for _ in order]
        periods = [period for order in self.orders for period in range(len(order))]
        arms = [arm for order in self.orders for arm in order]
        return balance(units, arms, periods=periods, nuisance=self.nuisance)

    def failing(self) -> set[str]:
        return {row.factor for row in self.audit().failures}


def planned(units: int, arms: int) -> Cells:
    return Cells([list(order) for order in crossover(units, arms, np.random.default_rng(0))])


@pytest.mark.parametrize(("units", "arms"), [(2, 2), (12, 3), (8, 4), (20, 5), (24, 6)])
def test_a_crossover_with_dealt_nuisance_levels_is_balanced(units: int, arms: int) -> None:
    cells = planned(units, arms)
    paraphrase = balanced_levels(units, 3, np.random.default_rng(1))
    cells.nuisance["paraphrase"] = [level for level in paraphrase for _ in range(arms)]
    audit = cells.audit()
    assert audit.ok
    assert str(audit) == f"Balanced: {units} units x {arms} arms, {len(audit.rows)} counts checked."


def test_a_cyclic_latin_square_fails_on_carry_over_alone() -> None:
    cyclic = Cells([[(start + step) % 4 for step in range(4)] for start in range(4)])
    assert cyclic.failing() == {"carry-over"}


def test_two_arms_swapped_in_one_unit_are_found() -> None:
    cells = planned(8, 4)
    cells.orders[3][0], cells.orders[3][1] = cells.orders[3][1], cells.orders[3][0]
    assert cells.failing() == {"period", "carry-over"}


def test_a_sequence_given_to_the_wrong_unit_is_found() -> None:
    cells = planned(8, 4)
    cells.orders[0] = list(cells.orders[1])
    assert "period" in cells.failing()


def test_a_missing_cell_is_found_though_every_unit_lacks_one() -> None:
    cells = planned(4, 4)
    for order in cells.orders:
        order.pop()
    row = cells.audit().rows[0]
    assert row == BalanceRow("unit", "arms of a unit", low=3, high=4, allowed=0)
    assert not row.ok


def test_a_nuisance_factor_that_follows_the_arm_is_found_and_named() -> None:
    cells = planned(8, 4)
    cells.nuisance["slot"] = [arm for order in cells.orders for arm in order]
    audit = cells.audit()
    assert {row.factor for row in audit.failures} == {"slot"}
    assert str(audit) == (
        "Not balanced: 8 units x 4 arms; " + "; ".join(f"slot {s}: counts 0 to 8" for s in cells.orders[0]) + "."
    )


def test_a_nuisance_factor_may_differ_by_one_but_not_by_two() -> None:
    cells = planned(4, 2)
    first_arm = [arm == 0 for order in cells.orders for arm in order]
    cells.nuisance["slot"] = [int(number == first_arm.index(True)) for number in range(8)]
    assert cells.audit().ok
    second = first_arm.index(True, first_arm.index(True) + 1)
    cells.nuisance["slot"][second] = 1
    assert cells.failing() == {"slot"}


def test_levels_of_unequal_size_are_no_confounding() -> None:
    cells = planned(4, 4)
    cells.nuisance["option order"] = [int(number < 4) for number in range(16)]
    assert cells.audit().ok


def test_order_is_read_from_the_periods_not_from_the_position_of_the_rows() -> None:
    orders = crossover(8, 4, np.random.default_rng(0))
    cells = [(unit, arm, period) for unit, order in enumerate(orders) for period, arm in enumerate(order)]
    shuffled = [cells[place] for place in np.random.default_rng(1).permutation(len(cells))]
    units, arms, periods = zip(*shuffled, strict=True)
    assert balance(units, arms, periods=periods).ok


def test_a_row_of_the_audit_becomes_a_row_of_a_table() -> None:
    row = BalanceRow("period", "0", low=2, high=4, allowed=0)
    assert row.as_row() == {
        "factor": "period", "level": "0", "low": 2, "high": 4, "allowed": 0, "spread": 2, "ok": False,
    }  # fmt: skip


@pytest.mark.parametrize(
    ("units", "arms", "periods", "message"),
    [
        (
            "uu",
            "AB",
            [0],
            "An audit needs columns of one length, with at least one cell; given: units 2, arms 2, periods 1.",
        ),
        (
            "",
            "",
            [],
            "An audit needs columns of one length, with at least one cell; given: units 0, arms 0, periods 0.",
        ),
        ("uu", "AA", [0, 1], "Unit 'u' has arm 'A' 2 times; a crossover gives it once."),
        ("uu", "AB", [1, 1], "Unit 'u' has period 1 2 times; a crossover gives it once."),
    ],
)
def test_cells_that_are_no_crossover_are_refused(units: str, arms: str, periods: list[int], message: str) -> None:
    with pytest.raises(DesignError) as caught:
        balance(units, arms, periods=periods)
    assert str(caught.value) == message
