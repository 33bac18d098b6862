"""Paired proportions: the same units answer yes or no twice, and only those that change sides tell the arms apart."""

from __future__ import annotations

import math
import sys
from typing import Literal, NamedTuple, TypeAlias

import numpy as np
import numpy.typing as npt
from scipy.optimize import bisect
from scipy.special import bdtr, ndtr, ndtri
from scipy.stats import binom

from neuromod_core.kernel.errors import DataError, OutOfRange
from neuromod_core.kernel.register import unknown
from neuromod_core.stats.result import Interval, Named
from neuromod_core.stats.sample import open_unit, pair

Exactness: TypeAlias = Literal["exact", "mid-p"]


class _Table(NamedTuple):
    """How many of n units were positive in x only (b) and in y only (c)."""

    b: int
    c: int
    n: int

    @property
    def difference(self) -> float:
        """Return p_x - p_y."""
        return (self.b - self.c) / self.n

    def score(self, delta: float) -> float:
        """Return Tango's z of the hypothesis p_x - p_y = delta, with the other probabilities at their likeliest."""
        b, c, n = self
        away = b - c - n * delta
        linear, constant = -b - c + (2 * n - b + c) * delta, -c * delta * (1 - delta)
        root = math.sqrt(max(linear * linear - 8 * n * constant, 0.0))
        restricted = -2 * constant / (root + linear) if linear > 0 else (root - linear) / (4 * n)  # no cancellation
        variance = n * (2 * restricted + delta * (1 - delta))
        if abs(away) <= 1e-12 * n:
            return 0.0
        return away / math.sqrt(variance) if variance > 0 else math.copysign(math.inf, away)


def tango(x: npt.ArrayLike, y: npt.ArrayLike, *, level: float = 0.95) -> Named:
    """Return the difference of two paired proportions with Tango's score interval: x, y of (units,), each 0 or 1.

    Formula:  p_x - p_y = (b - c) / n,  b units positive in x only and c in y only. The limits are the delta at which
        z(delta) = (b - c - n delta) / sqrt(n (2 q + delta (1 - delta)))
    is z_(1-a/2) and -z_(1-a/2), q being the likeliest share of "y only" given delta. p is two-sided, at delta = 0,
    where z is McNemar's. With b = c = 0 the interval is  +- z^2 / (n + z^2), which no Wald interval can give.
    Source: Tango 1998, Statistics in Medicine 17:891.

    Raises:
        DataError: for unequal lengths, fewer than two units, or a value other than 0 and 1.
        OutOfRange: for a level outside (0, 1).

    >>> print(tango([1] * 8 + [0] * 12, [1] * 2 + [0] * 18))
    p_x - p_y = 0.30, 95% CI [0.091, 0.52], z = 2.45, p = .014 (Tango score test, n = 20)
    """
    table = _table(x, y)
    z = table.score(0.0)
    return _named(
        table,
        ci=tango_interval(*table, level=level),
        statistic=("z", z),
        pvalue=max(2 * float(ndtr(-abs(z))), sys.float_info.min),
        method="Tango score test",
    )


def tango_interval(b: int, c: int, n: int, *, level: float = 0.95) -> Interval:
    """Return Tango's interval of (b - c) / n for b units positive in x only and c in y only, out of n.

    Source: Tango 1998, Statistics in Medicine 17:891. By bisection to 1e-15.

    Raises:
        OutOfRange: for counts that are negative or exceed n, or a level outside (0, 1).

    >>> print(tango_interval(0, 0, 200))
    95% CI [-0.019, 0.019]
    """
    if not (b >= 0 and c >= 0 and 1 <= n >= b + c):
        raise OutOfRange(f"{b} and {c} of {n} units changed sides; counts >= 0 that add up to at most n are needed.")
    table, z = _Table(b, c, n), float(ndtri((1 + open_unit(level, "The confidence level")) / 2))
    low = -1.0 if c == n else bisect(lambda delta: table.score(delta) - z, -1.0, table.difference, xtol=1e-15)
    high = 1.0 if b == n else bisect(lambda delta: table.score(delta) + z, table.difference, 1.0, xtol=1e-15)
    return Interval(float(low), float(high), level)


def noninferiority_proportions(x: npt.ArrayLike, y: npt.ArrayLike, *, margin: float, alpha: float = 0.025) -> Named:
    """Return the test that an unwanted outcome is less than `margin` more frequent in x than in y: (units,), 0 or 1.

    Formula:  H0: p_x - p_y >= margin;  z = z(margin) of Tango's score,  p = P(Z <= z).  The interval has level
    1 - 2 alpha: its upper limit lies below the margin exactly when p < alpha. Several margins that must all hold are an
    intersection-union claim: no adjustment.
    Source: Tango 1998, Statistics in Medicine 17:891; Liu et al. 2002, Statistics in Medicine 21:231.

    Raises:
        DataError: for unequal lengths, fewer than two units, or a value other than 0 and 1.
        OutOfRange: for a margin outside (0, 1), or alpha outside (0, 0.5).

    >>> print(noninferiority_proportions([1] * 2 + [0] * 198, [1] * 3 + [0] * 197, margin=0.03))
    p_x - p_y = -0.005, 95% CI [-0.028, 0.014], z = -2.69, p = .004 (non-inferiority within 0.03, Tango score, n = 200)
    """
    if not 0 < alpha < 0.5:
        raise OutOfRange(f"Non-inferiority has alpha {alpha}; 0 < alpha < 0.5 is needed.")
    table = _table(x, y)
    z = table.score(open_unit(margin, "The margin of non-inferiority"))
    return _named(
        table,
        ci=tango_interval(*table, level=1 - 2 * alpha),
        statistic=("z", z),
        pvalue=max(float(ndtr(z)), sys.float_info.min),
        method=f"non-inferiority within {margin:g}, Tango score",
    )


def mcnemar(x: npt.ArrayLike, y: npt.ArrayLike, *, method: Exactness = "exact") -> Named:
    """Return McNemar's two-sided test of equal paired proportions from the binomial: x, y of (units,), each 0 or 1.

    Formula:  with b and c units changing sides either way, m = min(b, c) and X binomial (b + c, 1/2),
        exact  p = min(1, 2 P(X <= m));    mid-p  p = 2 P(X <= m) - P(X = m),  or  1 - P(X = m) / 2  when b = c.
    Without a unit that changes sides there is no evidence: p = 1. The statistic is b, beside c.
    "exact" never exceeds its level; "mid-p" is closer to it and may exceed it slightly.
    Source: McNemar 1947; Fagerland, Lydersen & Laake 2013, BMC Medical Research Methodology 13:91.

    Raises:
        DataError: for unequal lengths, fewer than two units, or a value other than 0 and 1.
        UnknownName: for another method.

    >>> print(mcnemar([1] * 8 + [0] * 12, [1] * 2 + [0] * 18))
    p_x - p_y = 0.30, b (c = 0) = 6.00, p = .031 (McNemar, exact, n = 20)
    """
    table = _table(x, y)
    least, changed = min(table.b, table.c), table.b + table.c
    point = float(binom.pmf(least, changed, 0.5))
    tail = 2 * float(bdtr(least, changed, 0.5))
    match method:
        case "exact":
            p = min(tail, 1.0)
        case "mid-p":
            p = 1 - point / 2 if table.b == table.c else tail - point
        case _:
            raise unknown("McNemar test", method, ["exact", "mid-p"])
    statistic = (f"b (c = {table.c})", float(table.b))
    return _named(table, ci=None, statistic=statistic, pvalue=p if changed else 1.0, method=f"McNemar, {method}")


def _named(table: _Table, *, ci: Interval | None, statistic: tuple[str, float], pvalue: float, method: str) -> Named:
    """Return a test of the difference of paired proportions."""
    label, value = statistic
    return Named(
        symbol="p_x - p_y",
        estimate=table.difference,
        ci=ci,
        label=label,
        statistic=value,
        pvalue=pvalue,
        n=table.n,
        method=method,
    )


def _table(x: npt.ArrayLike, y: npt.ArrayLike) -> _Table:
    """Return the counts of two binary samples of the same units, or raise."""
    first, second = pair(x, y)
    for values in (first, second):
        if not np.isin(values, (0.0, 1.0)).all():
            other = values[~np.isin(values, (0.0, 1.0))][0]
            raise DataError(f"A paired proportion counts values 0 and 1; given: {other:g}.")
    return _Table(int((first > second).sum()), int((first < second).sum()), first.size)
