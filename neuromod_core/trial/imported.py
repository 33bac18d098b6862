"""Asking an imported task of an undosed model: options ranked by log-likelihood, written answers matched exactly."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from neuromod_core.effects import Stream, Subject
from neuromod_core.engine import Row, Session, generate, score
from neuromod_core.instruments import Message
from neuromod_core.instruments.adapters import Task
from neuromod_core.instruments.tasks import Problem, rank
from neuromod_core.kernel.errors import DataError
from neuromod_core.kernel.rng import rng
from neuromod_core.kernel.types import Json
from neuromod_core.stats import Estimate, Result, bootstrap_t
from neuromod_core.stats.result import Interval
from neuromod_core.trial.control import UNDOSED
from neuromod_core.trial.prompts import Prompter

REPLY_TOKENS = 48


@dataclass(frozen=True)
class TaskCard:
    """What an imported task gives on one model.

    accuracy: share right of the items that were answered.  by_length: the same with log-likelihoods per character, for
    options of unequal length; None for written answers.  margin: log-likelihood of the true option less that of the
    best other one, nats; None where it is not defined.  chance: expected share right of a random responder.
    """

    task: str
    source: str
    fingerprint: str
    model: str
    n_items: int
    n_valid: int
    accuracy: Estimate | None
    by_length: Estimate | None
    margin: Result | None
    chance: float | None

    def as_json(self) -> Json:
        """Return the card as JSON types."""
        found = {name: getattr(self, name) for name in ("accuracy", "by_length", "margin")}
        return {
            "task": self.task,
            "source": self.source,
            "fingerprint": self.fingerprint,
            "model": self.model,
            "n_items": self.n_items,
            "n_valid": self.n_valid,
            "chance": self.chance,
            **{name: None if value is None else value.as_row() for name, value in found.items()},
        }


def share(right: Sequence[float]) -> Estimate:
    """Return the mean of marks of 0 to 1 with Wilson's interval.

    Formula:  (p + z^2 / 2n +- z sqrt(p (1 - p) / n + z^2 / 4n^2)) / (1 + z^2 / n).
    Source: Wilson 1927, Journal of the American Statistical Association 22:209.

    Raises:
        DataError: for no marks.

    >>> print(share([1, 1, 1, 0]))
    p = 0.75, 95% CI [0.30, 0.95] (Wilson, n = 4)
    """
    if not right:
        raise DataError("A share of no marks was asked for.")
    n, z = len(right), 1.959964
    p = math.fsum(right) / n
    centre, scale = p + z * z / (2 * n), 1 + z * z / n
    half = z * math.sqrt(p * (1 - p) / n + z * z / (4 * n * n))
    limits = Interval((centre - half) / scale, (centre + half) / scale, 0.95)
    return Estimate(symbol="p", estimate=p, ci=limits, n=n, method="Wilson")


def ask(
    task: Task, session: Session, subject: Subject, prompter: Prompter, tick: Callable[[], None] = lambda: None
) -> TaskCard:
    """Return the card of an imported task; `tick` is told of every item."""
    if task.written:
        return _written(task, session, subject, prompter, tick)
    plain, by_length, margins = [], [], []
    for problem in task.problems:
        loglik = _read(problem, session, subject, prompter)
        plain.append(rank(problem, loglik).value)
        lengths = [value / len(option) for value, option in zip(loglik, problem.options, strict=True)]
        by_length.append(rank(problem, lengths).value)
        others = [value for place, value in enumerate(loglik) if place != problem.truth]
        margins.append(loglik[problem.truth] - max(others))
        tick()
    right = [value for value in plain if value is not None]
    return TaskCard(
        task=task.name,
        source=task.source,
        fingerprint=task.fingerprint,
        model=session.model.name,
        n_items=task.size,
        n_valid=len(right),
        accuracy=share(right),
        by_length=share([value for value in by_length if value is not None]),
        margin=_margin(margins),
        chance=math.fsum(problem.chance for problem in task.problems) / task.size,
    )


def _read(problem: Problem, session: Session, subject: Subject, prompter: Prompter) -> list[float]:
    """Return the log-likelihood of every option as the reply to the prompt, nats."""
    row = Row(prompter.text(prompter.chat([Message("user", problem.prompt)])), UNDOSED, Stream(0, problem.id))
    options = [prompter.text(option) for option in problem.options]
    return [one.raw for one in score(session, [row], options, subject)[0]]


def _margin(values: Sequence[float]) -> Result | None:
    finite = np.asarray(values, dtype=np.float64)
    try:
        return bootstrap_t(finite, generator=rng(0, "margin"))
    except DataError:
        return None


def _written(task: Task, session: Session, subject: Subject, prompter: Prompter, tick: Callable[[], None]) -> TaskCard:
    rows = [
        Row(prompter.text(prompter.chat([Message("user", each.prompt)])), UNDOSED, Stream(0, each.id))
        for each in task.written
    ]
    marks = []
    for each, reply in zip(task.written, generate(session, rows, subject, tokens=REPLY_TOKENS), strict=True):
        text = session.model.tokenizer.decode(reply.tokens, skip_special_tokens=True)
        marks.append(each.marked(text))
        tick()
    right = [float(mark) for mark in marks if mark is not None]
    return TaskCard(
        task=task.name,
        source=task.source,
        fingerprint=task.fingerprint,
        model=session.model.name,
        n_items=task.size,
        n_valid=len(right),
        accuracy=share(right) if right else None,
        by_length=None,
        margin=None,
        chance=None,
    )
