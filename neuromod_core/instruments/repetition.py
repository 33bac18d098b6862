"""How much a text repeats itself, in tokens."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from itertools import pairwise


def distinct_pairs(tokens: Sequence[int]) -> float | None:
    """Return distinct-2, the share of different adjacent token pairs; None for fewer than two tokens."""
    pairs = list(pairwise(tokens))
    return len(set(pairs)) / len(pairs) if pairs else None


def repeated_share(tokens: Sequence[int], size: int = 4) -> float | None:
    """Return the share of n-grams that occurred before in the same text; None for a text shorter than one."""
    grams = [tuple(tokens[start : start + size]) for start in range(len(tokens) - size + 1)]
    return sum(count - 1 for count in Counter(grams).values()) / len(grams) if grams else None
