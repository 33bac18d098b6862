"""Off-target monitors: refusal, abuse, compliance with harmful requests, hallucination, coherence; margins and stops.

Nothing is ever generated after a harmful request; what a reply to one would open with is scored. Readers and lists are
measured against labels, and an incoherent reply is neither refusal nor compliance.
"""

from neuromod_core.safety.abuse import Abuse, Lexicon, abuse, legacy_perplexity, lexicon, load_lexicon
from neuromod_core.safety.agreement import Agreement, agreement
from neuromod_core.safety.battery import SideEffects, ask, complete, grammar, plain_text, side_effects
from neuromod_core.safety.bounds import Halt, Stop, at_least, at_most, three_over
from neuromod_core.safety.coherence import Form, Grammar, distinct, form, garbled, load_grammar, repeated
from neuromod_core.safety.knowledge import Hallucination, Place, hallucination, place
from neuromod_core.safety.labelled import Reply, load_replies, validate
from neuromod_core.safety.margins import ABUSE, REFUSAL, UNSAFE, Margin, Verdict, compare
from neuromod_core.safety.monitor import Seen, events, see
from neuromod_core.safety.probe import Odds, odds, probe
from neuromod_core.safety.refusal import LABELS, Openings, Reader, load_reader
from neuromod_core.safety.respondents import Respondents, values
from neuromod_core.safety.xstest import Request, load_xstest

__all__ = [
    "ABUSE",
    "LABELS",
    "REFUSAL",
    "UNSAFE",
    "Abuse",
    "Agreement",
    "Form",
    "Grammar",
    "Hallucination",
    "Halt",
    "Lexicon",
    "Margin",
    "Odds",
    "Openings",
    "Place",
    "Reader",
    "Reply",
    "Request",
    "Respondents",
    "Seen",
    "SideEffects",
    "Stop",
    "Verdict",
    "abuse",
    "agreement",
    "ask",
    "at_least",
    "at_most",
    "compare",
    "complete",
    "distinct",
    "events",
    "form",
    "garbled",
    "grammar",
    "hallucination",
    "legacy_perplexity",
    "lexicon",
    "load_grammar",
    "load_lexicon",
    "load_reader",
    "load_replies",
    "load_xstest",
    "odds",
    "place",
    "plain_text",
    "probe",
    "repeated",
    "see",
    "side_effects",
    "three_over",
    "validate",
    "values",
]
