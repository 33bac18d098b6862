"""Checks on wording: texts that name an arm, and instruments that share phrases with what the vectors were trained on.

A phrase shared by an item and a contrast pair is criterion contamination: the pack would be scored on its own words.
Matching is on lower-case words; a hyphen separates words, an apostrophe does not.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

from neuromod_core.instruments.records import Record, read_headed_yaml
from neuromod_core.kernel.errors import OutOfRange

Texts: TypeAlias = tuple[str, ...] | list[str]
NEGATION = re.compile(
    r"\b(no|not|nothing|nobody|nowhere|never|neither|nor|cannot|\w+n['\u2019]t|unable|without|hardly|scarcely|barely|rarely"
    r"|lack|lacks|lacking|lose|loses|lost|fail|fails|failing)\b",
    re.IGNORECASE,
)
"""Words of negation or lack."""
_WORD = re.compile(r"[^\W_]+(?:['\u2019][^\W_]+)*")


@dataclass(frozen=True)
class Leak:
    """A forbidden word as it stands in the text called `where`."""

    where: str
    word: str


def words(text: str) -> tuple[str, ...]:
    """Return the words of `text` in lower case.

    >>> words("Half-open: the neighbour's 2 gates.")
    ('half', 'open', 'the', "neighbour's", '2', 'gates')
    """
    return tuple(word.lower() for word in _WORD.findall(text))


def is_negated(text: str) -> bool:
    """Return whether `text` is negatively worded: it has a word of negation or lack.

    >>> is_negated("Nothing moves."), is_negated("It doesn't move."), is_negated("All is still.")
    (True, True, False)
    """
    return NEGATION.search(text) is not None


def forbidden_words(path: Path, *groups: str) -> tuple[str, ...]:
    """Return the words listed under `groups` in a hygiene file, in file order; without groups, those of all groups.

    Raises:
        InstrumentError: for a file that does not follow the schema, a group it does not have, a word listed twice in a
            group, or an entry without letters or digits.
    """
    listed = read_headed_yaml(path, "hygiene", "groups").record("groups")
    for group in groups:
        if group not in listed.entries:
            raise listed.wrong(f"no group {group!r}; it has: {', '.join(listed.entries)}")
    return tuple(word for group in groups or tuple(listed.entries) for word in _phrases(listed, group))


def _phrases(listed: Record, group: str) -> tuple[str, ...]:
    found = listed.texts(group)
    for phrase in found:
        if not words(phrase):
            raise listed.wrong(f"{group!r} holds {phrase!r}, which has no letter or digit")
    return found


def leaks(texts: Mapping[str, str], forbidden: Texts) -> tuple[Leak, ...]:
    """Return every forbidden word or phrase in `texts` (named texts), in order of occurrence.

    A forbidden word also matches its plural in s, and with a trailing * any ending.

    >>> leaks({"item 3": "Two doses, undosed."}, ["dose"])
    (Leak(where='item 3', word='doses'),)
    """
    if not forbidden:
        return ()
    pattern = re.compile(rf"\b(?:{'|'.join(_pattern(phrase) for phrase in forbidden)})\b", re.IGNORECASE)
    return tuple(Leak(where, found[0]) for where, text in texts.items() for found in pattern.finditer(text))


def _pattern(phrase: str) -> str:
    """Return the regular expression of a phrase: its words, separated by anything that is not a word."""
    ending = r"\w*" if phrase.endswith("*") else "s?"
    return r"[\W_]+".join(re.escape(word) for word in words(phrase)) + ending


def ngrams(text: str, n: int) -> frozenset[tuple[str, ...]]:
    """Return the sequences of `n` successive words of `text`.

    Raises:
        OutOfRange: if `n` is below 1.
    """
    if n < 1:
        raise OutOfRange(f"n-grams of {n} words were asked for, at least 1 is needed")
    sequence = words(text)
    return frozenset(sequence[start : start + n] for start in range(len(sequence) - n + 1))


def shared_ngrams(a: Texts, b: Texts, n: int = 5) -> tuple[str, ...]:
    """Return the sequences of `n` words that occur within a text of `a` and within a text of `b`, sorted.

    >>> shared_ngrams(["one two three four"], ["zero one two three"], n=3)
    ('one two three',)
    """
    in_a, in_b = ({gram for text in texts for gram in ngrams(text, n)} for texts in (a, b))
    return tuple(sorted(" ".join(gram) for gram in in_a & in_b))
