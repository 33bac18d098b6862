"""Behavioural tasks: what a responder can do, beside what it says of itself. Generators and scoring only, no model.

A perfect responder scores 1, a random one chance, and an empty answer is missing, never 0.
"""

from neuromod_core.instruments.tasks import arithmetic, logic, recall
from neuromod_core.instruments.tasks.banks import (
    Figure,
    Preference,
    PublicFact,
    load_facts,
    load_figures,
    preference,
)
from neuromod_core.instruments.tasks.certainty import Certainty, certainty, probabilities
from neuromod_core.instruments.tasks.constraints import CONSTRAINTS, Constraint
from neuromod_core.instruments.tasks.divergence import Divergence, divergence
from neuromod_core.instruments.tasks.generated import TASKS, problems
from neuromod_core.instruments.tasks.instructions import (
    Instruction,
    adherence,
    by_accident,
    instructions,
    unmet,
)
from neuromod_core.instruments.tasks.problem import Mark, Problem, Tally, by_level, exact, rank, tally
from neuromod_core.instruments.tasks.public import (
    PUBLIC,
    MinimalPair,
    PublicFile,
    adopt,
    fetch,
    load_blimp,
    load_wikitext,
    place,
    read_public,
    shorten_blimp,
    why_absent,
)
from neuromod_core.instruments.tasks.reading import Passage, Perplexity, grammaticality, perplexity
from neuromod_core.instruments.tasks.recall import Detection, detection, yes_over_no
from neuromod_core.instruments.tasks.summaries import Account, Fact, coverage, load_accounts

__all__ = [
    "CONSTRAINTS",
    "PUBLIC",
    "TASKS",
    "Account",
    "Certainty",
    "Constraint",
    "Detection",
    "Divergence",
    "Fact",
    "Figure",
    "Instruction",
    "Mark",
    "MinimalPair",
    "Passage",
    "Perplexity",
    "Preference",
    "Problem",
    "PublicFact",
    "PublicFile",
    "Tally",
    "adherence",
    "adopt",
    "arithmetic",
    "by_accident",
    "by_level",
    "certainty",
    "coverage",
    "detection",
    "divergence",
    "exact",
    "fetch",
    "grammaticality",
    "instructions",
    "load_accounts",
    "load_blimp",
    "load_facts",
    "load_figures",
    "load_wikitext",
    "logic",
    "perplexity",
    "place",
    "preference",
    "probabilities",
    "problems",
    "rank",
    "read_public",
    "recall",
    "shorten_blimp",
    "tally",
    "unmet",
    "why_absent",
    "yes_over_no",
]
