"""Several models, one claim: a random-effects mean over studies whose true effects differ."""

from __future__ import annotations

import math
import sys
from dataclasses import dataclass
from typing import Literal, NamedTuple, TypeAlias

import numpy as np
import numpy.typing as npt
from scipy.optimize import brentq
from scipy.special import chdtrc, stdtr, stdtrit

from neuromod_core.kernel.errors import DataError
from neuromod_core.kernel.register import unknown
from neuromod_core.stats.result import Interval, Result
from neuromod_core.stats.sample import FloatArray, open_unit, vector

Heterogeneity: TypeAlias = Literal["paule-mandel", "reml"]
Floor: TypeAlias = Literal["none", "one"]

LEAST = 3  # studies: with two, t has one degree of freedom (12.7 for 95 %) and tau^2 rests on one squared difference
GENERAL = 6  # model families from which a claim about models in general may be worded: t(5) = 2.57, tau^2 on 5 df


class _Pooled(NamedTuple):
    """The weighted mean for one tau^2, the weights, and the generalised Q."""

    mean: float
    weight: FloatArray
    q: float


@dataclass(frozen=True, kw_only=True)
class RandomEffects(Result):
    """A random-effects mean.

    tau2: variance of the true effects between studies, in the squared unit of the effect.
    q, q_p: Cochran's Q of homogeneity and its p.
    i2: share of the variation that is not sampling error,  max(0, (Q - df) / Q).
    prediction: where the true effect of another study lies, mean +- t_(k-2) sqrt(tau^2 + SE^2).
    general: whether there are enough studies for a claim beyond them; below, the interval is about these.
    """

    tau2: float
    q: float
    q_p: float
    i2: float
    prediction: Interval
    general: bool


def hartung_knapp(
    effects: npt.ArrayLike,
    variances: npt.ArrayLike,
    *,
    tau2: Heterogeneity = "paule-mandel",
    floor: Floor = "none",
    level: float = 0.95,
) -> RandomEffects:
    """Return the random-effects mean of (studies,) effects with sampling variances, and its Hartung-Knapp interval.

    Formula:  w = 1 / (v + tau^2),  mean = sum w y / sum w,  q = sum w (y - mean)^2 / (k - 1),  SE^2 = q / sum w,
    t = mean / SE on k - 1 degrees of freedom. With floor "one" q is at least 1, so the interval is no shorter than the
    normal one when studies agree by luck; this is more cautious than the method promises.
    "paule-mandel" takes the tau^2 with  sum w (y - mean)^2 = k - 1,  "reml" the one that maximises the restricted
    likelihood; 0 where that would be negative.
    Refused below three studies. From six, families of models and not copies of one, `general` is true.
    Source: Hartung & Knapp 2001; Sidik & Jonkman 2002; Paule & Mandel 1982; Viechtbauer 2005; Higgins, Thompson &
    Spiegelhalter 2009 (prediction).

    Raises:
        DataError: for fewer than three studies, unequal lengths, values that are not finite, variances that are not
            positive, or effects that all agree.
        OutOfRange: for a level outside (0, 1).
        UnknownName: for another estimate of tau^2, or another floor.

    >>> print(hartung_knapp([0.3, 0.5, 0.1, 0.8, 0.4, 0.6], [0.02, 0.03, 0.02, 0.05, 0.01, 0.04]))
    M = 0.41, 95% CI [0.17, 0.65], t(5) = 4.44, p = .007 (random effects, Hartung-Knapp, paule-mandel, n = 6)
    """
    y, v = _studies(effects, variances)
    k, df = y.size, y.size - 1
    t_half = float(stdtrit(df, (1 + open_unit(level, "The confidence level")) / 2))
    between, fixed = _between(y, v, tau2), _pooled(y, v, 0.0)
    pooled = _pooled(y, v, between)
    se = math.sqrt(_scale(pooled.q / df, floor) / float(pooled.weight.sum()))
    t = pooled.mean / se
    reach = float(stdtrit(k - 2, (1 + level) / 2)) * math.sqrt(between + se**2)
    return RandomEffects(
        estimate=pooled.mean,
        ci=Interval(pooled.mean - t_half * se, pooled.mean + t_half * se, level),
        statistic=t,
        pvalue=max(2 * float(stdtr(df, -abs(t))), sys.float_info.min),
        n=k,
        method=f"random effects, Hartung-Knapp, {tau2}{'' if floor == 'none' else ', floor one'}",
        tau2=between,
        q=fixed.q,
        q_p=max(float(chdtrc(df, fixed.q)), sys.float_info.min),
        i2=max(0.0, (fixed.q - df) / fixed.q),
        prediction=Interval(pooled.mean - reach, pooled.mean + reach, level),
        general=k >= GENERAL,
    )


def _studies(effects: npt.ArrayLike, variances: npt.ArrayLike) -> tuple[FloatArray, FloatArray]:
    """Return effects and variances, (studies,) each, or raise."""
    y, v = vector(effects, "effects"), vector(variances, "variances")
    if y.size != v.size:
        raise DataError(f"There are {y.size} effects and {v.size} variances; one each is needed.")
    if y.size < LEAST:
        raise DataError(f"{y.size} studies are too few to say how effects differ; at least {LEAST} are needed.")
    if not (v > 0).all():
        raise DataError(f"The variance of study {int(v.argmin())} is {v.min():g}; it must be positive.")
    if np.ptp(y) <= 1e-12 * np.abs(y).max():
        raise DataError(f"All {y.size} effects are {y[0]:g}: the Hartung-Knapp interval would have no width.")
    return y, v


def _scale(q: float, floor: Floor) -> float:
    """Return the factor of the variance, held at one or not."""
    if floor not in ("none", "one"):
        raise unknown("floor", floor, ["none", "one"])
    return max(q, 1.0) if floor == "one" else q


def _pooled(y: FloatArray, v: FloatArray, tau2: float) -> _Pooled:
    """Return the weighted mean of effects for one tau^2."""
    weight = 1 / (v + tau2)
    mean = float(weight @ y / weight.sum())
    return _Pooled(mean, weight, float(weight @ np.square(y - mean)))


def _between(y: FloatArray, v: FloatArray, method: Heterogeneity) -> float:
    """Return tau^2: the root of an estimating function that falls, or 0 when it is negative there already."""

    def paule_mandel(tau2: float) -> float:
        return _pooled(y, v, tau2).q - (y.size - 1)

    def score(tau2: float) -> float:
        mean, weight, _ = _pooled(y, v, tau2)
        squared = np.square(weight)
        return float(squared @ np.square(y - mean) - weight.sum() + squared.sum() / weight.sum())

    match method:
        case "paule-mandel":
            function = paule_mandel
        case "reml":
            function = score
        case _:
            raise unknown("estimate of tau^2", method, ["paule-mandel", "reml"])
    if function(0.0) <= 0:
        return 0.0
    upper = float(np.square(y - y.mean()).sum())
    while function(upper) > 0:
        upper *= 2
    return float(brentq(function, 0.0, upper, xtol=1e-15 * upper, rtol=1e-14))
