"""Where the criterion of a linear mixed model is least: a search from several starts, then Newton steps."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.linalg import LinAlgError
from scipy.optimize import minimize

from neuromod_core.kernel.errors import DataError
from neuromod_core.stats.mixed.criterion import Factors, Products, Solution, pack, slopes, solve, unpack
from neuromod_core.stats.mixed.information import Information, absolute, along_factors, information
from neuromod_core.stats.sample import FloatArray

STARTS = (1.0, 0.1)  # relative standard deviations
LIMIT = 1e5  # relative standard deviation above which the residual is taken to have vanished
VANISHED = 1e-10  # residual variance, relative to that around the fixed effects
SINGULAR = 1e-4  # relative standard deviation below which a direction is called zero, as is the custom of lme4
ESCAPES, ASIDE = 4, 0.1  # searches away from a saddle, and how far aside they start
ZERO = 1e-7  # relative standard deviation that is written as zero
FLAT = 1e-8  # relative eigenvalue below which the criterion is called flat
STEPS = 8
DECREMENT = 1e-18  # what one more Newton step would gain, in units of the criterion
ACCEPTED = 1e-8  # the same, at which a fit is called converged


@dataclass(frozen=True)
class Estimate:
    """The least criterion that was found.

    covariance: (s, s), asymptotic covariance of (sigma, factor entries): 2 / Hessian, without its flat directions.
    jacobian: (s, r), of the variance components by those.
    converged: whether the gradient vanishes and the criterion curves up in every direction.
    """

    factors: list[FloatArray]
    solution: Solution
    information: Information
    jacobian: FloatArray
    covariance: FloatArray
    converged: bool
    singular: bool


def estimate(given: Products) -> Estimate:
    """Return the estimate.

    Raises:
        DataError: when no start leads to a finite criterion, or the random effects leave no residual variance.
    """
    starts = [pack([sd * np.eye(block.k) for block in given.blocks]) for sd in STARTS]
    found = [result for start in starts if (result := _search(given, start)) is not None]
    if not found:
        raise DataError("The likelihood could not be evaluated: the random effects reproduce the response.")
    best = _polish(given, unpack(given, min(found, key=lambda pair: pair[0])[1]))
    for _ in range(ESCAPES):
        if best.converged or (other := _search(given, _downhill(given, best))) is None:
            break
        following = _polish(given, unpack(given, other[1]))
        if following.solution.criterion > best.solution.criterion:
            break
        best = following
    return best


def _search(given: Products, start: FloatArray) -> tuple[float, FloatArray] | None:
    """Return the least criterion from one start and its parameters; None where it cannot be evaluated.

    Factors are free in sign: at a bound of zero the criterion is flat by them even where it falls on both sides.
    """

    def value(theta: FloatArray) -> tuple[float, FloatArray]:
        factors = unpack(given, theta)
        found = solve(given, factors)
        sides = [2 * slope @ factor for slope, factor in zip(slopes(given, found), factors, strict=True)]
        return found.criterion, pack(sides)

    bounds = [(-LIMIT, LIMIT)] * len(start)
    options = {"maxiter": 1000, "maxfun": 3000, "maxcor": 30, "ftol": 1e-10, "gtol": 1e-5}
    try:
        result = minimize(value, start, jac=True, method="L-BFGS-B", bounds=bounds, options=options)
    except LinAlgError:
        return None
    return float(result.fun), np.asarray(result.x)


def _downhill(given: Products, best: Estimate) -> FloatArray:
    """Return a start aside of a saddle, along the direction in which the criterion curves down most."""
    hessian = along_factors(given, best.factors, best.information)[2]
    return pack(best.factors) + ASIDE * np.linalg.eigh(hessian)[1][1:, 0]


def _polish(given: Products, factors: list[FloatArray]) -> Estimate:
    """Return the estimate after Newton steps on (sigma, factor entries) from the end of a search."""
    factors = [_upright(factor) for factor in factors]
    solution = _solve(given, factors)
    for left in reversed(range(STEPS)):
        known = information(given, factors, solution)
        jacobian, gradient, hessian = along_factors(given, factors, known)
        inverse, curved = _inverse(hessian)
        step = inverse @ gradient
        gain = float(gradient @ step)
        if abs(gain) < DECREMENT or not curved or left == 0:
            break
        following = _stepped(given, factors, solution, step)
        if following is None:
            break
        factors, solution = following
    converged = curved and abs(gain) < ACCEPTED
    return Estimate(factors, solution, known, jacobian, 2 * inverse, converged, singular(factors))


def _solve(given: Products, factors: Factors) -> Solution:
    """Return the solution, which must have a residual."""
    largest = max(float(np.abs(factor).max()) for factor in factors)
    solution = solve(given, factors)
    if largest > LIMIT / 10 or solution.rss / given.dof < VANISHED:
        raise DataError(
            "The random effects explain the response completely: no residual variance is left. "
            "Leave a grouping factor out, or give rows that vary within its levels."
        )
    return solution


def _stepped(
    given: Products, factors: Factors, solution: Solution, step: FloatArray
) -> tuple[list[FloatArray], Solution] | None:
    """Return what follows a Newton step, or None when it leads up."""
    sigma = float(np.sqrt(solution.rss / given.dof))
    moved = absolute(factors, sigma) - step
    if moved[0] <= 0:
        return None
    following = [_upright(factor) for factor in unpack(given, moved[1:] / moved[0])]
    try:
        result = _solve(given, following)
    except LinAlgError:
        return None
    rise = result.criterion - solution.criterion
    return (following, result) if rise <= 1e-9 * (1 + abs(solution.criterion)) else None


def _upright(factor: FloatArray) -> FloatArray:
    """Return the factor of the same covariance whose diagonal is not negative and whose vanishing rows are zero."""
    rows = np.where(np.linalg.norm(factor, axis=1) < ZERO, 0.0, 1.0)
    return factor * np.where(np.diag(factor) < 0, -1.0, 1.0) * rows[:, None]


def _inverse(hessian: FloatArray) -> tuple[FloatArray, bool]:
    """Return the inverse without flat directions, and whether no direction curves down."""
    values, vectors = np.linalg.eigh(hessian)
    floor = FLAT * float(np.abs(values).max())
    kept = values > floor
    return (vectors[:, kept] / values[kept]) @ vectors[:, kept].T, bool(values.min() > -1000 * floor)


def singular(factors: Factors) -> bool:
    """Return whether the covariance of a term has a direction without variance."""
    return any(float(np.abs(np.diag(factor)).min()) < SINGULAR for factor in factors)
