"""Maximum likelihood where only values are cheap: quasi-Newton with central differences, then the curvature."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
from scipy.linalg import null_space
from scipy.optimize import minimize

from neuromod_core.stats.sample import FloatArray

GRADIENT_STEP, HESSIAN_STEP = 5e-4, 1e-2  # of a standard error, roughly: parameters are scaled so
FLAT = 1e-7
POLISH = 4
ACCEPTED = 1e-6  # what one more Newton step would gain, in log likelihood

Objective = Callable[[FloatArray], float]


class Maximum(NamedTuple):
    """Parameters (s,), the log likelihood, their (s, s) asymptotic covariance, and whether it is a maximum.

    objective: the log likelihood, of parameters.  scale: (s,), about the standard error of each.
    """

    parameters: FloatArray
    value: float
    covariance: FloatArray
    converged: bool
    objective: Objective
    scale: FloatArray

    def loss(self, rows: FloatArray, values: FloatArray) -> float:
        """Return the likelihood-ratio statistic of  rows @ parameters = values:  2 (max log L - max log L under it).

        rows: (d, s).  values: (d,).  The search starts where the maximum would be if log L were quadratic.
        """
        spread = self.covariance @ rows.T
        away = rows @ self.parameters - values
        start = self.parameters - spread @ np.linalg.pinv(rows @ spread) @ away
        free = null_space(rows * self.scale)

        def negative(at: FloatArray) -> tuple[float, FloatArray]:
            return -held(at), -gradient(held, at)

        def held(at: FloatArray) -> float:
            return self.objective(start + self.scale * (free @ at))

        found = minimize(negative, np.zeros(free.shape[1]), jac=True, method="BFGS", options={"gtol": 1e-5})
        return max(2 * (self.value + float(found.fun)), 0.0)


def maximise(objective: Objective, starts: Sequence[FloatArray], scale: FloatArray) -> Maximum:
    """Return the first maximum that a search from the (s,) starts in turn finds, or the best end of all of them.

    scale: (s,), about the standard error of each parameter.
    """

    def scaled(at: FloatArray) -> float:
        return objective(at * scale)

    def negative(at: FloatArray) -> tuple[float, FloatArray]:
        return -scaled(at), -gradient(scaled, at)

    options = {"gtol": 1e-5}
    found = []
    for start in starts:
        search = minimize(negative, start / scale, jac=True, method="BFGS", options=options)
        found.append(_polish(scaled, np.asarray(search.x), scale))
        if found[-1].converged:
            break
    best = max(found, key=lambda end: (end.converged, end.value))
    covariance = best.covariance * np.outer(scale, scale)
    return Maximum(best.parameters * scale, best.value, covariance, best.converged, objective, scale)


def _polish(objective: Objective, at: FloatArray, scale: FloatArray) -> Maximum:
    """Return the maximum after Newton steps with the curvature where the search ended."""
    curvature = -hessian(objective, at)
    values, vectors = np.linalg.eigh(curvature)
    floor = FLAT * float(np.abs(values).max())
    kept = values > floor
    covariance = (vectors[:, kept] / values[kept]) @ vectors[:, kept].T
    value, gain = objective(at), np.inf
    for _ in range(POLISH):
        slope = gradient(objective, at)
        step = covariance @ slope
        gain = float(slope @ step) / 2
        if gain < 1e-13:
            break
        reached = objective(at + step)
        if reached < value - 1e-10 * (1 + abs(value)):
            break
        at, value = at + step, reached
    return Maximum(at, value, covariance, bool(values.min() > -100 * floor) and gain < ACCEPTED, objective, scale)


def gradient(objective: Objective, at: FloatArray) -> FloatArray:
    """Return the (s,) derivative by central differences."""
    steps = GRADIENT_STEP * np.eye(len(at))
    return np.array([(objective(at + step) - objective(at - step)) / (2 * GRADIENT_STEP) for step in steps])


def hessian(objective: Objective, at: FloatArray) -> FloatArray:
    """Return the (s, s) second derivative by central differences, two values for each pair of parameters."""
    size, h = len(at), HESSIAN_STEP
    steps, centre = h * np.eye(size), objective(at)
    ahead, behind = ([objective(at + sign * step) for step in steps] for sign in (1, -1))
    out = np.empty((size, size))
    for i in range(size):
        out[i, i] = (ahead[i] - 2 * centre + behind[i]) / h**2
        for j in range(i):
            both = objective(at + steps[i] + steps[j]) + objective(at - steps[i] - steps[j])
            alone = ahead[i] + ahead[j] + behind[i] + behind[j]
            out[i, j] = out[j, i] = (both - alone + 2 * centre) / (2 * h**2)
    return out
