"""What one line of an audit says: a share of simulated studies, its Monte-Carlo error, and where it has to lie.

    size       of a test at the edge of its null hypothesis: .035 to .065 at level .05
    coverage   of an interval: at least .93 at level .95
    at most    family-wise error, composite claims, false discovery rate: the level plus two Monte-Carlo errors, which
               for a number of false claims is the binomial limit that one exceeds at the level 23 times in a thousand
    power      within .03 of the closed form
    strain     size where a test is outside its conditions (an arm sinks into a floor, so that differences are skewed; a
               variance is so small that it is often estimated as zero): .02 to .08, wider than promised, so that what
               these tests lose there is on record
    exact      what must not differ at all: zero
    caught     the audit's own positive control: an analysis that is wrong must stand out

With fewer than 1 000 studies the limits of size, coverage and power lie three Monte-Carlo errors from the promise
instead, where that is wider.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.stats import binom, norm

from neuromod_core.stats import Interval

Array = NDArray[np.float64]
LEVEL = 0.05
SIZE, STRAIN, LEAST_COVERAGE, POWER_BAND, CAUGHT = (0.035, 0.065), (0.02, 0.08), 0.93, 0.03, 0.15
BEYOND = float(norm.sf(2))  # chance to lie two errors above
STRICT = 1_000  # studies from which the limits are taken as they stand


@dataclass(frozen=True, kw_only=True)
class Check:
    """One line of the audit: a value that has to lie between two limits, with its Monte-Carlo error."""

    part: str
    name: str
    value: float
    low: float
    high: float
    n: int
    error: float

    @property
    def passed(self) -> bool:
        """Return whether the value lies within the limits."""
        return self.low <= self.value <= self.high

    def as_row(self) -> dict[str, object]:
        """Return the row of a table."""
        return {
            "part": self.part,
            "name": self.name,
            "value": round(self.value, 5),
            "low": round(self.low, 5),
            "high": round(self.high, 5),
            "n": self.n,
            "error": round(self.error, 5),
            "passed": self.passed,
        }


@dataclass(frozen=True, eq=False)
class Line:
    """A check, and the p-values behind it where it is the size of a test."""

    check: Check
    pvalues: Array | None = None


def _error(share: float, n: int) -> float:
    return math.sqrt(share * (1 - share) / n)


def sized(name: str, pvalues: Sequence[float] | Array) -> Line:
    """Return the share of p-values at or below the level, which has to be close to it."""
    return _sized("size", name, pvalues, SIZE)


def strained(name: str, pvalues: Sequence[float] | Array) -> Line:
    """Return the size of a test outside the conditions that it was made for."""
    return _sized("strain", name, pvalues, STRAIN)


def _sized(part: str, name: str, pvalues: Sequence[float] | Array, limits: tuple[float, float]) -> Line:
    p = np.asarray(pvalues, dtype=np.float64)
    value, slack = float((p <= LEVEL).mean()), 3 * _error(LEVEL, p.size)
    low, high = limits if p.size >= STRICT else (min(limits[0], LEVEL - slack), max(limits[1], LEVEL + slack))
    error = _error(value, p.size)
    return Line(Check(part=part, name=name, value=value, low=max(low, 0.0), high=high, n=p.size, error=error), p)


def covered(name: str, intervals: Sequence[Interval], truth: float) -> Line:
    """Return the share of intervals that hold the truth."""
    n = len(intervals)
    value = sum(interval.low <= truth <= interval.high for interval in intervals) / n
    low = LEAST_COVERAGE if n >= STRICT else min(LEAST_COVERAGE, 1 - LEVEL - 3 * _error(LEVEL, n))
    return Line(Check(part="coverage", name=name, value=value, low=low, high=1.0, n=n, error=_error(value, n)))


def claimed(name: str, claims: Sequence[bool] | NDArray[np.bool_]) -> Line:
    """Return the share of studies with a false claim, which may not exceed the level but by chance."""
    each = np.asarray(claims, dtype=np.float64)
    n, value = each.size, float(each.mean())
    high = float(binom.isf(BEYOND, n, LEVEL)) / n
    return Line(Check(part="at most", name=name, value=value, low=0.0, high=high, n=n, error=_error(value, n)))


def at_most(name: str, losses: Sequence[float] | Array) -> Line:
    """Return the mean of losses between 0 and 1, one a study, which may not exceed the level but by chance."""
    each = np.asarray(losses, dtype=np.float64)
    value, error = float(each.mean()), float(each.std()) / math.sqrt(each.size)
    high = LEVEL + 2 * error
    return Line(Check(part="at most", name=name, value=value, low=0.0, high=high, n=each.size, error=error))


def powered(name: str, pvalues: Sequence[float] | Array, promised: float) -> Line:
    """Return the share of p-values at or below the level, which has to be the power that was promised."""
    p = np.asarray(pvalues, dtype=np.float64)
    value, band = float((p <= LEVEL).mean()), POWER_BAND
    if p.size < STRICT:
        band = max(band, 3 * _error(promised, p.size))
    low, high, error = max(promised - band, 0.0), min(promised + band, 1.0), _error(value, p.size)
    return Line(Check(part="power", name=name, value=value, low=low, high=high, n=p.size, error=error))


def caught(name: str, pvalues: Sequence[float] | Array) -> Line:
    """Return the share of false claims of an analysis that is known to be wrong: it has to be seen to be."""
    p = np.asarray(pvalues, dtype=np.float64)
    value = float((p <= LEVEL).mean())
    return Line(
        Check(part="caught", name=name, value=value, low=CAUGHT, high=1.0, n=p.size, error=_error(value, p.size))
    )
