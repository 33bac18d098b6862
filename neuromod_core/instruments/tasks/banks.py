"""Written banks of problems: figures of speech and public facts, read from files, options in seeded order."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from neuromod_core.instruments.records import Record, first_repeat, read_headed_jsonl
from neuromod_core.instruments.tasks.generated import shuffled
from neuromod_core.instruments.tasks.problem import UNREAD, Problem
from neuromod_core.instruments.texts import Text
from neuromod_core.kernel.errors import DataError, InstrumentError
from neuromod_core.kernel.rng import rng

METAPHOR, FACTS = "metaphor", "facts"
WRONG = 3


@dataclass(frozen=True)
class Figure(Text):
    """A sentence beginning with three completions of like length: an apt metaphor, a plain literal one, an anomaly.

    level: 1 for a metaphor of common stock, 2 for one made for this set.
    """

    id: str
    level: int
    stem: str
    apt: str
    literal: str
    anomalous: str

    @property
    def endings(self) -> tuple[str, str, str]:
        """Return how the sentence may go on: apt, literal, anomalous."""
        return f" {self.apt}.", f" {self.literal}.", f" {self.anomalous}."

    def problem(self) -> Problem:
        """Return the question which completion is likeliest: options apt, literal, anomalous; the apt one is true."""
        return Problem(self.id, METAPHOR, self.level, self.stem, (self.apt, self.literal, self.anomalous), 0)


@dataclass(frozen=True)
class Preference:
    """Differences in log-likelihood, nats, of one figure; None with a reason.

    apt_literal: taste for the figurative over the plain.  apt_anomalous: whether the figure is understood at all.
    """

    apt_literal: float | None
    apt_anomalous: float | None
    reason: str | None


def preference(loglik: Sequence[float | None]) -> Preference:
    """Return how much likelier the apt completion is than the others: log-likelihoods (apt, literal, anomalous), nats.

    Formula:  ll(apt) - ll(literal)  and  ll(apt) - ll(anomalous);  missing if one was not read or is excluded.

    Raises:
        DataError: for other than three values.
    """
    if len(loglik) != 3:
        raise DataError(f"A figure has three completions; {len(loglik)} log-likelihoods were given.")
    read = [value for value in loglik if value is not None and math.isfinite(value)]
    if len(read) < 3:
        return Preference(None, None, UNREAD)
    apt, literal, anomalous = read
    return Preference(apt - literal, apt - anomalous, None)


@dataclass(frozen=True)
class PublicFact(Text):
    """A simple question that public knowledge answers, with three wrong answers of the same kind."""

    id: str
    level: int
    question: str
    answer: str
    wrong: tuple[str, ...]

    def problem(self, root: int) -> Problem:
        """Return the question with its answers in the order that `root` gives it."""
        options, truth = shuffled((self.answer, *self.wrong), rng(root, "task", FACTS, self.id))
        return Problem(
            self.id, FACTS, self.level, f"{self.question} Answer with the name or word only.", options, truth
        )


def _level(record: Record) -> int:
    return int(record.choice("level", ("1", "2")))


def load_figures(path: Path) -> tuple[Figure, ...]:
    """Return the figures of a JSON-lines file, in its order.

    Raises:
        InstrumentError: for an unknown, missing or repeated key, an empty text, an unknown level, completions that
            differ by more than a word in length, or an id, stem or apt completion that occurs twice.
    """
    keys = ("id", "level", "stem", "apt", "literal", "anomalous")
    figures = []
    for line in read_headed_jsonl(path, "figures", *keys):
        named = line.named()
        texts = [named.text(key) for key in keys[2:]]
        lengths = [len(text.split()) for text in texts[1:]]
        if max(lengths) - min(lengths) > 1:
            raise named.wrong(f"completions of {lengths} words; they may differ by one")
        figures.append(Figure(named.text("id"), _level(named), *texts))
    _once(path, [f.id for f in figures], [f.stem for f in figures], [f.apt for f in figures])
    return tuple(figures)


def load_facts(path: Path) -> tuple[PublicFact, ...]:
    """Return the facts of a JSON-lines file, in its order.

    Raises:
        InstrumentError: for an unknown, missing or repeated key, an empty text, an unknown level, other than three
            wrong answers, a wrong answer that is the right one, or an id or question that occurs twice.
    """
    facts = []
    for line in read_headed_jsonl(path, "facts", "id", "level", "question", "answer", "wrong"):
        named = line.named()
        answer, wrong = named.text("answer"), named.texts("wrong", WRONG)
        if first_repeat([answer, *wrong]) is not None:
            raise named.wrong(f"the answer {answer!r} is also listed as wrong")
        facts.append(PublicFact(named.text("id"), _level(named), named.text("question"), answer, wrong))
    _once(path, [fact.id for fact in facts], [fact.question for fact in facts])
    return tuple(facts)


def _once(path: Path, *columns: Sequence[str]) -> None:
    for column in columns:
        if (twice := first_repeat(column)) is not None:
            raise InstrumentError(f"{path.as_posix()}: {twice!r} occurs twice")
