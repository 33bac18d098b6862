"""Mixed models: linear with honest degrees of freedom, binomial, and ordinal.

For rows within units: several items, samples or doses of one context. A table and formulas in, a frozen fit out.
"""

from neuromod_core.stats.mixed.asymptotic import LikelihoodFit, likelihood_ratio
from neuromod_core.stats.mixed.clmm import OrdinalFit, clmm
from neuromod_core.stats.mixed.glmm import glmm
from neuromod_core.stats.mixed.lmm import LinearFit, lmm
from neuromod_core.stats.mixed.result import Coefficient, Component, LatentCoefficient, TermTest

__all__ = [
    "Coefficient",
    "Component",
    "LatentCoefficient",
    "LikelihoodFit",
    "LinearFit",
    "OrdinalFit",
    "TermTest",
    "clmm",
    "glmm",
    "likelihood_ratio",
    "lmm",
]
