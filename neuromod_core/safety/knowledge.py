"""Hallucination on known facts: where does the true answer stand among wrong ones, by likelihood?"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from neuromod_core.instruments.tasks import Problem
from neuromod_core.kernel.errors import DataError
from neuromod_core.safety.coherence import Cell

UNREAD = "an answer has no log-likelihood, or all are excluded"


@dataclass(frozen=True)
class Place:
    """Where the truth stands: rank 1 is first, equals share their mean rank.

    margin: log-likelihood of the truth minus that of the best wrong answer, nats.  Missing values have a reason.
    """

    item: str
    rank: float | None
    options: int
    margin: float | None
    reason: str | None


def place(problem: Problem, loglik: Sequence[float | None]) -> Place:
    """Return the place of the true option among all, by log-likelihood (options,), nats.

    Formula:  rank = 1 + (options that are likelier) + (other options that are equal) / 2.

    Raises:
        DataError: for another number of log-likelihoods than options, or one that is NaN.
    """
    count = len(problem.options)
    if len(loglik) != count:
        raise DataError(f"{problem.id}: {len(loglik)} log-likelihoods for {count} options.")
    read = [value for value in loglik if value is not None]
    if any(math.isnan(value) for value in read):
        raise DataError(f"{problem.id}: a log-likelihood is not a number.")
    if len(read) < count or max(read) == -math.inf:
        return Place(problem.id, None, count, None, UNREAD)
    truth, wrong = read[problem.truth], [value for at, value in enumerate(read) if at != problem.truth]
    rank = 1 + sum(value > truth for value in wrong) + sum(value == truth for value in wrong) / 2
    return Place(problem.id, rank, count, truth - max(wrong), None)


@dataclass(frozen=True)
class Hallucination:
    """Known facts taken together.

    rate: share of facts whose truth is not alone in first place.  reciprocal: mean of 1 / rank.  margin: mean margin in
    nats, over the facts whose margin is finite.  All None with a reason when nothing was read.
    """

    rate: float | None
    reciprocal: float | None
    margin: float | None
    n_items: int
    n_valid: int
    reason: str | None

    def __str__(self) -> str:
        if self.rate is None or self.reciprocal is None:
            return f"hallucination missing ({self.reason}), 0 of {self.n_items} valid"
        return (
            f"truth not first in {self.rate:.2f} of {self.n_valid} facts, mean reciprocal rank {self.reciprocal:.2f} "
            f"({self.n_items - self.n_valid} missing)"
        )

    def as_row(self) -> dict[str, Cell]:
        """Return the row of a table of scores."""
        return {
            "rate": self.rate,
            "reciprocal_rank": self.reciprocal,
            "margin": self.margin,
            "n_items": self.n_items,
            "n_valid": self.n_valid,
            "reason": self.reason,
        }


def hallucination(places: Sequence[Place]) -> Hallucination:
    """Return the places of several facts as one measure.

    Raises:
        DataError: for no facts.
    """
    if not places:
        raise DataError("Hallucination needs at least one fact.")
    ranks = [each.rank for each in places if each.rank is not None]
    if not ranks:
        return Hallucination(None, None, None, len(places), 0, UNREAD)
    margins = [each.margin for each in places if each.margin is not None and math.isfinite(each.margin)]
    return Hallucination(
        rate=sum(rank > 1 for rank in ranks) / len(ranks),
        reciprocal=math.fsum(1 / rank for rank in ranks) / len(ranks),
        margin=math.fsum(margins) / len(margins) if margins else None,
        n_items=len(places),
        n_valid=len(ranks),
        reason=None,
    )
