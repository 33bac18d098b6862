"""Kenward and Roger's small-sample covariance of the fixed effects, and the F test that belongs to it.

Source: Kenward & Roger 1997, Biometrics 53:983;  Halekoh & Hojsgaard 2014, J Stat Softw 59(9).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from neuromod_core.kernel.errors import DataError
from neuromod_core.stats.mixed.criterion import Products
from neuromod_core.stats.mixed.estimate import FLAT, Estimate
from neuromod_core.stats.mixed.information import directions, exchange
from neuromod_core.stats.sample import FloatArray


class Joint(NamedTuple):
    """An F statistic, scaled, on (df1, df2)."""

    statistic: float
    df1: int
    df2: float


@dataclass(frozen=True)
class FixedEffects:
    """Generalised least squares in the units of `Products`.

    beta: (p,).  plain: (p, p), Phi = (X'V^-1 X)^-1.  slopes: (r, p, p), of Phi^-1 by each variance component.
    """

    beta: FloatArray
    plain: FloatArray
    slopes: FloatArray


def fixed_effects(given: Products, found: Estimate) -> FixedEffects:
    """Return beta, Phi and the derivatives of its inverse:  d Phi^-1 / d gamma_i = -X'V^-1 V_i V^-1 X."""
    variance = float(found.information.gamma[0])
    root = found.solution.root
    scores = found.solution.zhx / variance
    moved = directions(given, scores)
    inner = np.einsum("qa,rqb->rab", scores, moved)
    along = np.concatenate([(root @ root.T / variance)[None], inner])
    slopes = -np.einsum("ij,jab->iab", exchange(found.information.gamma), along)
    inverse = np.linalg.inv(root)
    return FixedEffects(found.solution.beta, variance * inverse.T @ inverse, slopes)


class Adjusted(NamedTuple):
    """The adjusted (p, p) covariance, and the (r, r) asymptotic covariance of the variance components."""

    covariance: FloatArray
    components: FloatArray


def adjusted(given: Products, found: Estimate, fixed: FixedEffects) -> Adjusted:
    """Return the covariance that allows for the estimation of the variance components.

    Formula:  Phi_A = Phi + 2 Phi {sum_ij W_ij (Q_ij - P_i Phi P_j)} Phi,  W = 2 [tr(P V_i P V_j)]^-1,
    P_i = -X'V^-1 V_i V^-1 X,  Q_ij = X'V^-1 V_i V^-1 V_j V^-1 X.

    Raises:
        DataError: when it is not positive definite, as can be with very few levels.
    """
    w = 2 * np.linalg.pinv(found.information.traces, rcond=FLAT**1.5, hermitian=True)
    variance = float(found.information.gamma[0])
    scores = found.solution.zhx / variance
    moved = directions(given, scores)
    r, q, p = moved.shape
    inner = (given.zz - found.solution.half.square()) / variance
    flat = moved.transpose(1, 0, 2).reshape(q, r * p)
    seconds = np.empty((r + 1, p, r + 1, p))
    seconds[1:, :, 1:] = (flat.T @ (inner @ flat)).reshape(r, p, r, p)
    firsts = np.einsum("qa,rqb->rab", scores, moved)
    seconds[0, :, 1:] = firsts.transpose(1, 0, 2)
    seconds[1:, :, 0] = firsts
    root = found.solution.root
    seconds[0, :, 0] = root @ root.T / variance
    change = exchange(found.information.gamma)
    turned = change.T @ w @ change
    middle = np.einsum("ij,iajb->ab", turned, seconds)
    middle -= np.einsum("ij,iab,bc,jcd->ad", w, fixed.slopes, fixed.plain, fixed.slopes, optimize=True)
    covariance = fixed.plain + 2 * fixed.plain @ middle @ fixed.plain
    covariance = (covariance + covariance.T) / 2
    if np.linalg.eigvalsh(covariance).min() <= 0:
        raise DataError(
            "Kenward-Roger's covariance of the fixed effects is not positive for these data: there are too few levels "
            "for the random effects. Leave effects out, or ask for df='satterthwaite'."
        )
    return Adjusted(covariance, np.asarray(w))


def joint(fixed: FixedEffects, small: Adjusted, contrast: FloatArray) -> Joint:
    """Return the scaled F test that the (d, p) contrast of full row rank is zero.

    Formula:  F = lambda / d (L beta)' (L Phi_A L')^-1 (L beta) on (d, m), lambda and m from A1 and A2 of the paper.

    Raises:
        DataError: when the moments that these match do not exist, as can be with very few levels.
    """
    d = len(contrast)
    estimates = contrast @ fixed.beta
    wald = float(estimates @ np.linalg.solve(contrast @ small.covariance @ contrast.T, estimates)) / d
    df, scale = _moments(fixed, small, contrast)
    return Joint(scale * wald, d, df)


def degrees(fixed: FixedEffects, small: Adjusted, contrast: FloatArray) -> float:
    """Return the denominator degrees of freedom of a (d, p) contrast.

    Raises:
        DataError: as `joint`.
    """
    return _moments(fixed, small, contrast)[0]


def _moments(fixed: FixedEffects, small: Adjusted, contrast: FloatArray) -> tuple[float, float]:
    """Return m and lambda, which match the first two moments of F."""
    d = len(contrast)
    lphi = contrast @ fixed.plain
    root = np.linalg.cholesky(lphi @ contrast.T)
    half = np.linalg.solve(root, lphi)
    each = np.einsum("ab,rbc,dc->rad", half, fixed.slopes, half)  # (r, d, d): similar to Theta Phi P_i Phi
    traces = np.trace(each, axis1=1, axis2=2)
    a1 = float(traces @ small.components @ traces)
    if d == 1:
        return 2 / a1, 1.0  # what the general expressions below come to
    a2 = float(np.einsum("ij,iab,jba->", small.components, each, each, optimize=True))
    b = (a1 + 6 * a2) / (2 * d)
    g = ((d + 1) * a1 - (d + 4) * a2) / ((d + 2) * a2)
    bottom = 3 * d + 2 * (1 - g)
    c1, c2, c3 = g / bottom, (d - g) / bottom, (d + 2 - g) / bottom
    top = 1 + c1 * b
    if abs(top) < 1e-10:
        top = 0.0
    expected = 1 - a2 / d
    rho = (expected / (1 - c2 * b)) ** 2 * top / (1 - c3 * b) / d
    df = 4 + (d + 2) / (d * rho - 1)
    if not (df > 0 and expected > 0):
        raise DataError(
            f"Kenward-Roger's moments of a test on {d} degrees of freedom do not exist for these data: there are too "
            "few levels for the random effects. Leave effects out, or ask for df='satterthwaite'."
        )
    return df, 1.0 if abs(df - 2) < 1e-2 else df * expected / (df - 2)
