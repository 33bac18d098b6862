"""What an effect may know about where it acts: the model's shape, its calibration, the place and the step.

Rows come first in every tensor. Positions count tokens from 0 and are negative at left padding.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from torch import Tensor

from neuromod_core.kernel.errors import MissingVector
from neuromod_core.kernel.register import unknown


@dataclass(frozen=True)
class Shape:
    """Counts an effect needs to size its tables."""

    depth: int
    heads: int
    width: int
    vocabulary: int


@dataclass(frozen=True, eq=False)
class Vector:
    """A calibrated steering vector.

    layer: the block whose output it is added to.  direction: (width,), unit norm, positive pole up.
    stream_norm: median norm of the residual stream there, token 0 excluded: the unit of a relative dose.
    valid: whether it passed its own validation (leave-topics-out permutation test).
    """

    name: str
    layer: int
    direction: Tensor
    stream_norm: float
    valid: bool


@dataclass(frozen=True, eq=False)
class Subject:
    """One model as effects see it: its shape and what was calibrated on it.

    head_sets: name -> (depth, heads) bool.  lexicons: name -> token ids of a word list.
    """

    name: str
    shape: Shape
    vectors: Mapping[str, Vector] = field(default_factory=dict)
    head_sets: Mapping[str, Tensor] = field(default_factory=dict)
    lexicons: Mapping[str, Tensor] = field(default_factory=dict)

    def vector(self, name: str) -> Vector:
        """Return the vector called `name`; raise MissingVector when there is none, or it failed its validation."""
        if name not in self.vectors:
            known = ", ".join(sorted(self.vectors)) or "none"
            raise MissingVector(f"Steering asks for vector {name!r}; calibrated on {self.name}: {known}.")
        if not self.vectors[name].valid:
            raise MissingVector(f"Steering asks for vector {name!r}, which failed its validation on {self.name}.")
        return self.vectors[name]

    def head_set(self, name: str) -> Tensor:
        """Return the head set called `name`, (depth, heads) bool; raise MissingVector when none or empty."""
        if name not in self.head_sets or not bool(self.head_sets[name].any()):
            known = ", ".join(sorted(key for key, value in self.head_sets.items() if bool(value.any()))) or "none"
            raise MissingVector(f"An effect asks for head set {name!r}; calibrated on {self.name}: {known}.")
        return self.head_sets[name]

    def lexicon(self, name: str) -> Tensor:
        """Return the token ids of the word list called `name`."""
        if name not in self.lexicons:
            raise unknown("lexicon", name, dict(self.lexicons))
        return self.lexicons[name]


@dataclass(frozen=True)
class Stream:
    """The named randomness a row owns: two rows with equal streams draw equal numbers."""

    root: int
    name: str


@dataclass(frozen=True, eq=False)
class Step:
    """Where a logit is: token count within the response, and the response so far.

    index: (n,) tokens generated before this one.  history: (n, t) earlier response tokens, -1 where there is none.
    """

    index: Tensor
    history: Tensor
    subject: Subject

    def take(self, rows: Tensor) -> Step:
        """Return the step of the rows at these indices."""
        return Step(self.index[rows], self.history[rows], self.subject)


@dataclass(frozen=True, eq=False)
class Place:
    """Where a residual stream or an attention score is.

    queries: (n, q) positions of the tokens being computed.  keys: (n, k) positions of the keys they see.
    streams: the randomness of the n rows.  phase: whether these tokens are read (prompt) or written (response).
    """

    layer: int
    queries: Tensor
    keys: Tensor
    streams: tuple[Stream, ...]
    phase: Literal["prompt", "response"]
    subject: Subject

    @property
    def distance(self) -> Tensor:
        """Tokens from query back to key, (n, 1, q, k); negative where the key lies ahead."""
        return (self.queries[:, :, None] - self.keys[:, None, :])[:, None]
