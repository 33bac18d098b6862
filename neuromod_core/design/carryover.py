"""Carry-over as a diagnostic: does the arm before explain what the arm now, the period and the unit do not?

Where a reset is exact, nothing can carry over and this F is noise. It is never a pretest that decides how arms are
compared: a two-stage analysis has a type-I error above its level (Freeman 1989; Senn 2022).
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.stats import f as f_distribution

from neuromod_core.kernel.errors import DesignError

FIRST = "(first period)"


@dataclass(frozen=True)
class CarryOver:
    """The nested F of the previous arm; `str()` is one sentence."""

    statistic: float
    df: tuple[int, int]
    pvalue: float
    n: int

    def __str__(self) -> str:
        return f"carry-over: F({self.df[0]}, {self.df[1]}) = {self.statistic:.3f}, p = {self.pvalue:.3f} (n = {self.n})"


def previous(units: Sequence[Hashable], arms: Sequence[Hashable], periods: Sequence[int]) -> tuple[Hashable, ...]:
    """Return, per cell, the arm that its unit received in the period before; `FIRST` where there is none.

    >>> previous(["u", "u"], ["A", "B"], [1, 0])
    ('B', '(first period)')
    """
    before = {(unit, period): arm for unit, arm, period in zip(units, arms, periods, strict=True)}
    return tuple(before.get((unit, period - 1), FIRST) for unit, period in zip(units, periods, strict=True))


def carry_over(
    values: ArrayLike, units: Sequence[Hashable], arms: Sequence[Hashable], *, periods: Sequence[int]
) -> CarryOver:
    """Return the nested F test of the previous arm in  y ~ unit + period + previous + arm.  One entry per cell.

    Formula:  F = ((RSS_0 - RSS_1) / (r_1 - r_0)) / (RSS_1 / (n - r_1)),  RSS_0 of  unit + period + arm,  RSS_1 with the
    previous arm, r the ranks of the two designs. In the first period the previous arm is a level of its own, which the
    period explains.
    Source: Jones & Kenward 2014, Design and Analysis of Cross-Over Trials, 3rd ed., chapter 5.

    Raises:
        DesignError: for columns of unequal length, values that are not finite, or cells too few or too alike to
            estimate carry-over beside unit, period and arm.

    >>> y = [1.0, 2.1, 1.9, 1.2, 0.8, 2.3, 2.2, 1.1, 1.4, 1.5, 2.0, 0.7]
    >>> orders = ["ABC", "BCA", "CAB", "ACB"]
    >>> units = [unit for unit in range(4) for _ in range(3)]
    >>> print(carry_over(y, units, list("".join(orders)), periods=[0, 1, 2] * 4))
    carry-over: F(2, 2) = 1.242, p = 0.446 (n = 12)
    """
    y = np.asarray(values, dtype=np.float64)
    if y.ndim != 1 or len({y.size, len(units), len(arms), len(periods)}) > 1 or not np.isfinite(y).all():
        raise DesignError("Carry-over needs finite values with one unit, arm and period each.")
    base = np.hstack([_dummies(units), _dummies(periods), _dummies(arms)])
    full = np.hstack([base, _dummies(previous(units, arms, periods))])
    (rss_0, rank_0), (rss_1, rank_1) = _fit(base, y), _fit(full, y)
    gained, left = rank_1 - rank_0, y.size - rank_1
    if gained < 1 or left < 1 or rss_1 <= 1e-12 * float(np.square(y - y.mean()).sum()):
        raise DesignError(
            f"Carry-over cannot be estimated beside unit, period and arm: {gained} further degrees of freedom, "
            f"{left} left over, residual sum of squares {rss_1:.3g}."
        )
    statistic = ((rss_0 - rss_1) / gained) / (rss_1 / left)
    return CarryOver(statistic, (gained, left), float(f_distribution.sf(statistic, gained, left)), y.size)


def _dummies(levels: Sequence[Hashable]) -> NDArray[np.float64]:
    """Return indicator columns, (cells, levels)."""
    place = {level: column for column, level in enumerate(dict.fromkeys(levels))}
    columns = np.zeros((len(levels), len(place)))
    columns[np.arange(len(levels)), [place[level] for level in levels]] = 1.0
    return columns


def _fit(design: NDArray[np.float64], y: NDArray[np.float64]) -> tuple[float, int]:
    """Return residual sum of squares and rank of a least-squares fit."""
    solved, _, rank, _ = np.linalg.lstsq(design, y, rcond=None)
    return float(np.square(y - design @ solved).sum()), int(rank)
