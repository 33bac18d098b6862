"""Whether answers follow the sentence at all: rules on the answers of one respondent, in levels of the option key.

This module knows numbers only: no text, no model, no arm.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Sequence

import numpy as np
from numpy.typing import ArrayLike

from neuromod_core.instruments.options import Order, levels

MAX_ACQUIESCENCE = 1.0  # levels
INSTRUCTED_SHARE = 0.75  # of the instructed responses must be as told


def most_likely(option_logprobs: ArrayLike, order: Order) -> int | None:
    """Return the level of the most probable option, the first of equals; None where every option is excluded.

    Args:
        option_logprobs: log-probabilities of the options in the order shown, shape (options,).
        order: `descending` means that the first option stands for the highest level.
    """
    logprobs = np.asarray(option_logprobs, dtype=np.float64)
    best = int(np.argmax(logprobs))
    return None if logprobs[best] == -math.inf else levels(order, logprobs.size)[best]


def acquiescence(keyed: float, antonym: float, count: int) -> float:
    """Return  A = (keyed + antonym) / 2 - (count - 1) / 2,  in levels: 0 where a sentence and its opposite balance.

    Args:
        keyed, antonym: expected levels, from 0 to count - 1, of a sentence and of its opposite.
        count: number of options.

    Source: Paulhus 1991, in Robinson, Shaver & Wrightsman, Measures of Personality, ch. 2 (balanced keys).
    """
    return (keyed + antonym) / 2 - (count - 1) / 2


def inconsistent(keyed: float, antonym: float, count: int) -> str | None:
    """Return why a sentence and its opposite contradict each other: |A| above one level; None where they do not."""
    shift = acquiescence(keyed, antonym, count)
    if abs(shift) <= MAX_ACQUIESCENCE:
        return None
    way = "affirmed" if shift > 0 else "denied"
    return (
        f"a sentence and its opposite are both {way}: {abs(shift):.2f} levels off balance, {MAX_ACQUIESCENCE:g} allowed"
    )


def careless(answers: Sequence[int | None], expected: Sequence[Collection[int]]) -> str | None:
    """Return why instructed responses fail: fewer than three quarters are as told; None where they pass.

    Args:
        answers: the most likely level of each instructed response, None where there is none.
        expected: the levels that count as right, for each.

    Source: Meade & Craig 2012, Psychological Methods 17:437 (instructed responses).
    """
    right = sum(answer in told for answer, told in zip(answers, expected, strict=True))
    needed = math.ceil(INSTRUCTED_SHARE * len(answers))
    return None if right >= needed else f"instructed responses: {right} of {len(answers)} as told, {needed} needed"
