"""What every effect is, and the register. The kinds of effect, one per site, are in `kinds`.

An effect is a frozen value, so it can be shared by rows, hashed, and grouped: rows that take the same effect at
different doses share one tensor operation. The dose is signed and has one entry per row.
"""

from __future__ import annotations

from abc import ABC
from dataclasses import dataclass
from enum import IntEnum
from typing import ClassVar, Literal

from neuromod_core.effects.subject import Subject
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

    family: the group it is listed under.  site: what its kind touches, in words.
    doses: the closed interval of doses that mean something (0 must lie in it).
    observable, moves: what a positive dose moves and which way, as `tests/laws` measures it.
    stochastic: whether it draws from the row's stream.
    needs: what a model must have: "attention" (scores within reach) or "router" (a mixture of experts), if anything.
    """

    family: ClassVar[str]
    site: ClassVar[str]
    doses: ClassVar[tuple[float, float]] = (-2.0, 2.0)
    observable: ClassVar[str]
    moves: ClassVar[Literal[-1, 1]]
    stage: ClassVar[Stage] = Stage.BIAS
    stochastic: ClassVar[bool] = False
    needs: ClassVar[Literal["attention", "router"] | None] = None

    @property
    def needs_lexicons(self) -> tuple[str, ...]:
        """The word lists that must be calibrated for it."""
        return ()

    @property
    def needs_vectors(self) -> tuple[str, ...]:
        """The concepts whose vectors must be calibrated for it."""
        return ()

    def check(self, subject: Subject) -> None:  # noqa: B027 - most effects mean something on every model
        """Raise when this effect means nothing on `subject` (a missing vector, an empty head set)."""


EFFECTS: Register[type[Effect]] = Register("effect")


def in_range(value: float, low: float, high: float, what: str) -> None:
    """Raise OutOfRange, naming `what`, unless low <= value <= high."""
    if not low <= value <= high:
        raise OutOfRange(f"{what} is {value:g}; allowed is {low:g} to {high:g}.")


def one_of(value: str, allowed: tuple[str, ...], what: str) -> None:
    """Raise OutOfRange, naming `what`, unless `value` is allowed."""
    if value not in allowed:
        raise OutOfRange(f"{what} is {value!r}; allowed are {', '.join(allowed)}.")
