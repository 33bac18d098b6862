"""Student's t for paired data: the mean difference with its interval and effect sizes, and equivalence."""

from __future__ import annotations

import math
import sys
from typing import Literal, NamedTuple, TypeAlias

import numpy as np
import numpy.typing as npt
from scipy.special import gammaln, nctdtr, stdtr, stdtrit

from neuromod_core.kernel.errors import OutOfRange
from neuromod_core.kernel.register import unknown
from neuromod_core.stats.result import Equivalence, Interval, Paired, Result
from neuromod_core.stats.sample import FloatArray, differences_of, open_unit, varying, vector

Direction: TypeAlias = Literal["higher", "lower"]


class _Moments(NamedTuple):
    """Mean, standard deviation, standard error and number of (units,) differences."""

    mean: float
    sd: float
    se: float
    n: int

    def interval(self, level: float) -> Interval:
        """Return the t interval of the mean."""
        half = float(stdtrit(self.n - 1, (1 + open_unit(level, "The confidence level")) / 2)) * self.se
        return Interval(self.mean - half, self.mean + half, level)

    def below(self, t: float) -> float:
        """Return P(T <= t) for Student's T, never less than the smallest float: a p-value is not zero."""
        return max(float(stdtr(self.n - 1, t)), sys.float_info.min)


def paired(x: npt.ArrayLike, y: npt.ArrayLike | None = None, *, level: float = 0.95) -> Paired:
    """Return the two-sided paired t test of the differences x, or of x - y: arrays of (units,).

    Formula:  t = mean / (SD / sqrt(n)) on n - 1 degrees of freedom;  d_z = mean / SD;  g_z = J d_z.
    Source: Student 1908; Hedges 1981; Lakens 2013, Frontiers in Psychology 4:863.

    Raises:
        DataError: for fewer than two units, unequal lengths, values that are not finite, or differences without spread.
        OutOfRange: for a level outside (0, 1).

    >>> print(paired([2.0, 4.0, 1.0, 3.0], [1.0, 2.0, 2.0, 0.0]))
    M = 1.25, 95% CI [-1.47, 3.97], t(3) = 1.46, p = .239, g_z = 0.53 (paired t test, n = 4)
    """
    moments = _moments(differences_of(x, y))
    t, d_z = moments.mean / moments.se, moments.mean / moments.sd
    return Paired(
        estimate=moments.mean,
        ci=moments.interval(level),
        statistic=t,
        pvalue=2 * moments.below(-abs(t)),
        n=moments.n,
        method="paired t test",
        d_z=d_z,
        g_z=hedges_correction(moments.n - 1) * d_z if moments.n > 2 else None,
    )


def tost(differences: npt.ArrayLike, *, margin: float, alpha: float = 0.05) -> Equivalence:
    """Return the two one-sided t tests that the mean of (units,) differences lies within -margin .. +margin.

    Formula:  t_lower = (mean + margin) / SE,  t_upper = (mean - margin) / SE,  p = max(P(T > t_lower), P(T < t_upper)).
    The interval has level 1 - 2 alpha, and lies within the margins exactly when p < alpha.
    Source: Schuirmann 1987; Lakens 2017, Social Psychological and Personality Science 8:355.

    Raises:
        DataError: for fewer than two units, values that are not finite, or differences without spread.
        OutOfRange: for a margin that is not positive, or alpha outside (0, 0.5).

    >>> print(tost([0.1, -0.2, 0.3, 0.0], margin=1.0))
    M = 0.05, 90% CI [-0.19, 0.29], t(3) = -9.13, p = .001 (equivalence within 1 by two one-sided t tests, n = 4)
    """
    _check_margin("Equivalence", margin, alpha)
    moments = _moments(vector(differences))
    lower, upper = (moments.mean + margin) / moments.se, (moments.mean - margin) / moments.se
    p_lower, p_upper = moments.below(-lower), moments.below(upper)
    return Equivalence(
        estimate=moments.mean,
        ci=moments.interval(1 - 2 * alpha),
        statistic=lower if p_lower > p_upper else upper,
        pvalue=max(p_lower, p_upper),
        n=moments.n,
        method=f"equivalence within {margin:g} by two one-sided t tests",
        margin=margin,
        p_lower=p_lower,
        p_upper=p_upper,
    )


def noninferiority(
    differences: npt.ArrayLike, *, margin: float, better: Direction = "higher", alpha: float = 0.025
) -> Result:
    """Return the one-sided t test that the mean of (units,) differences is not worse than zero by `margin` or more.

    Formula:  "higher" is better:  H0: mean <= -margin,  t = (mean + margin) / SE,  p = P(T > t);
              "lower" is better:   H0: mean >= margin,   t = (mean - margin) / SE,  p = P(T < t).
    The interval has level 1 - 2 alpha, and its worse end lies within the margin exactly when p < alpha. The statistic
    is this t. For an outcome of yes or no see `noninferiority_proportions`.
    Source: Blackwelder 1982, Controlled Clinical Trials 3:345; ICH E9 1998, section 3.3.2.

    Raises:
        DataError: for fewer than two units, values that are not finite, or differences without spread.
        OutOfRange: for a margin that is not positive, or alpha outside (0, 0.5).
        UnknownName: for another direction.

    >>> print(noninferiority([0.1, -0.2, 0.3, 0.0], margin=1.0))
    M = 0.05, 95% CI [-0.28, 0.38], t(3) = 10.09, p = .001 (non-inferiority within 1, higher is better, n = 4)
    """
    _check_margin("Non-inferiority", margin, alpha)
    moments = _moments(vector(differences))
    match better:
        case "higher":
            t = (moments.mean + margin) / moments.se
            p = moments.below(-t)
        case "lower":
            t = (moments.mean - margin) / moments.se
            p = moments.below(t)
        case _:
            raise unknown("direction", better, ["higher", "lower"])
    return Result(
        estimate=moments.mean,
        ci=moments.interval(1 - 2 * alpha),
        statistic=t,
        pvalue=p,
        n=moments.n,
        method=f"non-inferiority within {margin:g}, {better} is better",
    )


def hedges_correction(df: int) -> float:
    """Return the factor that makes a standardised mean unbiased.

    Formula:  J = Gamma(df / 2) / (sqrt(df / 2) Gamma((df - 1) / 2)).  Source: Hedges 1981.

    Raises:
        OutOfRange: for fewer than two degrees of freedom, where there is no unbiased estimate.

    >>> round(hedges_correction(9), 6)
    0.913875
    """
    if df < 2:
        raise OutOfRange(f"Hedges' correction needs at least 2 degrees of freedom; {df} given.")
    return math.exp(float(gammaln(df / 2) - gammaln((df - 1) / 2)) - math.log(df / 2) / 2)


def noncentral_t(t: float, df: int, delta: float) -> float:
    """Return P(T <= t) for noncentral T on `df` degrees of freedom.

    For t < 0 it is at most P(Z < -delta), below 1e-15 from delta = 8: zero there, where the series loses its way.
    """
    return 0.0 if t < 0 and delta > 8 else float(nctdtr(df, delta, t))


def _check_margin(claim: str, margin: float, alpha: float) -> None:
    """Refuse a margin or an error that no claim of equivalence can have."""
    if not (0 < margin < math.inf and 0 < alpha < 0.5):
        raise OutOfRange(f"{claim} has margin {margin} and alpha {alpha}; margin > 0 and 0 < alpha < 0.5 are needed.")


def _moments(differences: FloatArray) -> _Moments:
    """Return the moments of differences that vary."""
    sd = float(np.std(varying(differences), ddof=1))
    return _Moments(float(differences.mean()), sd, sd / math.sqrt(differences.size), differences.size)
