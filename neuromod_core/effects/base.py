"""The kinds of effect. A kind says what an effect may touch; its base class makes dose zero exactly nothing.

An effect is a frozen value, so it can be shared by rows, hashed, and grouped: rows that take the same effect at
different doses share one tensor operation. The dose is signed and has one entry per row.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from enum import IntEnum
from typing import ClassVar, Literal

import torch
from torch import Tensor

from neuromod_core.effects.subject import Place, Step, Stream, Subject
from neuromod_core.kernel.errors import OutOfRange
from neuromod_core.kernel.register import Register


class Stage(IntEnum):
    """When an effect acts among those of its kind: order belongs to the class, not to the pack's list."""

    BIAS = 0
    PENALTY = 1
    SCALE = 2
    TRUNCATE = 3


@dataclass(frozen=True, kw_only=True)
class Effect(ABC):
    """One control primitive.

    doses: the closed interval of doses that mean something (0 must lie in it).
    observable, moves: what a positive dose moves and which way, as `tests/laws` measures it.
    stochastic: whether it draws from the row's stream.
    """

    family: ClassVar[str]
    doses: ClassVar[tuple[float, float]] = (-2.0, 2.0)
    observable: ClassVar[str]
    moves: ClassVar[Literal[-1, 1]]
    stage: ClassVar[Stage] = Stage.BIAS
    stochastic: ClassVar[bool] = False

    def check(self, subject: Subject) -> None:  # noqa: B027 - most effects mean something on every model
        """Raise when this effect means nothing on `subject` (a missing vector, an empty head set)."""


EFFECTS: Register[type[Effect]] = Register("effect")


def in_range(value: float, low: float, high: float, what: str) -> None:
    """Raise OutOfRange, naming `what`, unless low <= value <= high."""
    if not low <= value <= high:
        raise OutOfRange(f"{what} is {value:g}; allowed is {low:g} to {high:g}.")


class LogitEffect(Effect):
    """Edits next-token logits."""

    family = "sampler"

    def __call__(self, logits: Tensor, dose: Tensor, step: Step) -> Tensor:
        """Return `logits` (n, vocabulary) edited where `dose` (n,) is not zero; the other rows are not touched."""
        rows = dose.nonzero()[:, 0]
        if len(rows) == 0:
            return logits
        if len(rows) == len(dose):
            return self.edit(logits, dose, step)
        return logits.index_copy(0, rows, self.edit(logits[rows], dose[rows], step.take(rows)))

    @abstractmethod
    def edit(self, logits: Tensor, dose: Tensor, step: Step) -> Tensor:
        """Return edited logits (n, vocabulary) for doses (n,), never in place."""


class ShiftEffect(Effect):
    """Adds dose x a fixed vector to the residual stream of one layer: such effects of a row merge into a table."""

    family = "steering"

    @abstractmethod
    def shift(self, subject: Subject) -> tuple[int, Tensor]:
        """Return (layer, vector (width,)): what dose 1 adds to the output of that block."""

    @abstractmethod
    def acts_in(self, phase: Literal["prompt", "response"]) -> bool:
        """Return whether it acts on tokens of this phase."""


class StreamEffect(Effect):
    """Edits the residual stream of one layer; layer -1 is the token embedding."""

    family = "activation"

    def __call__(self, hidden: Tensor, dose: Tensor, place: Place) -> Tensor:
        """Return `hidden` (n, tokens, width) edited where `dose` (n,) is not zero."""
        return torch.where(dose[:, None, None] != 0, self.edit(hidden, dose, place), hidden)

    @abstractmethod
    def layer(self, subject: Subject) -> int:
        """Return the block whose output it edits, or -1 for the embedding."""

    @abstractmethod
    def edit(self, hidden: Tensor, dose: Tensor, place: Place) -> Tensor:
        """Return edited states (n, tokens, width) for doses (n,), never in place."""


class QueryEffect(Effect):
    """Multiplies queries inside the attention function: the raw score S of a head becomes gain x S."""

    family = "attention"

    @abstractmethod
    def gain(self, dose: Tensor, subject: Subject) -> Tensor:
        """Return gains (n, depth, heads) for doses (n,); exactly 1 where the dose is 0."""


class HeadEffect(Effect):
    """Multiplies what heads write, before the output projection."""

    family = "attention"

    @abstractmethod
    def gate(self, dose: Tensor, subject: Subject, streams: tuple[Stream, ...]) -> Tensor:
        """Return gates (n, depth, heads) for doses (n,); exactly 1 where the dose is 0."""


class ScoreEffect(Effect):
    """Edits raw attention scores S (n, heads, queries, keys), scaled by 1/sqrt(head size), before mask and softmax."""

    family = "cache"

    def __call__(self, scores: Tensor, dose: Tensor, place: Place) -> Tensor:
        """Return `scores` edited where `dose` (n,) is not zero."""
        return torch.where(dose[:, None, None, None] != 0, self.edit(scores, dose, place), scores)

    @abstractmethod
    def edit(self, scores: Tensor, dose: Tensor, place: Place) -> Tensor:
        """Return edited scores for doses (n,); minus infinity hides a key. Never in place."""
