"""Balance: dealing nuisance levels evenly, and auditing that a plan, or what was executed, is balanced.

The audit sees one entry per cell and does not know whether the cells were planned or executed.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Hashable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import pairwise
from types import MappingProxyType

import numpy as np

from neuromod_core.kernel.errors import DesignError

_NO_NUISANCE: Mapping[str, Sequence[Hashable]] = MappingProxyType({})
_NO_LIMITS: Mapping[str, int] = MappingProxyType({})


@dataclass(frozen=True)
class BalanceRow:
    """How evenly one level of a factor fell on the arms: the lowest and highest count, and the spread allowed."""

    factor: str
    level: str
    low: int
    high: int
    allowed: int

    @property
    def spread(self) -> int:
        """Highest minus lowest count over arms."""
        return self.high - self.low

    @property
    def ok(self) -> bool:
        """Whether the spread is allowed."""
        return self.spread <= self.allowed

    def as_row(self) -> dict[str, str | int | bool]:
        """Return the row of an audit table."""
        return {**asdict(self), "spread": self.spread, "ok": self.ok}


@dataclass(frozen=True)
class BalanceAudit:
    """The outcome of an audit; `str()` is one sentence, which names what is out of balance."""

    n_units: int
    n_arms: int
    rows: tuple[BalanceRow, ...]

    @property
    def failures(self) -> tuple[BalanceRow, ...]:
        """The rows that are out of balance."""
        return tuple(row for row in self.rows if not row.ok)

    @property
    def ok(self) -> bool:
        """Whether every row is in balance."""
        return not self.failures

    def __str__(self) -> str:
        size = f"{self.n_units} units x {self.n_arms} arms"
        if self.ok:
            return f"Balanced: {size}, {len(self.rows)} counts checked."
        faults = "; ".join(f"{row.factor} {row.level}: counts {row.low} to {row.high}" for row in self.failures)
        return f"Not balanced: {size}; {faults}."


def balance(
    units: Sequence[Hashable],
    arms: Sequence[Hashable],
    *,
    periods: Sequence[int],
    nuisance: Mapping[str, Sequence[Hashable]] = _NO_NUISANCE,
    allowed: Mapping[str, int] = _NO_LIMITS,
) -> BalanceAudit:
    """Audit the balance of a crossover. All columns have one entry per cell (unit x arm).

    Checked: each unit has every arm (factor "unit"); each period holds every arm equally often ("period"); each arm is
    followed by every other arm equally often ("carry-over", first order, neighbours within a unit); and each level of
    a nuisance factor falls on the arms equally often up to a spread (max - min) of one.
    allowed: the spread of factors to which another limit applies, such as "carry-over" of a cyclic order.
    Source: Williams 1949; Jones & Kenward 2014, Design and Analysis of Cross-Over Trials, 3rd ed.

    Raises:
        DesignError: for columns of unequal length, no cells, a unit with an arm twice or with two cells in one period.

    >>> print(balance(["u", "u", "v", "v"], ["A", "B", "B", "A"], periods=[0, 1, 0, 1]))
    Balanced: 2 units x 2 arms, 5 counts checked.
    >>> print(balance(["u", "u", "v", "v"], ["A", "B", "A", "B"], periods=[0, 1, 0, 1]).failures[0])
    BalanceRow(factor='period', level='0', low=0, high=2, allowed=0)
    """
    _check_cells({"units": units, "arms": arms, "periods": periods, **nuisance})
    _check_distinct("arm", units, arms)
    _check_distinct("period", units, periods)
    return BalanceAudit(
        n_units=len(set(units)),
        n_arms=len(set(arms)),
        rows=(
            _completeness(units, arms),
            *_cross_tab("period", periods, arms, allowed=allowed.get("period", 0)),
            *_carry_over(units, arms, periods, allowed.get("carry-over", 0)),
            *(
                row
                for name, levels in nuisance.items()
                for row in _cross_tab(name, levels, arms, allowed=allowed.get(name, 1))
            ),
        ),
    )


def balanced_levels(n_units: int, n_levels: int, generator: np.random.Generator) -> tuple[int, ...]:
    """Return a level 0 .. n_levels - 1 for each unit, in permuted blocks: counts differ by at most one at any point.

    For two factors that must also be balanced jointly, deal `n_levels = a * b` and take `divmod(level, b)`.

    Raises:
        DesignError: for fewer than one unit or level.

    >>> Counter(balanced_levels(7, 3, np.random.default_rng(0))).most_common()[0][1]
    3
    """
    if n_units < 1 or n_levels < 1:
        raise DesignError(f"{n_levels} level(s) cannot be dealt to {n_units} unit(s); both must be at least 1.")
    n_blocks = -(-n_units // n_levels)
    dealt = np.concatenate([generator.permutation(n_levels) for _ in range(n_blocks)])
    return tuple(dealt[:n_units].tolist())


def dealt_in_runs(runs: Sequence[Hashable], n_levels: int, generator: np.random.Generator) -> tuple[int, ...]:
    """Return a level for each unit in permuted blocks, such that every run of units is balanced too.

    runs: (units,), the run of each unit, such as its place in a batch. Units are dealt run by run; a block holds every
    level once, and within it the levels that a run has least of come first. Counts then differ by at most one within
    each run, and overall.

    Raises:
        DesignError: for no units or no levels.

    >>> dealt = dealt_in_runs([0, 1, 0, 1, 0, 1], 3, np.random.default_rng(0))
    >>> sorted(dealt[::2]), sorted(dealt[1::2])
    ([0, 1, 2], [0, 1, 2])
    """
    if not runs or n_levels < 1:
        raise DesignError(f"{n_levels} level(s) cannot be dealt to {len(runs)} unit(s); both must be at least 1.")
    levels, block = [0] * len(runs), list[int]()
    counts: Counter[tuple[Hashable, int]] = Counter()
    for unit in sorted(range(len(runs)), key=lambda at: list(dict.fromkeys(runs)).index(runs[at])):
        block = block or generator.permutation(n_levels).tolist()
        level = min(block, key=lambda candidate: counts[runs[unit], candidate])
        block.remove(level)
        counts[runs[unit], level] += 1
        levels[unit] = level
    return tuple(levels)


def _check_cells(columns: Mapping[str, Sequence[Hashable]]) -> None:
    """Raise unless the columns have one length, and at least one cell."""
    lengths = {name: len(column) for name, column in columns.items()}
    if len(set(lengths.values())) > 1 or not all(lengths.values()):
        given = ", ".join(f"{name} {length}" for name, length in lengths.items())
        raise DesignError(f"An audit needs columns of one length, with at least one cell; given: {given}.")


def _check_distinct(what: str, units: Sequence[Hashable], values: Sequence[Hashable]) -> None:
    """Raise when a unit has the same arm, or the same period, twice."""
    (unit, value), times = Counter(zip(units, values, strict=True)).most_common(1)[0]
    if times > 1:
        raise DesignError(f"Unit {unit!r} has {what} {value!r} {times} times; a crossover gives it once.")


def _completeness(units: Sequence[Hashable], arms: Sequence[Hashable]) -> BalanceRow:
    """Return the row that says how many arms the poorest unit has, of all that there are."""
    return BalanceRow("unit", "arms of a unit", min(Counter(units).values()), len(set(arms)), allowed=0)


def _cross_tab(
    factor: str, levels: Sequence[Hashable], arms: Sequence[Hashable], *, allowed: int
) -> Iterable[BalanceRow]:
    """Yield one row per level of `factor`: its counts over all arms."""
    counts = Counter(zip(levels, arms, strict=True))
    for level in dict.fromkeys(levels):
        per_arm = [counts[level, arm] for arm in set(arms)]
        yield BalanceRow(factor, str(level), min(per_arm), max(per_arm), allowed)


def _carry_over(
    units: Sequence[Hashable], arms: Sequence[Hashable], periods: Sequence[int], allowed: int
) -> Iterable[BalanceRow]:
    """Yield one row per arm: how often each other arm is its next neighbour within a unit."""
    order: defaultdict[Hashable, list[Hashable]] = defaultdict(list)
    for _, unit, arm in sorted(zip(periods, units, arms, strict=True), key=lambda cell: cell[0]):
        order[unit].append(arm)
    counts = Counter(pair for sequence in order.values() for pair in pairwise(sequence))
    for before in dict.fromkeys(arms):
        after = [counts[before, arm] for arm in set(arms) - {before}]
        if after:
            yield BalanceRow("carry-over", f"after {before}", min(after), max(after), allowed)
