"""Instruction adherence: short writing tasks with one, two or three constraints on form, every one of them counted."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeVar

import numpy as np

from neuromod_core.instruments.tasks.constraints import (
    Avoids,
    Bullets,
    Constraint,
    EndsWith,
    Includes,
    JsonObject,
    LetterCase,
    Sentences,
    Words,
)
from neuromod_core.instruments.tasks.problem import EMPTY, Mark
from neuromod_core.instruments.texts import Text
from neuromod_core.kernel.errors import DataError, OutOfRange
from neuromod_core.kernel.rng import rng

TASK = "instructions"
LEVELS = 3
TOPICS = (
    *("a bicycle", "a bridge", "a clock", "a garden", "a kite", "a ladder", "a library", "a market stall"),
    *("a mountain path", "a postcard", "a railway station", "a rain shower", "a river", "a school morning"),
    *("a snowfall", "a swimming pool", "a village square", "a winter coat", "an old map", "an orchard"),
)
INCLUDED = ("always", "between", "colour", "early", "large", "often", "people", "small", "together", "usually")
AVOIDED = ("and", "is", "it", "of", "the", "with")
CLOSINGS = ("That is all.", "So much for today.", "Here the note ends.")
KEYS = (("title", "summary"), ("name", "place", "size"), ("topic", "detail"), ("what", "where", "why"))

Asked = TypeVar("Asked")


@dataclass(frozen=True)
class Instruction(Text):
    """A writing task: its prompt says every one of its constraints; `level` is their number."""

    id: str
    level: int
    prompt: str
    constraints: tuple[Constraint, ...]


def _pick(stream: np.random.Generator, words: Sequence[str]) -> str:
    return words[int(stream.integers(len(words)))]


def _shape(stream: np.random.Generator) -> Constraint:
    match int(stream.integers(3)):
        case 0:
            return Sentences(int(stream.integers(2, 6)))
        case 1:
            return Bullets(int(stream.integers(3, 6)))
        case _:
            return JsonObject(KEYS[int(stream.integers(len(KEYS)))])


def _length(stream: np.random.Generator) -> Constraint:
    most = stream.random() < 0.5
    return (
        Words(int(stream.integers(3, 7)) * 10, "at most")
        if most
        else Words(int(stream.integers(2, 4)) * 10, "at least")
    )


def _content(stream: np.random.Generator) -> Constraint:
    return Includes(_pick(stream, INCLUDED)) if stream.random() < 0.5 else Avoids(_pick(stream, AVOIDED))


def _manner(stream: np.random.Generator) -> Constraint:
    if stream.random() < 0.5:
        return EndsWith(_pick(stream, CLOSINGS))
    return LetterCase("small" if stream.random() < 0.5 else "capital")


GROUPS: tuple[Callable[[np.random.Generator], Constraint], ...] = (_shape, _length, _content, _manner)


def clash(constraints: Sequence[Constraint]) -> bool:
    """Return whether constraints get in each other's way: a JSON object or a list is asked for in plain letters and
    without a closing, and a closing must not hold the avoided word."""
    closings = [each.phrase for each in constraints if isinstance(each, EndsWith)]
    manner = any(isinstance(each, EndsWith | LetterCase) for each in constraints)
    structured = any(isinstance(each, JsonObject | Bullets) for each in constraints)
    avoided = [each for each in constraints if isinstance(each, Avoids)]
    return (manner and structured) or any(not each.met(closing) for each in avoided for closing in closings)


def instructions(*, root: int, per_level: int) -> tuple[Instruction, ...]:
    """Return `per_level` distinct writing tasks of every level, easiest first; the same for the same root.

    Raises:
        OutOfRange: for less than one task a level, or more than 100.
    """
    if not 1 <= per_level <= 100:
        raise OutOfRange(f"{per_level} instructions a level were asked for; 1 ... 100 are possible.")
    found: dict[str, Instruction] = {}
    for level in range(1, LEVELS + 1):
        for number in range(per_level):
            stream = rng(root, "task", TASK, str(level), str(number))
            made = _draw(level, number, stream)
            while made.prompt in found or clash(made.constraints):
                made = _draw(level, number, stream)
            found[made.prompt] = made
    return tuple(found.values())


def _draw(level: int, number: int, stream: np.random.Generator) -> Instruction:
    groups = [GROUPS[index] for index in sorted(int(i) for i in stream.permutation(len(GROUPS))[:level])]
    constraints = tuple(group(stream) for group in groups)
    asked = " ".join(each.wording for each in constraints)
    return Instruction(
        f"{TASK}-{level}-{number:03d}", level, f"Write about {_pick(stream, TOPICS)}. {asked}", constraints
    )


def unmet(item: Instruction, text: str) -> tuple[Constraint, ...]:
    """Return the constraints of `item` that `text` does not meet."""
    return tuple(each for each in item.constraints if not each.met(text))


def adherence(item: Instruction, text: str) -> Mark:
    """Return the mark of a text: the share of the constraints it meets; an empty text is missing.

    Chance has no fixed value, because an avoided word may be missing by accident: see `by_accident`.
    """
    if not text.strip():
        return Mark(item.id, TASK, item.level, None, None, EMPTY)
    return Mark(item.id, TASK, item.level, 1 - len(unmet(item, text)) / len(item.constraints), None)


def by_accident(items: Sequence[Asked], texts: Sequence[str], mark: Callable[[Asked, str], Mark]) -> tuple[Mark, ...]:
    """Return the marks of every text as an answer to the item after its own (the last one's: the first): what texts of
    this kind earn without reading the question.

    Raises:
        DataError: for unequal numbers, or less than two items.
    """
    if len(items) != len(texts) or len(items) < 2:
        raise DataError(f"{len(texts)} texts for {len(items)} items; as many, and at least 2, are needed.")
    return tuple(mark(item, text) for item, text in zip([*items[1:], items[0]], texts, strict=True))
