"""What a participant is asked, and how the answer becomes a number: scales, contexts, frames, prompts, scores, hygiene.

This package knows no model, token, pack or arm. Its scales are study-specific indices, without norms from people.
"""

from neuromod_core.instruments.hygiene import Leak, forbidden_words, is_negated, leaks, ngrams, shared_ngrams, words
from neuromod_core.instruments.load import (
    load_frames,
    load_openers,
    load_passages,
    load_scale,
    load_scales,
    load_validity,
    load_vignettes,
)
from neuromod_core.instruments.options import Order, levels
from neuromod_core.instruments.prompts import (
    Message,
    Prompt,
    legend,
    option_prefix,
    option_tail,
    statement_messages,
)
from neuromod_core.instruments.scoring import (
    ItemScore,
    OptionScore,
    Score,
    option_expected,
    option_score,
    statement_contrast,
    statement_score,
)
from neuromod_core.instruments.texts import (
    Check,
    Frames,
    Item,
    Opener,
    Passage,
    Scale,
    Source,
    State,
    Subscale,
    Vignette,
    Wording,
)

__all__ = [
    "Check",
    "Frames",
    "Item",
    "ItemScore",
    "Leak",
    "Message",
    "Opener",
    "OptionScore",
    "Order",
    "Passage",
    "Prompt",
    "Scale",
    "Score",
    "Source",
    "State",
    "Subscale",
    "Vignette",
    "Wording",
    "forbidden_words",
    "is_negated",
    "leaks",
    "legend",
    "levels",
    "load_frames",
    "load_openers",
    "load_passages",
    "load_scale",
    "load_scales",
    "load_validity",
    "load_vignettes",
    "ngrams",
    "option_expected",
    "option_prefix",
    "option_score",
    "option_tail",
    "shared_ngrams",
    "statement_contrast",
    "statement_messages",
    "statement_score",
    "words",
]
