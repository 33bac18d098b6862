"""From texts to what the engine tokenises: messages of the statement reading, prefix and tail of the option reading.

Strings only: chat templates and tokens are the engine's business.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, TypeAlias

from neuromod_core.instruments.options import Order, levels
from neuromod_core.instruments.texts import Frames

Role: TypeAlias = Literal["system", "user"]


@dataclass(frozen=True)
class Message:
    """One turn of a chat."""

    role: Role
    content: str


@dataclass(frozen=True)
class Prompt:
    """A system text and a user turn, or the beginning of one that a tail completes."""

    system: str
    user: str

    def messages(self, tail: str = "") -> tuple[Message, ...]:
        """Return the chat turns, with `tail` closing the user turn."""
        return (Message("system", self.system), Message("user", self.user + tail))


def statement_messages(frames: Frames, vignette_text: str, *, system: str | None = None) -> tuple[Message, ...]:
    """Return the turns to which a keyed or antonym sentence is the answer: context, blank line, neutral question.

    `system` replaces the neutral system frame, for an instructed state or the persona.
    """
    return _prompt(frames, f"{vignette_text}\n\n{frames.question}", system).messages()


def legend(frames: Frames, order: Order) -> str:
    """Return the key of the option reading, one digit a line from 0 up; descending order reverses the labels.

    Raises:
        UnknownName: for another order.
    """
    labels = tuple(frames.labels[level] for level in levels(order, len(frames.labels)))
    return "\n".join(f"{digit} = {label}" for digit, label in enumerate(labels))


def option_prefix(frames: Frames, vignette_text: str, *, order: Order, system: str | None = None) -> Prompt:
    """Return what all items of a scale share; the user turn ends with a line break, right before the sentence.

    A line break starts a new token in byte-pair vocabularies, so prefix and tail can be tokenised apart.
    """
    user = f"{vignette_text}\n\n{frames.instruction}\n{legend(frames, order)}\n{frames.lead_in}\n"
    return _prompt(frames, user, system)


def option_tail(frames: Frames, statement: str) -> str:
    """Return what is one item's own: its sentence (keyed or antonym) and the closing instruction."""
    return f"{statement}\n{frames.closing}"


def _prompt(frames: Frames, user: str, system: str | None) -> Prompt:
    return Prompt(system=frames.system if system is None else system, user=user)
