"""How large a difference is, free of its unit: standardised means and dominance, with their intervals."""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt
from scipy.optimize import brentq
from scipy.special import ndtri, stdtrit

from neuromod_core.kernel.errors import DataError
from neuromod_core.stats.proportions import tango_interval
from neuromod_core.stats.result import Estimate, Interval
from neuromod_core.stats.sample import FloatArray, differences_of, open_unit, pair, varying, vector
from neuromod_core.stats.student import hedges_correction, noncentral_t

_FAR = 1e4  # of t


def d_z(x: npt.ArrayLike, y: npt.ArrayLike | None = None, *, level: float = 0.95) -> Estimate:
    """Return the mean of differences in their own standard deviations: x, or x - y, arrays of (units,).

    Formula:  d_z = mean / SD;  its limits are delta / sqrt(n) for the delta with P(T <= t | n - 1, delta) = 1 - a/2 and
    a/2, where T is noncentral t and t = sqrt(n) d_z. Grows with the correlation of x and y: compare studies by d_av.
    Source: Cohen 1988; Steiger & Fouladi 1997, Noncentrality interval estimation.

    Raises:
        DataError: for fewer than two units, unequal lengths, values that are not finite, or differences without spread.
        OutOfRange: for a level outside (0, 1).

    >>> print(d_z([1.2, 2.4, 1.3, 1.3, 0.0, 1.0, 1.8, 0.8, 4.6, 1.4]))
    d_z = 1.28, 95% CI [0.41, 2.12] (noncentral t interval, n = 10)
    """
    return _standardised("d_z", 1.0, varying(differences_of(x, y)), level)


def g_z(x: npt.ArrayLike, y: npt.ArrayLike | None = None, *, level: float = 0.95) -> Estimate:
    """Return d_z without its small-sample bias:  g_z = J d_z,  its interval being J times that of d_z.

    Source: Hedges 1981, Journal of Educational Statistics 6:107.

    Raises:
        DataError: as `d_z`.
        OutOfRange: for a level outside (0, 1), or fewer than three units.

    >>> print(g_z([1.2, 2.4, 1.3, 1.3, 0.0, 1.0, 1.8, 0.8, 4.6, 1.4]))
    g_z = 1.17, 95% CI [0.38, 1.94] (noncentral t interval, n = 10)
    """
    differences = varying(differences_of(x, y))
    return _standardised("g_z", hedges_correction(differences.size - 1), differences, level)


def d_av(x: npt.ArrayLike, y: npt.ArrayLike, *, level: float = 0.95) -> Estimate:
    """Return the mean difference of two samples of the same units in their average standard deviation.

    Formula:  d_av = (mean x - mean y) / S,  S = (SD x + SD y) / 2: comparable with designs between units.
    By the delta method, for normal samples that correlate by r,
        SE^2 = SD_d^2 / (n S^2) + d_av^2 (SD_x^2 + SD_y^2 + 2 r^2 SD_x SD_y) / (8 (n - 1) S^2),
    and the interval is d_av -+ t SE on n - 1 degrees of freedom.
    Source: Cumming 2012, Understanding The New Statistics; Lakens 2013, Frontiers in Psychology 4:863; Bonett 2008,
    Psychological Methods 13:99 (the variance, there for the root mean square of both SDs).

    Raises:
        DataError: for fewer than two units, unequal lengths, values that are not finite, or no spread in both samples.
        OutOfRange: for a level outside (0, 1).

    >>> print(d_av([2.0, 4.0, 1.0, 3.0], [1.0, 2.0, 2.0, 0.0]))
    d_av = 1.11, 95% CI [-1.52, 3.74] (mean difference in average SDs, n = 4)
    """
    first, second = pair(x, y)
    one, other = float(first.std(ddof=1)), float(second.std(ddof=1))
    spread = (one + other) / 2
    if spread <= 1e-12 * np.abs([first, second]).max():
        raise DataError(f"Both samples are constant over {first.size} units: there is no standard deviation to use.")
    d, df = float((first.mean() - second.mean()) / spread), first.size - 1
    both = float(np.cov(first, second)[0, 1]) ** 2 / (one * other) if one and other else 0.0  # r^2 SD_x SD_y
    means = float(np.var(first - second, ddof=1)) / (first.size * spread**2)
    error = math.sqrt(means + d * d * (one**2 + other**2 + 2 * both) / (8 * df * spread**2))
    half = float(stdtrit(df, (1 + open_unit(level, "The confidence level")) / 2)) * error
    return Estimate(
        symbol="d_av",
        estimate=d,
        ci=Interval(d - half, d + half, level),
        n=first.size,
        method="mean difference in average SDs",
    )


def cliffs_delta(x: npt.ArrayLike, y: npt.ArrayLike, *, level: float = 0.95) -> Estimate:
    """Return how often a value of x (m,) exceeds one of y (n,) less how often it falls short, over all m n pairs.

    Formula:  delta = mean of d_ij = sign(x_i - y_j), in [-1, 1];
        s^2 = [m^2 S(d_i. - delta)^2 + n^2 S(d_.j - delta)^2 - S(d_ij - delta)^2] / [m n (m - 1) (n - 1)]
    is unbiased, and at least (1 - delta^2) / (m n - 1). The interval is asymmetric and stays within [-1, 1].
    For two independent samples; the same units under two arms have `paired_delta`.
    Source: Cliff 1993, Psychological Bulletin 114:494; Feng & Cliff 2004, Journal of Modern Applied Statistical Methods
    3:322.

    Raises:
        DataError: for fewer than two values in a sample, or values that are not finite.
        OutOfRange: for a level outside (0, 1).

    >>> print(cliffs_delta([3.0, 4.0, 5.0, 6.0], [1.0, 2.0, 3.0, 5.0]))
    delta = 0.62, 95% CI [-0.16, 0.93] (Cliff's delta, n = 8)
    """
    first, second = vector(x, "values of x"), vector(y, "values of y")
    signs = np.sign(first[:, None] - second)
    m, n, delta = first.size, second.size, float(signs.mean())
    rows, columns = _squares(signs.mean(axis=1) - delta), _squares(signs.mean(axis=0) - delta)
    unbiased = (n**2 * rows + m**2 * columns - _squares(signs - delta)) / (m * n * (m - 1) * (n - 1))
    variance = max(unbiased, (1 - delta**2) / (m * n - 1))
    return Estimate(
        symbol="delta",
        estimate=delta,
        ci=dominance_interval(delta, variance, least=min(m, n), level=level),
        n=m + n,
        method="Cliff's delta",
    )


def paired_delta(x: npt.ArrayLike, y: npt.ArrayLike | None = None, *, level: float = 0.95) -> Estimate:
    """Return the share of units with x > y less the share with x < y, ties in neither: arrays of (units,).

    Formula:  delta = (b - c) / n,  b and c units above and below. This is a difference of paired proportions, so the
    interval is Tango's score interval.
    Source: Cliff 1993, Psychological Bulletin 114:494 (d_w); Tango 1998, Statistics in Medicine 17:891.

    Raises:
        DataError: for fewer than two units, unequal lengths, or values that are not finite.
        OutOfRange: for a level outside (0, 1).

    >>> print(paired_delta([1.2, 2.4, 1.3, 1.3, 0.0, 1.0, 1.8, -0.8, 4.6, 1.4]))
    delta = 0.70, 95% CI [0.12, 0.92] (Cliff's delta within units, n = 10)
    """
    differences = differences_of(x, y)
    above, below = int((differences > 0).sum()), int((differences < 0).sum())
    return Estimate(
        symbol="delta",
        estimate=(above - below) / differences.size,
        ci=tango_interval(above, below, differences.size, level=level),
        n=differences.size,
        method="Cliff's delta within units",
    )


def dominance_interval(delta: float, variance: float, *, least: int, level: float) -> Interval:
    """Return the interval of a dominance in [-1, 1] from its variance; `least` is the smaller sample.

    Formula:  [delta - delta^3 -+ z s sqrt((1 - delta^2)^2 + z^2 s^2)] / (1 - delta^2 + z^2 s^2);  for complete
    separation, where s vanishes, the inner limit is  (least - z^2) / (least + z^2).  Source: Feng & Cliff 2004.

    Raises:
        OutOfRange: for a level outside (0, 1).

    >>> print(dominance_interval(1.0, 0.0, least=10, level=0.95))
    95% CI [0.44, 1.00]
    """
    z = float(ndtri((1 + open_unit(level, "The confidence level")) / 2))
    if abs(delta) == 1:
        inner = delta * (least - z * z) / (least + z * z)
        return Interval(min(inner, delta), max(inner, delta), level)
    rest, spread = 1 - delta**2, z * z * variance
    half = math.sqrt(spread * (rest**2 + spread))
    middle = delta * rest
    return Interval((middle - half) / (rest + spread), (middle + half) / (rest + spread), level)


def _squares(values: FloatArray) -> float:
    """Return the sum of squares."""
    return float(np.square(values).sum())


def _standardised(symbol: str, factor: float, differences: FloatArray, level: float) -> Estimate:
    """Return `factor` times the standardised mean of (units,) differences that vary."""
    n, tail = differences.size, (1 - open_unit(level, "The confidence level")) / 2
    d = float(differences.mean() / differences.std(ddof=1))
    low, high = (factor / math.sqrt(n) * _noncentrality(math.sqrt(n) * d, n - 1, share) for share in (1 - tail, tail))
    return Estimate(
        symbol=symbol, estimate=factor * d, ci=Interval(low, high, level), n=n, method="noncentral t interval"
    )


def _noncentrality(t: float, df: int, share: float) -> float:
    """Return the delta with P(T <= t) = share for noncentral t; the share falls as delta rises.

    Beyond `_FAR` delta / t is a function of df and share alone, up to 1 / t^2, and the distribution itself overflows.
    """
    if t < 0:
        return -_noncentrality(-t, df, 1 - share)
    near = min(t, _FAR)

    def excess(delta: float) -> float:
        return noncentral_t(near, df, delta) - share

    low = high = near  # outwards by steps: far out the distribution is not a number, though it is next to 0 or 1
    while excess(low) < 0:
        low -= 1.0
    while excess(high) > 0:
        high += 1.0
    return float(brentq(excess, low, high, xtol=1e-12)) * (t / near if near else 1.0)
