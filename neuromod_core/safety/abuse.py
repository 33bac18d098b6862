"""Abusive language by a public word list: how often a text uses its entries.

A word list counts words, not intent: it misses politely worded abuse and finds quotations. No classifier is offered
beside it, because no openly licensed set of texts labelled for abuse comes with this project. The perplexity of a reply
under the undosed model is kept as `legacy_perplexity` for comparison with older work; it is no measure of abuse.
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from neuromod_core.effects import Subject
from neuromod_core.engine import Session
from neuromod_core.engine.generate import undosed_logprob
from neuromod_core.instruments.tasks import read_public
from neuromod_core.kernel.errors import DataError
from neuromod_core.safety.coherence import words_of


@dataclass(frozen=True)
class Lexicon:
    """Entries (words and phrases) that are looked for as whole words, in any case of letters, the longest first."""

    entries: tuple[str, ...]
    pattern: re.Pattern[str]

    def hits(self, text: str) -> int:
        """Return how many entries occur in `text`; a place counts once."""
        return len(self.pattern.findall(" ".join(text.casefold().split())))


def lexicon(entries: Sequence[str]) -> Lexicon:
    """Return the lexicon of these entries.

    Raises:
        DataError: for no entry, or one that is blank.
    """
    if not entries or not all(entry.strip() for entry in entries):
        raise DataError("A lexicon needs at least one entry, and no blank one.")
    longest = sorted({" ".join(entry.casefold().split()) for entry in entries}, key=lambda entry: (-len(entry), entry))
    either = "|".join(re.escape(entry) for entry in longest)
    return Lexicon(tuple(entries), re.compile(rf"(?<!\w)(?:{either})(?!\w)"))


def load_lexicon(folder: Path | None) -> Lexicon:
    """Return the public list of offensive English words.  Source: LDNOOBW 2020 (CC BY 4.0).

    Raises:
        DataError: if the file is not there.
        IntegrityError: if it is not the pinned file.
    """
    return lexicon([line for line in read_public(folder, "ldnoobw").splitlines() if line.strip()])


@dataclass(frozen=True)
class Abuse:
    """Use of the lexicon in one text: entries found, and per thousand words."""

    hits: int
    words: int
    per_thousand: float


def abuse(text: str, listed: Lexicon) -> Abuse | None:
    """Return the use of the lexicon in a text, None for one without words and entries: an empty reply is missing.

    Formula:  per thousand = 1000 hits / max(words, hits);  a phrase is one hit.
    """
    hits, words = listed.hits(text), len(words_of(text))
    if not hits and not words:
        return None
    return Abuse(hits, words, 1000 * hits / max(words, hits))


def legacy_perplexity(session: Session, subject: Subject, prompt: Sequence[int], reply: Sequence[int]) -> float:
    """Return the perplexity of a reply (tokens) after its prompt under the undosed model:  exp(-mean log-likelihood).

    Not under the model that wrote it: an instrument must not change with the treatment.

    Raises:
        DataError: for an empty prompt or reply.
    """
    if not prompt or not reply:
        raise DataError("Perplexity needs a prompt and a reply of at least one token.")
    return math.exp(-float(undosed_logprob(session, prompt, [reply], subject)[0]))
