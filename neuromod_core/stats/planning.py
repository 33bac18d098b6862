"""How many units a study needs: power, sample size and the smallest effect it can find, for differences within units.

Effects and margins are in standard deviations of the unit-level differences, except for proportions.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal, TypeAlias

import numpy as np
import numpy.typing as npt
from scipy.optimize import brentq
from scipy.special import chdtri, gammaln, ndtr, ndtri, stdtrit

from neuromod_core.kernel.errors import OutOfRange
from neuromod_core.kernel.register import unknown
from neuromod_core.stats.result import Estimate, Interval
from neuromod_core.stats.sample import FloatArray, open_unit, varying, vector
from neuromod_core.stats.signflip import flip_pvalues
from neuromod_core.stats.student import noncentral_t

Test: TypeAlias = Literal["two-sided", "greater", "equivalence", "noninferiority"]

TESTS: tuple[Test, ...] = ("two-sided", "greater", "equivalence", "noninferiority")
_MOST = 10_000_000  # units: beyond, an effect is as good as none
_NODES = 200  # of the quadrature over the sample's standard deviation
_STUDIES = 2_000


@dataclass(frozen=True)
class _Plan:
    """A test, its error and its margin, checked."""

    test: Test
    alpha: float
    margin: float

    def power(self, effect: float, n: int) -> float:
        """Return the probability of rejecting at a true standardised mean of `effect` with n units."""
        root, df = math.sqrt(n), n - 1
        match self.test:
            case "two-sided":
                t = float(stdtrit(df, 1 - self.alpha / 2))
                return noncentral_t(-t, df, effect * root) + noncentral_t(-t, df, -effect * root)
            case "greater" | "noninferiority":
                t = float(stdtrit(df, 1 - self.alpha))
                return noncentral_t(-t, df, -(effect + self.margin) * root)
            case _:
                return _equivalence(effect, n, margin=self.margin, alpha=self.alpha)


def power(
    effect: float, n: int, *, test: Test = "two-sided", alpha: float = 0.05, margin: float | None = None
) -> float:
    """Return the probability that n units show what is asked for when the true mean is `effect` standard deviations.

    "two-sided", "greater"  the paired t test that there is an effect; "greater" expects a positive one
    "equivalence"           `tost` within +- margin, each test at alpha
    "noninferiority"        `noninferiority` by margin, one-sided at alpha, higher being better
    Formula:  P(|T| > t_crit) for T noncentral t on n - 1 degrees of freedom with  delta = (effect + margin) sqrt(n);
    for equivalence  E over s of  P(|mean| < margin - t_crit s / sqrt(n)),  by Gauss-Legendre quadrature over s.
    For yes or no outcomes see `sample_size_proportions`; for sign flips `simulated_power`, nearly the same as t.
    Source: Cohen 1988; Phillips 1990, Journal of Pharmacokinetics and Biopharmaceutics 18:137.

    Raises:
        OutOfRange: for fewer than two units, an effect that is not finite, alpha outside (0, 1), a margin that is
            missing where the test needs one, given where it does not, or not positive.
        UnknownName: for another test.

    >>> round(power(0.5, 34), 3), round(power(0.0, 36, test="equivalence", margin=0.5), 3)
    (0.808, 0.805)
    """
    if n < 2 or not math.isfinite(effect):
        raise OutOfRange(
            f"Power is asked for {n} units at an effect of {effect}; n >= 2 and a finite effect are needed."
        )
    return _plan(test, alpha, margin).power(effect, n)


def sample_size(
    effect: float,
    *,
    test: Test = "two-sided",
    alpha: float = 0.05,
    margin: float | None = None,
    goal: float = 0.8,
) -> int:
    """Return the least number of units whose power reaches `goal`; tests and units of measurement as in `power`.

    Raises:
        OutOfRange: as `power`, for a goal outside (0, 1), or an effect that ten million units do not show.
        UnknownName: for another test.

    >>> sample_size(0.5), sample_size(0.25, alpha=0.05 / 27, goal=0.9), sample_size(0.0, test="equivalence", margin=0.4)
    (34, 314, 55)
    """
    plan, goal = _plan(test, alpha, margin), open_unit(goal, "The power aimed at")
    if not math.isfinite(effect):
        raise OutOfRange(f"A sample size is asked for an effect of {effect}; a finite effect is needed.")
    low, high = 1, 2
    while plan.power(effect, high) < goal:
        low, high = high, 2 * high
        if low > _MOST:
            raise OutOfRange(f"More than {_MOST} units would be needed to show an effect of {effect:g} ({test}).")
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if plan.power(effect, middle) >= goal else (middle, high)
    return high


def detectable(n: int, *, test: Test = "two-sided", alpha: float = 0.05, goal: float = 0.8) -> float:
    """Return the least effect, in standard deviations of the differences, that n units show with power `goal`.

    For "two-sided" and "greater"; a margin is chosen, not detected.

    Raises:
        OutOfRange: for fewer than two units, alpha or a goal outside (0, 1), or a goal not above alpha.
        UnknownName: for another test.

    >>> round(detectable(48), 2), round(detectable(126, alpha=0.05 / 27), 2)
    (0.41, 0.36)
    """
    if test not in ("two-sided", "greater"):
        raise unknown("test with a detectable effect", test, ["two-sided", "greater"])
    plan = _plan(test, alpha, None)
    if n < 2 or not alpha < open_unit(goal, "The power aimed at"):
        raise OutOfRange(f"{n} units at alpha {alpha} and power {goal}: n >= 2 and alpha < power are needed.")
    high = 1.0
    while plan.power(high, n) < goal:
        high *= 2
    return float(brentq(lambda effect: plan.power(effect, n) - goal, 0.0, high, xtol=1e-10))


def sample_size_proportions(
    *, discordant: float, margin: float, alpha: float = 0.025, goal: float = 0.8, difference: float = 0.0
) -> int:
    """Return the number of units for `noninferiority_proportions` when a share `discordant` answers differently.

    Formula:  n = (z_(1-alpha) + z_goal)^2 (discordant - difference^2) / (margin - difference)^2,  rounded up.
    An approximation: with rare outcomes look at `tango_interval(0, 0, n)` too.
    Source: Liu et al. 2002, Statistics in Medicine 21:231.

    Raises:
        OutOfRange: for a share, margin, alpha or goal outside (0, 1), a difference not below the margin, or a share
            that is less than the difference.

    >>> [sample_size_proportions(discordant=share, margin=0.03) for share in (0.01, 0.02, 0.04, 0.08)]
    [88, 175, 349, 698]
    """
    z = float(ndtri(1 - open_unit(alpha, "alpha")) + ndtri(open_unit(goal, "The power aimed at")))
    open_unit(discordant, "The share of discordant units")
    if not difference < open_unit(margin, "The margin"):
        raise OutOfRange(f"The difference {difference} is not below the margin {margin}: no study could show that.")
    if discordant < abs(difference):
        raise OutOfRange(
            f"A difference of {difference} needs at least that share of discordant units; {discordant} given."
        )
    return math.ceil(z**2 * (discordant - difference**2) / (margin - difference) ** 2 - 1e-9)


def simulated_power(
    effect: float,
    n: int,
    *,
    minimum: float = 0.0,
    alpha: float = 0.05,
    pilot: npt.ArrayLike | None = None,
    studies: int = _STUDIES,
    draws: int = 2_000,
    generator: np.random.Generator,
) -> Estimate:
    """Return the power of the two-sided `sign_flip` beyond `minimum`, by simulated studies, with its simulation error.

    Differences are normal with mean `effect` and SD 1, or, with `pilot` differences (units,), theirs resampled after
    they were brought to mean `effect` and SD 1. All studies share one set of flips, of which there are all up to 16
    units; this leaves each p valid. The interval is the 95 % score interval of a share out of `studies`.
    Source: Pitman 1937; Keller-McNulty & Higgins 1987.

    Raises:
        DataError: for a pilot of fewer than two units, not finite, or without spread.
        OutOfRange: for fewer than two units, fewer than one study or draw, an effect that is not finite, alpha outside
            (0, 1), or a negative minimum.

    >>> print(simulated_power(0.8, 12, studies=500, generator=np.random.default_rng(0)))
    power = 0.73, 95% CI [0.69, 0.77] (two-sided sign-flip at 0.05, 500 simulated studies, n = 12)
    """
    if n < 2 or studies < 1 or not math.isfinite(effect):
        raise OutOfRange(
            f"{studies} studies of {n} units at an effect of {effect}: studies >= 1, n >= 2, finite effect."
        )
    shape = generator.normal(size=(n, studies)) if pilot is None else _resampled(pilot, (n, studies), generator)
    p = flip_pvalues(effect + shape, minimum=minimum, alternative="two-sided", draws=draws, generator=generator)
    found = int((p <= open_unit(alpha, "alpha")).sum())
    return Estimate(
        symbol="power",
        estimate=found / studies,
        ci=_share_interval(found, studies),
        n=n,
        method=f"two-sided sign-flip at {alpha:g}, {studies} simulated studies",
    )


def _plan(test: Test, alpha: float, margin: float | None) -> _Plan:
    """Return a test with its error and margin, or raise."""
    if test not in TESTS:
        raise unknown("test", test, list(TESTS))
    needed = test in ("equivalence", "noninferiority")
    if needed != (margin is not None) or (margin is not None and not 0 < margin < math.inf):
        wanted = "a positive margin" if needed else "no margin"
        raise OutOfRange(f"The {test} test is planned with margin {margin}; it takes {wanted}.")
    return _Plan(test, open_unit(alpha, "alpha"), margin or 0.0)


def _equivalence(effect: float, n: int, *, margin: float, alpha: float) -> float:
    """Return the power of two one-sided t tests: their rejection region integrated over the sample's SD."""
    df, root = n - 1, math.sqrt(n)
    t = float(stdtrit(df, 1 - alpha))
    most = min(margin * root / t, math.sqrt(float(chdtri(df, 1e-16)) / df))  # beyond, no mean is within, or no SD is
    nodes, weights = np.polynomial.legendre.leggauss(_NODES)
    s, weights = most * (nodes + 1) / 2, weights * most / 2
    reach = (margin - t * s / root) * root
    within = ndtr(reach - effect * root) - ndtr(-reach - effect * root)
    log_density = math.log(2) + df / 2 * math.log(df / 2) - gammaln(df / 2) + (df - 1) * np.log(s) - df * s**2 / 2
    return float(weights @ (within * np.exp(log_density)))


def _resampled(pilot: npt.ArrayLike, size: tuple[int, int], generator: np.random.Generator) -> FloatArray:
    """Return pilot differences of mean 0 and SD 1, drawn with replacement."""
    values = varying(vector(pilot, "pilot differences"))
    return generator.choice((values - values.mean()) / values.std(), size=size)


def _share_interval(found: int, studies: int) -> Interval:
    """Return Wilson's 95 % interval of a share."""
    z, p = float(ndtri(0.975)), found / studies
    half = z * math.sqrt(p * (1 - p) / studies + (z / (2 * studies)) ** 2)
    middle, whole = p + z * z / (2 * studies), 1 + z * z / studies
    return Interval((middle - half) / whole, (middle + half) / whole, 0.95)
