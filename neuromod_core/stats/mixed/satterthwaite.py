"""Satterthwaite's degrees of freedom of contrasts of fixed effects.

Source: Giesbrecht & Burns 1985, Biometrics 41:477;  Fai & Cornelius 1996, J Stat Comput Simul 54:363;
Kuznetsova, Brockhoff & Christensen 2017, J Stat Softw 82(13).
"""

from __future__ import annotations

import numpy as np

from neuromod_core.stats.mixed.estimate import Estimate
from neuromod_core.stats.mixed.kenward_roger import FixedEffects, Joint
from neuromod_core.stats.sample import FloatArray

SAME = 1e-8


def degrees(found: Estimate, fixed: FixedEffects, contrast: FloatArray) -> float:
    """Return the degrees of freedom of one (p,) contrast.

    Formula:  nu = 2 (l' Phi l)^2 / (g' A g),  g = d(l' Phi l) and A the covariance of the variance parameters.
    """
    turned = fixed.plain @ contrast
    gradient = -found.jacobian @ np.einsum("a,rab,b->r", turned, fixed.slopes, turned)
    return 2 * float(contrast @ turned) ** 2 / float(gradient @ found.covariance @ gradient)


def joint(found: Estimate, fixed: FixedEffects, contrast: FloatArray) -> Joint:
    """Return the F test that the (d, p) contrast of full row rank is zero.

    The contrast is turned into d independent ones; df2 = 2 E / (E - d) with E = sum of nu_m / (nu_m - 2).
    """
    values, vectors = np.linalg.eigh(contrast @ fixed.plain @ contrast.T)
    turned = vectors.T @ contrast
    each = [degrees(found, fixed, row) for row in turned]
    statistic = float(np.mean((turned @ fixed.beta) ** 2 / values))
    return Joint(statistic, len(contrast), _pooled(each))


def _pooled(each: list[float]) -> float:
    """Return the degrees of freedom of the mean of squared t statistics."""
    if max(each) - min(each) < SAME * max(each):
        return float(np.mean(each))
    if min(each) <= 2:
        return 2.0
    expected = sum(nu / (nu - 2) for nu in each)
    return 2 * expected / (expected - len(each))
