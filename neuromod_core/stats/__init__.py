"""Inference on paired differences: one number per unit and contrast in, a frozen result out.

The unit is the context. Responses, items and seeds are averaged within it before they come here.
"""

from neuromod_core.stats.bootstrap import bootstrap_t
from neuromod_core.stats.multiplicity import Family, adjust, benjamini_bogomolov, intersection_union
from neuromod_core.stats.result import Adjusted, Equivalence, Interval, Paired, Result
from neuromod_core.stats.sample import constant_by_construction
from neuromod_core.stats.signflip import max_t, sign_flip
from neuromod_core.stats.student import hedges_correction, paired, tost

__all__ = [
    "Adjusted",
    "Equivalence",
    "Family",
    "Interval",
    "Paired",
    "Result",
    "adjust",
    "benjamini_bogomolov",
    "bootstrap_t",
    "constant_by_construction",
    "hedges_correction",
    "intersection_union",
    "max_t",
    "paired",
    "sign_flip",
    "tost",
]
