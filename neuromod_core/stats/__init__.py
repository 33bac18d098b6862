"""Inference on paired differences and on what surrounds them: arrays in, a frozen result out.

The unit is the context. Responses, items and seeds are averaged within it before they come here.

    differences      paired, sign_flip, sign_flips, max_t, bootstrap_t, bootstraps, rerandomise, dose_trend
    sameness         tost, noninferiority, noninferiority_proportions
    size             d_z, g_z, d_av, cliffs_delta, paired_delta, hedges_correction
    yes and no       tango, tango_interval, mcnemar
    ranks            friedman, page, jonckheere
    many at once     adjust, bogomolov, intersection_union
    scales           icc, alpha, omega, split_half, item_total
    blinding         guesses, bang, james, auc
    planning         power, sample_size, sample_size_proportions, detectable, simulated_power
    models           lmm, glmm, clmm, likelihood_ratio, hartung_knapp
    orders           williams
    profiles         profile, shape, sham_null, identification, concordance
"""

from neuromod_core.kernel.squares import williams
from neuromod_core.stats.blind import bang, guesses, james
from neuromod_core.stats.bootstrap import bootstrap_t, bootstraps
from neuromod_core.stats.effectsize import cliffs_delta, d_av, d_z, g_z, paired_delta
from neuromod_core.stats.factor import OneFactor, omega
from neuromod_core.stats.guessing import auc
from neuromod_core.stats.meta import RandomEffects, hartung_knapp
from neuromod_core.stats.mixed import clmm, glmm, likelihood_ratio, lmm
from neuromod_core.stats.multiplicity import Family, adjust, benjamini_bogomolov, bogomolov, intersection_union
from neuromod_core.stats.planning import detectable, power, sample_size, sample_size_proportions, simulated_power
from neuromod_core.stats.proportions import mcnemar, noninferiority_proportions, tango, tango_interval
from neuromod_core.stats.reliability import Item, alpha, icc, item_total, split_half
from neuromod_core.stats.result import Adjusted, Equivalence, Estimate, Interval, Named, Paired, Result
from neuromod_core.stats.sample import constant_by_construction
from neuromod_core.stats.sequences import rerandomise
from neuromod_core.stats.signature import (
    Identification,
    Profile,
    Signs,
    concordance,
    identification,
    profile,
    sham_null,
    shape,
)
from neuromod_core.stats.signflip import max_t, sign_flip, sign_flips
from neuromod_core.stats.student import hedges_correction, noninferiority, paired, tost
from neuromod_core.stats.trend import Friedman, dose_trend, friedman, jonckheere, page

__all__ = [
    "Adjusted",
    "Equivalence",
    "Estimate",
    "Family",
    "Friedman",
    "Identification",
    "Interval",
    "Item",
    "Named",
    "OneFactor",
    "Paired",
    "Profile",
    "RandomEffects",
    "Result",
    "Signs",
    "adjust",
    "alpha",
    "auc",
    "bang",
    "benjamini_bogomolov",
    "bogomolov",
    "bootstrap_t",
    "bootstraps",
    "cliffs_delta",
    "clmm",
    "concordance",
    "constant_by_construction",
    "d_av",
    "d_z",
    "detectable",
    "dose_trend",
    "friedman",
    "g_z",
    "glmm",
    "guesses",
    "hartung_knapp",
    "hedges_correction",
    "icc",
    "identification",
    "intersection_union",
    "item_total",
    "james",
    "jonckheere",
    "likelihood_ratio",
    "lmm",
    "max_t",
    "mcnemar",
    "noninferiority",
    "noninferiority_proportions",
    "omega",
    "page",
    "paired",
    "paired_delta",
    "power",
    "profile",
    "rerandomise",
    "sample_size",
    "sample_size_proportions",
    "sham_null",
    "shape",
    "sign_flip",
    "sign_flips",
    "simulated_power",
    "split_half",
    "tango",
    "tango_interval",
    "tost",
    "williams",
]
