"""Items of behavioural tasks, what one answer is worth, and what many are worth together.

A problem has options, one of them true, and is read in two ways: the options ranked by their log-likelihoods, or the
written answer compared with the true option. This module knows no model: log-likelihoods and texts come in.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TypeAlias

from neuromod_core.instruments.texts import Text
from neuromod_core.kernel.errors import DataError, InstrumentError

Cell: TypeAlias = "str | int | float | None"
EMPTY = "empty answer"
UNREAD = "an option has no log-likelihood"
EXCLUDED = "every option is excluded by the sampler"
_NUMBER = re.compile(r"(?<![\w.])-?\d[\d,]*(?:\.\d+)?")


@dataclass(frozen=True)
class Problem(Text):
    """A question with options; `truth` is the index of the right one, `level` its difficulty from 1 up."""

    id: str
    task: str
    level: int
    prompt: str
    options: tuple[str, ...]
    truth: int

    def __post_init__(self) -> None:
        if len(self.options) < 2 or len(set(self.options)) < len(self.options) or self.level < 1:
            raise InstrumentError(
                f"{self.task} {self.id}: options {self.options} at level {self.level}; two or more distinct options "
                "and a level of at least 1 are needed."
            )
        if not 0 <= self.truth < len(self.options):
            raise InstrumentError(f"{self.task} {self.id}: truth {self.truth} is no index of {self.options}.")

    @property
    def answer(self) -> str:
        """Return the true option."""
        return self.options[self.truth]

    @property
    def chance(self) -> float:
        """Return the expected mark of someone who picks an option at random."""
        return 1 / len(self.options)


@dataclass(frozen=True)
class Mark:
    """What one answer is worth, 0 ... 1; a missing one has no value and a reason, never both or neither.

    chance: expected mark of a random responder; None where a random answer is not defined.
    """

    item: str
    task: str
    level: int
    value: float | None
    chance: float | None
    reason: str | None = None

    def __post_init__(self) -> None:
        if (self.value is None) == (self.reason is None):
            raise DataError(f"{self.task} {self.item}: value {self.value} and reason {self.reason!r}; one is needed.")

    def as_row(self) -> dict[str, Cell]:
        """Return the row of a table of marks."""
        return {
            "task": self.task,
            "item": self.item,
            "level": self.level,
            "value": self.value,
            "chance": self.chance,
            "reason": self.reason,
        }


def rank(problem: Problem, loglik: Sequence[float | None]) -> Mark:
    """Return the mark of options ranked by log-likelihood (options,), nats: 1 if the true one is the likeliest.

    Formula:  1 / (number of likeliest options) if the true option is among them, else 0; so equal values give chance.
    An option that the sampler excludes has minus infinity; one that was not read (None) makes the mark missing.

    Raises:
        DataError: for another number of log-likelihoods than options, or one that is NaN or plus infinity.
    """
    if len(loglik) != len(problem.options):
        raise DataError(f"{problem.id}: {len(loglik)} log-likelihoods for {len(problem.options)} options.")
    read = [value for value in loglik if value is not None]
    if any(math.isnan(value) or value == math.inf for value in read):
        raise DataError(f"{problem.id}: log-likelihoods {list(loglik)}; numbers below infinity are needed.")
    if len(read) < len(loglik):
        return marked(problem, None, UNREAD)
    best = max(read)
    if best == -math.inf:
        return marked(problem, None, EXCLUDED)
    return marked(problem, (read[problem.truth] == best) / read.count(best))


def exact(problem: Problem, text: str) -> Mark:
    """Return the mark of a written answer: 1 if it says the true option and no other, else 0; empty is missing.

    Where the true option is a whole number, the last number of the text counts (working may come before it). Otherwise
    the options that occur as whole words count, whatever their case, the longest reading first.

    >>> exact(Problem("a", "sums", 1, "2 + 2?", ("4", "5"), 0), "2 + 2 = 4.").value
    1.0
    """
    if not text.strip():
        return marked(problem, None, EMPTY)
    if re.fullmatch(r"-?\d+", problem.answer):
        found = _NUMBER.findall(text)
        return marked(problem, float(bool(found) and float(found[-1].replace(",", "")) == int(problem.answer)))
    longest = sorted(problem.options, key=len, reverse=True)
    pattern = rf"(?<!\w)(?:{'|'.join(re.escape(option.casefold()) for option in longest)})(?!\w)"
    return marked(problem, float(set(re.findall(pattern, text.casefold())) == {problem.answer.casefold()}))


def marked(problem: Problem, value: float | None, reason: str | None = None) -> Mark:
    """Return the mark of a problem."""
    return Mark(problem.id, problem.task, problem.level, value, problem.chance, reason)


@dataclass(frozen=True)
class Tally:
    """Marks of one task taken together: `value` is the mean of the valid ones, None with a reason if there are none.

    level: None for all levels together.  chance: mean chance of the valid items, None where it is not defined.
    """

    task: str
    level: int | None
    value: float | None
    chance: float | None
    n_items: int
    n_valid: int
    reason: str | None

    @property
    def above_chance(self) -> float | None:
        """Return  (value - chance) / (1 - chance):  1 for a perfect responder, 0 at chance."""
        return None if self.value is None or self.chance is None else (self.value - self.chance) / (1 - self.chance)

    def __str__(self) -> str:
        where = self.task if self.level is None else f"{self.task}, level {self.level}"
        if self.value is None:
            return f"{where}: missing ({self.reason}), 0 of {self.n_items} valid"
        chance = "" if self.chance is None else f" (chance {self.chance:.2f})"
        return f"{where}: {self.value:.2f}{chance}, {self.n_valid} of {self.n_items} valid"

    def as_row(self) -> dict[str, Cell]:
        """Return the row of a table of scores."""
        return {
            "task": self.task,
            "level": self.level,
            "value": self.value,
            "chance": self.chance,
            "above_chance": self.above_chance,
            "n_items": self.n_items,
            "n_valid": self.n_valid,
            "reason": self.reason,
        }


def tally(marks: Sequence[Mark]) -> Tally:
    """Return the marks of one task as one number.

    Raises:
        DataError: for no marks, or marks of several tasks.
    """
    return _tally(marks, None)


def by_level(marks: Sequence[Mark]) -> tuple[Tally, ...]:
    """Return one tally for each level of the marks of one task, easiest first.

    Raises:
        DataError: as `tally`.
    """
    levels = sorted({mark.level for mark in marks})
    return tuple(_tally([mark for mark in marks if mark.level == level], level) for level in levels)


def _tally(marks: Sequence[Mark], level: int | None) -> Tally:
    tasks = sorted({mark.task for mark in marks})
    if len(tasks) != 1:
        raise DataError(f"A tally is of one task; marks of {', '.join(tasks) or 'none'} were given.")
    values = [mark.value for mark in marks if mark.value is not None]
    reasons = sorted({mark.reason for mark in marks if mark.reason is not None})
    return Tally(
        task=tasks[0],
        level=level,
        value=math.fsum(values) / len(values) if values else None,
        chance=_mean_chance(mark.chance for mark in marks if mark.value is not None),
        n_items=len(marks),
        n_valid=len(values),
        reason=None if values else "; ".join(reasons),
    )


def _mean_chance(chances: Iterable[float | None]) -> float | None:
    given = list(chances)
    known = [chance for chance in given if chance is not None]
    return math.fsum(known) / len(known) if known and len(known) == len(given) else None
