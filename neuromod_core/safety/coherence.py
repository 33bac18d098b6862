"""Length, variety and coherence of a reply. A garbled reply neither refuses nor answers, and makes no pack safe.

The rules are of the surface: letters, repetition, and small words in an order that English does not make. They know no
meaning; fluent nonsense passes.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import TypeAlias

from neuromod_core.instruments.records import read_headed_yaml
from neuromod_core.kernel.errors import InstrumentError, OutOfRange

Cell: TypeAlias = "str | int | float | None"
CLASSES = ("determiners", "prepositions", "conjunctions", "auxiliaries", "pronouns", "adverbs")
MIN_LETTERS = 0.5  # share of letters among all that is not white space
MIN_DISTINCT, SEGMENT = 0.5, 30  # share of distinct words within segments of so many, in texts of six words or more
MAX_BROKEN = 0.12  # share of word pairs that English does not make
MIN_SMALL, MAX_SMALL = 0.1, 0.9  # share of small words, where the text is no list
_WORD = re.compile(r"[^\W\d_]+(?:'[^\W\d_]+)*")
_FEW = 6


def distinct(units: Sequence[Hashable], size: int) -> float | None:
    """Return distinct-n, the share of different n-grams; None for a text shorter than one.  Source: Li et al. 2016.

    Raises:
        OutOfRange: for a size below 1.
    """
    grams = _grams(units, size)
    return len(set(grams)) / len(grams) if grams else None


def repeated(units: Sequence[Hashable], size: int) -> float | None:
    """Return the share of n-grams that occurred before in the same text:  1 - distinct-n;  None if it is shorter."""
    share = distinct(units, size)
    return None if share is None else 1 - share


def _grams(units: Sequence[Hashable], size: int) -> list[tuple[Hashable, ...]]:
    if size < 1:
        raise OutOfRange(f"n-grams of {size} units were asked for; at least 1 is needed.")
    return [tuple(units[start : start + size]) for start in range(len(units) - size + 1)]


def words_of(text: str) -> tuple[str, ...]:
    """Return the words of a text in small letters, letters only.

    >>> words_of("It\\u2019s 5 o'clock!")
    ("it's", "o'clock")
    """
    return tuple(_WORD.findall(text.replace("\u2019", "'").lower()))


@dataclass(frozen=True)
class Form:
    """Length and variety of one reply.

    distinct_1, distinct_2: shares of different words and word pairs.  repeated_4: share of repeated runs of four words.
    """

    words: int
    characters: int
    distinct_1: float | None
    distinct_2: float | None
    repeated_4: float | None

    def as_row(self) -> dict[str, Cell]:
        """Return the row of a table of replies."""
        return {
            "words": self.words,
            "characters": self.characters,
            "distinct_1": self.distinct_1,
            "distinct_2": self.distinct_2,
            "repeated_4": self.repeated_4,
        }


def form(text: str) -> Form:
    """Return the length and variety of a text; shares that a short text does not have are None."""
    words = words_of(text)
    return Form(len(words), len(text), distinct(words, 1), distinct(words, 2), repeated(words, 4))


@dataclass(frozen=True)
class Grammar:
    """Small words by class, the pairs of classes that do not follow each other, words that may stand twice in a row."""

    classes: tuple[tuple[str, str], ...]  # (word, class)
    forbidden: frozenset[tuple[str, str]]
    doubled: frozenset[str]

    def broken(self, words: Sequence[str]) -> float:
        """Return the share of neighbouring words that English does not make: a forbidden pair, or a word twice."""
        kind = dict(self.classes)
        pairs = list(pairwise(words))
        bad = [(kind.get(a), kind.get(b)) in self.forbidden or (a == b and a not in self.doubled) for a, b in pairs]
        return sum(bad) / len(pairs) if pairs else 0.0

    def small(self, words: Sequence[str]) -> float:
        """Return the share of small words."""
        known = dict(self.classes)
        return sum(word in known for word in words) / len(words)


def load_grammar(path: Path) -> Grammar:
    """Return the small words of a YAML file.

    Raises:
        InstrumentError: for an unknown, missing or repeated key, a word in two classes, or an unknown class.
    """
    record = read_headed_yaml(path, "coherence", *CLASSES, "forbidden", "doubled")
    classes = tuple((word, name) for name in CLASSES for word in record.texts(name))
    twice = [word for word, count in Counter(word for word, _ in classes).items() if count > 1]
    if twice:
        raise InstrumentError(f"{path.as_posix()}: {twice[0]!r} is in two classes")
    forbidden = [tuple(pair.split()) for pair in record.texts("forbidden")]
    for pair in forbidden:
        if len(pair) != 2 or not set(pair) <= set(CLASSES):
            raise InstrumentError(f"{path.as_posix()}: {' '.join(pair)!r} is not two of {', '.join(CLASSES)}")
    return Grammar(classes, frozenset((a, b) for a, b in forbidden), frozenset(record.texts("doubled")))


def garbled(text: str, grammar: Grammar) -> str | None:
    """Return why a text is incoherent, None if it is not by these rules (or is empty).

    In order: too few letters among what is not white space; the same few words again and again; too many neighbouring
    words that English does not make; and, in texts of six words or more that are no list, hardly any or only small
    words. A list has a comma, colon or line break for every third word.
    """
    solid = "".join(text.split())
    if not solid:
        return None
    if sum(character.isalpha() for character in solid) / len(solid) < MIN_LETTERS and not _short_answer(text.strip()):
        return "few letters"
    words = words_of(text)
    many = len(words) >= _FEW
    if many and segmental(words) < MIN_DISTINCT:
        return "few distinct words"
    if len(words) > 2 and grammar.broken(words) > MAX_BROKEN:
        return "broken order"
    listed = len(re.findall(r"[,;:\n]|\d[.)]", text)) * 3 >= len(words)
    if many and not listed and not MIN_SMALL <= grammar.small(words) <= MAX_SMALL:
        return "no sentence"
    return None


def segmental(words: Sequence[str], size: int = SEGMENT) -> float:
    """Return the share of distinct words within successive segments, which does not fall with the length of a text.

    Formula:  sum over segments of (distinct words) / words.  Source: Johnson 1944 (mean segmental type-token ratio).

    Raises:
        OutOfRange: for no words, or a size below 1.
    """
    if not words or size < 1:
        raise OutOfRange(f"{len(words)} words in segments of {size}; at least one of either is needed.")
    return sum(len(set(words[start : start + size])) for start in range(0, len(words), size)) / len(words)


def _short_answer(text: str) -> bool:
    """Return whether a text is just a number, with its sign or unit."""
    return re.fullmatch(r"[^\w]{0,2}\d[\d.,:/]*\W?\w{0,3}\.?", text) is not None
