"""The names of readings, and of what is asked beside the scales."""

OPTIONS, TEXTS, SAMPLED, STATEMENT = "options", "texts", "sampled", "statement"
"""How an item is read: first token of an answer by option, its whole text, a sampled reply, the pair of sentences."""

ANTONYM, VALIDITY, CONTENT_FREE = "antonym", "validity", "content_free"
"""Instruments beside the scales: antonyms of consistency items, checks, sentences that say nothing."""

READINGS = (
    *("statement_raw", "statement_expressed", "options_raw", "options_expressed"),
    *("texts_raw", "texts_expressed", "sampled_expressed"),
)
"""What scores are read from: raw (the model's) or expressed (after the pack's sampler). Replies are drawn after it."""

BY_OPTION = (OPTIONS, TEXTS)
PREFERRED = (*BY_OPTION, STATEMENT)
"""Readings that may be primary, in order of preference: the first whose positive control passes on the primary scale.
What a person would be asked comes first, the reading that a small model can give comes last."""
