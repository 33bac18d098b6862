"""Is an instrument in the training set? What contrast pairs share with the items that packs are scored on.

A vector made of an item's own words would move that item by construction: criterion contamination. Two checks:

* no five words in a row of a pair occur in an item;
* no sentence of a pair is as near to an item as the item is to itself with one word left out (the 5th percentile of
  these), in the space of the model's own states.

A text's place is its mean state at the middle layer, without the mean of all texts and the few components that they
share.  Source: Mu & Viswanath 2018 (all but the top).  The space of a small model sees copies and near-copies; how near
it puts true paraphrases is reported beside, so that nobody takes it for a judge of meaning.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from neuromod_core.calibrate.contrast import Pair
from neuromod_core.calibrate.methods import unit
from neuromod_core.calibrate.wording import words
from neuromod_core.instruments import Scale
from neuromod_core.kernel.errors import CalibrationError
from neuromod_core.kernel.types import digest, plain

FIVE = 5
COMMON = 8  # shared components that are taken out
Array = NDArray[np.float64]
Items = Mapping[str, Sequence[str]]
Embed = Callable[[Sequence[str]], Array]


@dataclass(frozen=True)
class Nearest:
    """The sentence of a contrast set that comes nearest to an item, and the cosine of the two."""

    concept: str
    sentence: str
    item: str
    cosine: float


@dataclass(frozen=True)
class Leaks:
    """What contrast sets share with instruments.

    texts: digest of everything that was compared.  phrases: (concept, item, five words) that occur in both.
    near: 5th percentile of the cosines of wordings with themselves less one word: what counts as near.
    paraphrases: median cosine of an item's wording with the nearest other wording of it.  nearest: of every concept.
    """

    texts: str
    phrases: tuple[tuple[str, str, str], ...]
    near: float
    paraphrases: float
    nearest: tuple[Nearest, ...]

    @property
    def found(self) -> list[str]:
        """What must not be, one clause each."""
        shared = [f"{concept} and {item} share {phrase!r}" for concept, item, phrase in self.phrases]
        close = [
            f"{one.concept}: {one.sentence!r} is as near to {one.item} ({one.cosine:.2f}) as a copy less one word "
            f"({self.near:.2f})"
            for one in self.nearest
            if one.cosine >= self.near
        ]
        return shared + close


def texts_of(contrast: Mapping[str, Sequence[Pair]], items: Items) -> str:
    """Return the digest of pairs and items."""
    return digest([plain(contrast), plain(items)])


def items_of(scales: Iterable[Scale]) -> dict[str, list[str]]:
    """Return "item pole" -> its wordings, of every item that has paraphrases."""
    return {
        f"{item.id} {pole}": [getattr(wording, pole) for wording in item.wordings]
        for scale in scales
        for item in scale.items
        if item.paraphrases
        for pole in ("keyed", "antonym")
    }


def phrases(text: str, n: int = FIVE) -> set[str]:
    """Return all runs of n words of a text."""
    parts = words(text)
    return {" ".join(parts[at : at + n]) for at in range(len(parts) - n + 1)}


def places(states: Array) -> Array:
    """Return unit places of mean states (texts, width): without their mean and their shared components."""
    centred = states - states.mean(0)
    _, vectors = np.linalg.eigh(centred.T @ centred)
    shared = vectors[:, vectors.shape[1] - COMMON :]
    return unit(centred - centred @ shared @ shared.T)


def shared_phrases(contrast: Mapping[str, Sequence[Pair]], items: Items) -> tuple[tuple[str, str, str], ...]:
    """Return (concept, item, phrase) of every run of five words that a pair and an item have in common."""
    where: dict[str, set[str]] = {}
    for item, wordings in items.items():
        for phrase in set().union(*(phrases(text) for text in wordings)):
            where.setdefault(phrase, set()).add(item)
    found = {
        (concept, item, phrase)
        for concept, pairs in contrast.items()
        for pair in pairs
        for phrase in phrases(pair.positive) | phrases(pair.negative)
        for item in where.get(phrase, ())
    }
    return tuple(sorted(found))


def leaks(contrast: Mapping[str, Sequence[Pair]], items: Items, embed: Embed) -> Leaks:
    """Return what contrast sets share with items.

    items: name -> its wordings, at least two.  embed: mean states (texts, width).

    Raises:
        CalibrationError: for an item with a single wording.
    """
    if lonely := [item for item, wordings in items.items() if len(wordings) < 2]:
        raise CalibrationError(f"Item {lonely[0]} has one wording; at least two are compared.")
    said = [(item, text) for item, wordings in items.items() for text in wordings]
    sentences = [
        (name, t) for name, pairs in contrast.items() for pair in pairs for t in (pair.positive, pair.negative)
    ]
    copies = [_less_one_word(text) for _, text in said]
    found = places(embed([text for _, text in (*sentences, *said)] + copies))
    where, copied = found[: len(sentences) + len(said)], found[len(sentences) + len(said) :]
    own = where[len(sentences) :]
    cosines = where[: len(sentences)] @ own.T
    owners = np.array([name for name, _ in sentences])
    nearest = []
    for concept in contrast:
        rows = np.flatnonzero(owners == concept)
        row, column = np.unravel_index(int(cosines[rows].argmax()), (len(rows), len(said)))
        sentence, item = sentences[rows[row]][1], said[column][0]
        nearest.append(Nearest(concept, sentence, item, round(float(cosines[rows[row], column]), 4)))
    near = round(float(np.quantile((own * copied).sum(1), 0.05)), 4)
    paraphrases = round(float(np.median(_own(own, [item for item, _ in said]))), 4)
    return Leaks(texts_of(contrast, items), shared_phrases(contrast, items), near, paraphrases, tuple(nearest))


def _less_one_word(text: str) -> str:
    """Return a text without its middle word."""
    parts = text.split()
    return " ".join(parts[: len(parts) // 2] + parts[len(parts) // 2 + 1 :])


def _own(where: Array, names: Sequence[str]) -> Array:
    """Return the largest cosine of every wording with another wording of its item."""
    named = np.array(names)
    same = (named[:, None] == named[None, :]) & ~np.eye(len(named), dtype=bool)
    result: Array = np.where(same, where @ where.T, -1.0).max(axis=1)
    return result
