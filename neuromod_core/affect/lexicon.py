"""The baseline reader: how often a text uses the words of a public list. It knows no negation and no context."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from neuromod_core.affect.plutchik import DIMENSIONS
from neuromod_core.affect.reader import Array

_WORD = re.compile(r"[^\W\d_]+(?:'[^\W\d_]+)*")


@dataclass(frozen=True)
class Lexicon:
    """Words per emotion, of the categories of Empath that bear the emotion's name.

    Formula:  words of the list / words of the text;  0 for a text without words.
    Source: Fast, Chen & Bernstein 2016, CHI.
    """

    words: Mapping[str, frozenset[str]]

    @property
    def name(self) -> str:
        """What the reader is called."""
        return "empath"

    @property
    def dimensions(self) -> tuple[str, ...]:
        """The emotions it has words for."""
        return tuple(self.words)

    def read(self, texts: Sequence[str]) -> Array:
        """Return the share of words of each emotion, (texts, dimensions)."""
        rates = [[self._rate(_WORD.findall(text.lower()), name) for name in self.words] for text in texts]
        return np.array(rates, dtype=np.float64).reshape(len(texts), len(self.words))

    def _rate(self, found: Sequence[str], name: str) -> float:
        return sum(word in self.words[name] for word in found) / len(found) if found else 0.0


def parse_empath(text: str) -> Lexicon:
    """Return the lexicon in the text of Empath's categories: one a line, its name first, tab separated."""
    rows = [line.split("\t") for line in text.splitlines() if line]
    lists = {row[0]: frozenset(word.lower() for word in row[1:]) for row in rows}
    return Lexicon({name: lists[name] for name in DIMENSIONS if name in lists})
