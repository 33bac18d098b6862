"""Side effects on ordinary language: grammaticality by minimal pairs, and perplexity of plain text. Numbers come in."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from neuromod_core.instruments.tasks.problem import EXCLUDED, UNREAD, Cell, Mark
from neuromod_core.instruments.tasks.public import MinimalPair
from neuromod_core.kernel.errors import DataError

GRAMMAR = "grammar"


def grammaticality(pair: MinimalPair, good: float | None, bad: float | None) -> Mark:
    """Return the mark of a minimal pair from whole-sentence log-likelihoods, nats: 1 if the good one is likelier.

    Formula:  [ll(good) > ll(bad)] + [equal] / 2;  chance 1/2.  Source: Warstadt et al. 2020.

    Raises:
        DataError: for a log-likelihood that is NaN.
    """
    if good is None or bad is None:
        return Mark(pair.uid, GRAMMAR, 1, None, 0.5, UNREAD)
    if math.isnan(good) or math.isnan(bad):
        raise DataError(f"{pair.uid}: a log-likelihood is not a number.")
    if good == bad == -math.inf:
        return Mark(pair.uid, GRAMMAR, 1, None, 0.5, EXCLUDED)
    return Mark(pair.uid, GRAMMAR, 1, (good > bad) + 0.5 * (good == bad), 0.5)


@dataclass(frozen=True)
class Passage:
    """Log-likelihood (nats) of a text that was read, and what it is a likelihood of: its tokens and UTF-8 bytes."""

    loglik: float
    tokens: int
    bytes: int


@dataclass(frozen=True)
class Perplexity:
    """Perplexity per token, and bits per byte, which compares models of different vocabularies; None with a reason."""

    per_token: float | None
    bits_per_byte: float | None
    n_texts: int
    n_tokens: int
    reason: str | None

    def __str__(self) -> str:
        if self.per_token is None or self.bits_per_byte is None:
            return f"perplexity missing ({self.reason})"
        return f"perplexity {self.per_token:.2f}, {self.bits_per_byte:.3f} bits a byte, {self.n_tokens} tokens"

    def as_row(self) -> dict[str, Cell]:
        """Return the row of a table of scores."""
        return {
            "perplexity": self.per_token,
            "bits_per_byte": self.bits_per_byte,
            "n_texts": self.n_texts,
            "n_tokens": self.n_tokens,
            "reason": self.reason,
        }


def perplexity(passages: Sequence[Passage]) -> Perplexity:
    """Return the perplexity of texts taken together.

    Formula:  exp(-sum of ll / tokens);  bits per byte  -sum of ll / (ln 2 bytes).  A text that the sampler excludes
    (minus infinity) makes it missing: an infinite perplexity has no place in a mean.

    Raises:
        DataError: for no texts, one without tokens or bytes, or a log-likelihood that is NaN or above 0.
    """
    if not passages or any(text.tokens < 1 or text.bytes < 1 for text in passages):
        raise DataError("Perplexity needs at least one text, each with tokens and bytes.")
    if any(math.isnan(text.loglik) or text.loglik > 0 for text in passages):
        raise DataError("A log-likelihood is NaN or above 0.")
    tokens, total = sum(text.tokens for text in passages), math.fsum(text.loglik for text in passages)
    if math.isinf(total):
        return Perplexity(None, None, len(passages), tokens, "the sampler excludes a token of a text")
    size = sum(text.bytes for text in passages)
    return Perplexity(math.exp(-total / tokens), -total / (math.log(2) * size), len(passages), tokens, None)


def unread(reason: str) -> Perplexity:
    """Return a perplexity that was not measured, for this reason."""
    return Perplexity(None, None, 0, 0, reason)
