"""Constraints on the form of a text, each with its wording and a check that really counts.

Sentences end at . ! or ? (also before a closing quote or bracket) that white space or the end follows, unless a known
abbreviation or a single initial stands before; a line break ends one too. Words are runs between white space that hold
a letter or digit. Source: the idea of verifiable instructions is that of Zhou et al. 2023 (IFEval).
"""

from __future__ import annotations

import json
import re
from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Literal

from neuromod_core.instruments.texts import Text
from neuromod_core.kernel.register import Register

Bound = Literal["exactly", "at most", "at least"]
_BULLET = re.compile(r"^\s*[-*\u2022]\s+\S", re.MULTILINE)
_FENCE = re.compile(r"```(?:json)?\s*\n(.*?)\n\s*```", re.DOTALL)
_ENDING = re.compile(r"[.!?]+[\"'\u2019\u201d)\]]*(?=\s|$)|\n+")
_NOT_AN_END = re.compile(r"(?:\b(?:Dr|Mr|Mrs|Ms|St|Prof|vs|etc|approx|e\.g|i\.e)|(?:^|\s)[A-HJ-Z])\.$")


def words(text: str) -> tuple[str, ...]:
    """Return the words of a text as they stand between white space.

    >>> words("A well-known - if old - bridge.")
    ('A', 'well-known', 'if', 'old', 'bridge.')
    """
    return tuple(word for word in text.split() if any(character.isalnum() for character in word))


def sentences(text: str) -> tuple[str, ...]:
    """Return the sentences of a text, without white space around them.

    >>> sentences('Dr. Bo paid 3.50 euros. "Why?" he asked')
    ('Dr. Bo paid 3.50 euros.', '"Why?"', 'he asked')
    """
    found, start = [], 0
    for ending in _ENDING.finditer(text):
        if _NOT_AN_END.search(text[start : ending.end()]):
            continue
        found.append(text[start : ending.end()].strip())
        start = ending.end()
    return tuple(sentence for sentence in [*found, text[start:].strip()] if words(sentence))


def _within(count: int, bound: Bound, wanted: int) -> bool:
    return {"exactly": count == wanted, "at most": count <= wanted, "at least": count >= wanted}[bound]


def _counted(bound: Bound, count: int, noun: str) -> str:
    return f"{bound} {count} {noun}{'' if count == 1 else 's'}"


@dataclass(frozen=True)
class Constraint(Text, ABC):
    """Base of all constraints: a clause of an instruction, and whether a text that is not empty meets it."""

    @property
    @abstractmethod
    def wording(self) -> str:
        """Return the sentence that asks for it."""

    @abstractmethod
    def met(self, text: str) -> bool:
        """Return whether `text` meets it."""


CONSTRAINTS: Register[type[Constraint]] = Register("constraint")


@CONSTRAINTS.add("sentences")
@dataclass(frozen=True)
class Sentences(Constraint):
    """So many sentences."""

    count: int
    bound: Bound = "exactly"

    @property
    def wording(self) -> str:
        """Return the sentence that asks for it."""
        return f"Use {_counted(self.bound, self.count, 'sentence')}."

    def met(self, text: str) -> bool:
        """Return whether the sentences of `text` are so many."""
        return _within(len(sentences(text)), self.bound, self.count)


@CONSTRAINTS.add("words")
@dataclass(frozen=True)
class Words(Constraint):
    """So many words."""

    count: int
    bound: Bound = "at most"

    @property
    def wording(self) -> str:
        """Return the sentence that asks for it."""
        return f"Use {_counted(self.bound, self.count, 'word')}."

    def met(self, text: str) -> bool:
        """Return whether the words of `text` are so many."""
        return _within(len(words(text)), self.bound, self.count)


@CONSTRAINTS.add("bullets")
@dataclass(frozen=True)
class Bullets(Constraint):
    """A list of so many bullet points, and nothing else."""

    count: int

    @property
    def wording(self) -> str:
        """Return the sentence that asks for it."""
        return f"Answer only with a list of {self.count} bullet points, each on a line that begins with a hyphen."

    def met(self, text: str) -> bool:
        """Return whether every line that is not blank is a bullet point, and there are so many."""
        lines = [line for line in text.splitlines() if line.strip()]
        return len(lines) == self.count and all(_BULLET.match(line) for line in lines)


@CONSTRAINTS.add("json")
@dataclass(frozen=True)
class JsonObject(Constraint):
    """One JSON object with exactly these keys, alone or in one code fence."""

    keys: tuple[str, ...]

    @property
    def wording(self) -> str:
        """Return the sentence that asks for it."""
        return f"Answer only with a JSON object that has exactly these keys: {', '.join(self.keys)}."

    def met(self, text: str) -> bool:
        """Return whether `text` is such an object."""
        fenced = _FENCE.fullmatch(text.strip())
        try:
            found = json.loads(fenced[1] if fenced else text)
        except json.JSONDecodeError:
            return False
        return isinstance(found, dict) and set(found) == set(self.keys)


@CONSTRAINTS.add("includes")
@dataclass(frozen=True)
class Includes(Constraint):
    """A word that has to occur, in any case of letters."""

    word: str

    @property
    def wording(self) -> str:
        """Return the sentence that asks for it."""
        return f"Use the word '{self.word}'."

    def met(self, text: str) -> bool:
        """Return whether the word occurs."""
        return _occurs(self.word, text)


@CONSTRAINTS.add("avoids")
@dataclass(frozen=True)
class Avoids(Constraint):
    """A word that must not occur, in any case of letters."""

    word: str

    @property
    def wording(self) -> str:
        """Return the sentence that asks for it."""
        return f"Do not use the word '{self.word}'."

    def met(self, text: str) -> bool:
        """Return whether the word does not occur."""
        return not _occurs(self.word, text)


@CONSTRAINTS.add("ends_with")
@dataclass(frozen=True)
class EndsWith(Constraint):
    """Words that close the text; white space after them does not count."""

    phrase: str

    @property
    def wording(self) -> str:
        """Return the sentence that asks for it."""
        return f"End with these words and nothing after them: {self.phrase}"

    def met(self, text: str) -> bool:
        """Return whether the text ends so, in any case of letters."""
        return text.rstrip().casefold().endswith(self.phrase.casefold())


@CONSTRAINTS.add("letter_case")
@dataclass(frozen=True)
class LetterCase(Constraint):
    """All letters small, or all capital."""

    case: Literal["small", "capital"]

    @property
    def wording(self) -> str:
        """Return the sentence that asks for it."""
        return f"Write all letters as {self.case} letters."

    def met(self, text: str) -> bool:
        """Return whether no letter is of the other case, and there is a letter."""
        return text.islower() if self.case == "small" else text.isupper()


def _occurs(word: str, text: str) -> bool:
    return re.search(rf"(?<!\w){re.escape(word.casefold())}(?!\w)", text.casefold()) is not None
