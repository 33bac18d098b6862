"""From texts to what the engine tokenises: messages of the statement reading, prefix and tail of the option reading.

Strings only: chat templates and tokens are the engine's business.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, TypeAlias

from neuromod_core.instruments.options import Labels, Order, levels, marks
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


def shown(frames: Frames, order: Order) -> tuple[str, ...]:
    """Return the labels of the options in the order shown; descending order reverses them.

    Raises:
        UnknownName: for another order.
    """
    return tuple(frames.labels[level] for level in levels(order, len(frames.labels)))


def legend(frames: Frames, order: Order, labels: Labels = "digits") -> str:
    """Return the key of the option reading, one option a line; options whose mark is their label stand alone.

    Raises:
        UnknownName: for another order or label set.
    """
    texts = shown(frames, order)
    pairs = zip(marks(labels, texts), texts, strict=True)
    return "\n".join(text if mark == text else f"{mark} = {text}" for mark, text in pairs)


def option_prefix(
    frames: Frames, vignette_text: str, *, order: Order, labels: Labels = "digits", system: str | None = None
) -> Prompt:
    """Return what all items of a scale share; the user turn ends with a line break, right before the sentence.

    A line break starts a new token in byte-pair vocabularies, so prefix and tail can be tokenised apart.
    """
    instruction = frames.label_set(labels).instruction
    user = f"{vignette_text}\n\n{instruction}\n{legend(frames, order, labels)}\n{frames.lead_in}\n"
    return _prompt(frames, user, system)


def option_tail(frames: Frames, statement: str, labels: Labels = "digits") -> str:
    """Return what is one item's own: its sentence (keyed or antonym) and the closing instruction."""
    return f"{statement}\n{frames.label_set(labels).closing}"


def _prompt(frames: Frames, user: str, system: str | None) -> Prompt:
    return Prompt(system=frames.system if system is None else system, user=user)
