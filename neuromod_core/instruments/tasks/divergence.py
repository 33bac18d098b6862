"""Divergent association: how far apart in meaning are the nouns that a responder names.

Source: Olson et al. 2021, PNAS 118:e2022340118 (ten nouns are asked for, the first seven valid ones count).
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from neuromod_core.instruments.tasks.problem import EMPTY, Cell
from neuromod_core.kernel.errors import DataError

Embed: TypeAlias = Callable[[str], Sequence[float] | None]
PROMPT = (
    "Write ten single English nouns that differ from each other as much as possible in all their meanings and uses. "
    "No names, no technical terms. One noun a line, nothing else."
)
COUNTED = 7
_BEFORE = re.compile(r"^\s*(?:\d+[.)]?|[-*\u2022])?\s*")


@dataclass(frozen=True)
class Divergence:
    """Mean distance between named nouns, 0 (same direction) ... 1 (orthogonal) ... 2; None with a reason if too few.

    words: those that counted.  n_named: all that were named, repetitions and unknown words included.
    """

    value: float | None
    words: tuple[str, ...]
    n_named: int
    reason: str | None

    def __str__(self) -> str:
        if self.value is None:
            return f"divergence missing ({self.reason}), {self.n_named} named"
        return f"divergence {self.value:.2f} over {', '.join(self.words)} ({self.n_named} named)"

    def as_row(self) -> dict[str, Cell]:
        """Return the row of a table of scores."""
        return {
            "value": self.value,
            "n_named": self.n_named,
            "n_valid": len(self.words),
            "reason": self.reason,
        }


def named(text: str) -> tuple[str, ...]:
    """Return what a text names, in small letters: one entry a line or between commas, numbers and bullets taken off.

    >>> named("1. Lamp\\n2. river\\n- a tax, glue.")
    ('lamp', 'river', 'a tax', 'glue')
    """
    entries = (_BEFORE.sub("", entry).strip(" .;:\t").lower() for entry in re.split(r"[\n,]", text))
    return tuple(entry for entry in entries if entry)


def divergence(text: str, embed: Embed) -> Divergence:
    """Return the mean cosine distance between the first seven valid nouns of a text.

    Formula:  mean over pairs of  1 - u . v / (|u| |v|).  Valid is a single word that `embed` knows (None: it does not)
    and that was not named before. Whether a word is a noun is up to `embed`, which may know nouns only.

    Raises:
        DataError: for an embedding that is zero, not finite, or of another length than the others.
    """
    entries = named(text)
    found: dict[str, NDArray[np.float64]] = {}
    for entry in entries:
        vector = embed(entry) if entry.isalpha() and entry not in found else None
        if vector is not None and len(found) < COUNTED:
            found[entry] = _unit(entry, vector)
    if len(found) < COUNTED:
        reason = f"{len(found)} valid nouns, {COUNTED} are needed" if text.strip() else EMPTY
        return Divergence(None, tuple(found), len(entries), reason)
    if len({vector.size for vector in found.values()}) > 1:
        raise DataError("The embeddings of the nouns differ in length.")
    distances = [1 - float(u @ v) for u, v in combinations(found.values(), 2)]
    return Divergence(math.fsum(distances) / len(distances), tuple(found), len(entries), None)


def _unit(word: str, vector: Sequence[float]) -> NDArray[np.float64]:
    array = np.asarray(vector, dtype=np.float64)
    length = float(np.linalg.norm(array))
    if array.ndim != 1 or not math.isfinite(length) or length == 0:
        raise DataError(f"The embedding of {word!r} is not a finite vector with a direction.")
    return array / length
