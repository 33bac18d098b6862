"""Asking respondents the behavioural tasks, and measuring side effects on ordinary language.

Results come per respondent, in the order of their packs.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from neuromod_core.instruments.tasks import (
    Figure,
    MinimalPair,
    Passage,
    Perplexity,
    Problem,
    Tally,
    grammaticality,
    load_blimp,
    load_wikitext,
    perplexity,
    tally,
    why_absent,
)
from neuromod_core.instruments.tasks.reading import GRAMMAR, unread
from neuromod_core.kernel.errors import DataError
from neuromod_core.safety.respondents import Length, Reading, Respondents, values

OPENING = 40  # characters of a text that are read before the rest is scored
Loglik = tuple[float, ...]


def ask(
    respondents: Respondents, problems: Sequence[Problem], *, reading: Reading = "raw", length: Length = "total"
) -> list[list[Loglik]]:
    """Return the log-likelihoods (problems, options) of the options as answers in a chat, nats or nats per token."""
    found: list[list[Loglik]] = [[] for _ in respondents.packs]
    for problem in problems:
        for mine, read in zip(found, respondents.answers(problem.id, problem.prompt, problem.options), strict=True):
            mine.append(values(read, reading, length))
    return found


def complete(
    respondents: Respondents, figures: Sequence[Figure], *, reading: Reading = "raw", length: Length = "per token"
) -> list[list[Loglik]]:
    """Return the log-likelihoods (figures, 3) of the completions after their stem, outside of any chat.

    Per token by default: completions have as many words, and may differ in tokens.
    """
    found: list[list[Loglik]] = [[] for _ in respondents.packs]
    for figure in figures:
        ends = [f" {text}." for text in (figure.apt, figure.literal, figure.anomalous)]
        for mine, read in zip(found, respondents.continuations(figure.id, figure.stem, ends), strict=True):
            mine.append(values(read, reading, length))
    return found


def grammar(respondents: Respondents, pairs: Sequence[MinimalPair], *, reading: Reading = "raw") -> list[Tally]:
    """Return the share of minimal pairs whose good sentence is the likelier.

    Raises:
        DataError: for no pairs.
    """
    marks: list[list[tuple[float, float]]] = [[] for _ in respondents.packs]
    for number, pair in enumerate(pairs):
        read = respondents.continuations(f"{pair.uid}-{number}", "", (pair.good, pair.bad))
        for mine, likelihoods in zip(marks, read, strict=True):
            good, bad = values(likelihoods, reading)
            mine.append((good, bad))
    return [tally([grammaticality(pair, *each) for pair, each in zip(pairs, mine, strict=True)]) for mine in marks]


def plain_text(respondents: Respondents, texts: Sequence[str], *, reading: Reading = "raw") -> list[Perplexity]:
    """Return the perplexity of texts; the first 40 characters of each, to the end of their word, are read, not scored.

    Raises:
        DataError: for a text that has no word after that.
    """
    read: list[list[Passage]] = [[] for _ in respondents.packs]
    for number, text in enumerate(texts):
        cut = text.find(" ", OPENING)
        if cut < 0 or not text[cut:].strip():
            raise DataError(f"Text {number} has {len(text)} characters; more than the opening of {OPENING} are needed.")
        rest = text[cut:]
        for mine, each in zip(read, respondents.continuations(f"text-{number}", text[:cut], [rest]), strict=True):
            mine.append(Passage(values(each, reading)[0], each[0].tokens, len(rest.encode())))
    return [perplexity(mine) for mine in read]


@dataclass(frozen=True)
class SideEffects:
    """Grammar and perplexity of one respondent; missing with a reason on a machine without the public data."""

    grammar: Tally
    perplexity: Perplexity


def side_effects(
    respondents: Respondents, folder: Path | None, *, per_paradigm: int, texts: int, reading: Reading = "raw"
) -> list[SideEffects]:
    """Return the side effects of every respondent on BLiMP and WikiText-2 from the data folder.

    per_paradigm: minimal pairs of each of the 67 paradigms.  texts: paragraphs.

    Raises:
        DataError: for more pairs or paragraphs than there are.
        IntegrityError: for a file that is not the pinned one.
    """
    packs = respondents.packs
    if (reason := why_absent(folder, "blimp")) is None:
        grammars = grammar(respondents, load_blimp(folder, per_paradigm=per_paradigm), reading=reading)
    else:
        grammars = [Tally(GRAMMAR, None, None, None, 0, 0, reason) for _ in packs]
    if (reason := why_absent(folder, "wikitext2")) is None:
        plain = plain_text(respondents, load_wikitext(folder, count=texts), reading=reading)
    else:
        plain = [unread(reason) for _ in packs]
    return [SideEffects(*pair) for pair in zip(grammars, plain, strict=True)]
