"""The course of a story: a reading per sentence, its mean, its change, its path on a common clock."""

from __future__ import annotations

import re
from dataclasses import dataclass

import numpy as np

from neuromod_core.affect.reader import Array, Reader

STEPS = 5  # of the common clock
_END = re.compile(r"(?<=[.!?])[\"'\u201d\u2019)]*\s+")
_SAYS = re.compile(r"\w")


def sentences(text: str) -> tuple[str, ...]:
    """Return the sentences of a text, by its full stops, exclamation and question marks and line breaks.

    >>> sentences("He ran. Why? " + chr(10) + "No one knew")
    ('He ran.', 'Why?', 'No one knew')
    """
    parts = [part.strip() for line in text.splitlines() for part in _END.split(line)]
    return tuple(part for part in parts if _SAYS.search(part))


@dataclass(frozen=True, eq=False)
class Course:
    """The readings of one story. readings: (sentences, dimensions)."""

    dimensions: tuple[str, ...]
    sentences: tuple[str, ...]
    readings: Array

    @property
    def mean(self) -> Array:
        """Mean over sentences, (dimensions,)."""
        return np.asarray(self.readings.mean(axis=0))

    @property
    def change(self) -> Array:
        """Mean of the second half less mean of the first, (dimensions,); NaN for a story of one sentence."""
        half = len(self.readings) // 2
        if not half:
            return np.full(len(self.dimensions), np.nan)
        return np.asarray(self.readings[-half:].mean(axis=0) - self.readings[:half].mean(axis=0))

    @property
    def path(self) -> Array:
        """Readings on a common clock of `STEPS` steps from the first sentence to the last, (steps, dimensions)."""
        places = np.linspace(0, len(self.readings) - 1, STEPS)
        known = np.arange(len(self.readings))
        columns = [np.interp(places, known, self.readings[:, one]) for one in range(len(self.dimensions))]
        return np.stack(columns, axis=1)


def course(reader: Reader, text: str) -> Course | None:
    """Return the course of a story, None for a text without a word."""
    found = sentences(text)
    return Course(reader.dimensions, found, reader.read(found)) if found else None
