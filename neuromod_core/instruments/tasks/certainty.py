"""Calibration under influence: is who is sure also right? From log-probabilities over options."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from neuromod_core.instruments.tasks.problem import Cell, Problem
from neuromod_core.kernel.errors import DataError, OutOfRange


@dataclass(frozen=True)
class Certainty:
    """Calibration of one responder; None with a reason when no problem was answered.

    ece: expected calibration error, 0 ... 1.  brier: 0 ... 2.  skill:  1 - brier / (brier of even odds),  so 1 when
    perfect and 0 with even odds everywhere.  confidence: mean probability of the likeliest option.
    """

    ece: float | None
    brier: float | None
    skill: float | None
    accuracy: float | None
    confidence: float | None
    n_items: int
    n_valid: int
    reason: str | None

    def __str__(self) -> str:
        if self.ece is None or self.brier is None or self.accuracy is None or self.confidence is None:
            return f"calibration missing ({self.reason}), 0 of {self.n_items} valid"
        return (
            f"ECE = {self.ece:.3f}, Brier = {self.brier:.3f}, accuracy {self.accuracy:.2f} at confidence "
            f"{self.confidence:.2f}, {self.n_valid} of {self.n_items} valid"
        )

    def as_row(self) -> dict[str, Cell]:
        """Return the row of a table of scores."""
        return {
            "ece": self.ece,
            "brier": self.brier,
            "skill": self.skill,
            "accuracy": self.accuracy,
            "confidence": self.confidence,
            "n_items": self.n_items,
            "n_valid": self.n_valid,
            "reason": self.reason,
        }


def probabilities(loglik: Sequence[float]) -> tuple[float, ...]:
    """Return the probabilities of options given their log-likelihoods (nats), made to add up to 1.

    Raises:
        DataError: if every option is excluded, or a value is NaN.
    """
    best = max(loglik)
    if any(math.isnan(value) for value in loglik) or math.isinf(best):
        raise DataError(f"Log-likelihoods {list(loglik)} make no distribution; at least one finite value is needed.")
    odds = [math.exp(value - best) for value in loglik]
    return tuple(value / math.fsum(odds) for value in odds)


def certainty(problems: Sequence[Problem], loglik: Sequence[Sequence[float | None]], *, bins: int = 10) -> Certainty:
    """Return the calibration of log-likelihoods (problems, options), nats. One with a missing option is left out.

    Formula:  p = softmax(log-likelihoods);  Brier = mean over problems of  sum_k (p_k - [k true])^2;
        ECE = sum over bins of  n_b / n |accuracy_b - confidence_b|,  bins of equal width on the highest p, the
        upper edge included. Options equally likely share the accuracy.
    Source: Brier 1950; Naeini, Cooper & Hauskrecht 2015; Guo et al. 2017.

    Raises:
        DataError: for another number of readings than problems, or of values than options.
        OutOfRange: for less than one bin.
    """
    if len(problems) != len(loglik):
        raise DataError(f"{len(loglik)} readings for {len(problems)} problems.")
    rows = [_judge(problem, values) for problem, values in zip(problems, loglik, strict=True)]
    valid = [row for row in rows if row is not None]
    if not valid:
        return Certainty(None, None, None, None, None, len(rows), 0, "no problem has a reading of every option")
    sure, right, brier, even = np.array(valid, dtype=np.float64).T
    return Certainty(
        ece=calibration_error(sure, right, bins=bins),
        brier=float(brier.mean()),
        skill=1 - float(brier.mean() / even.mean()),
        accuracy=float(right.mean()),
        confidence=float(sure.mean()),
        n_items=len(rows),
        n_valid=len(valid),
        reason=None,
    )


def calibration_error(sure: NDArray[np.float64], right: NDArray[np.float64], *, bins: int = 10) -> float:
    """Return the expected calibration error, 0 ... 1, of answers (answers,) given with a probability, and their marks.

    Formula:  sum over bins of  n_b / n |accuracy_b - confidence_b|,  bins of equal width, the upper edge included.
    Source: Naeini, Cooper & Hauskrecht 2015; Guo et al. 2017.

    Raises:
        OutOfRange: for less than one bin.
        DataError: for no answer, or another number of marks.
    """
    if bins < 1:
        raise OutOfRange(f"{bins} bins were asked for; at least 1 is needed.")
    if sure.size != right.size or not sure.size:
        raise DataError(f"{right.size} marks for {sure.size} probabilities; as many, and at least one, are needed.")
    which = np.clip(np.ceil(sure * bins).astype(int) - 1, 0, bins - 1)
    return float(np.abs(np.bincount(which, weights=right - sure, minlength=bins)).sum()) / sure.size


def _judge(problem: Problem, loglik: Sequence[float | None]) -> tuple[float, float, float, float] | None:
    """Return confidence, mark, Brier score, and the Brier score of even odds; None where a reading is missing."""
    if len(loglik) != len(problem.options):
        raise DataError(f"{problem.id}: {len(loglik)} log-likelihoods for {len(problem.options)} options.")
    read = [value for value in loglik if value is not None]
    if len(read) < len(loglik) or max(read) == -math.inf:
        return None
    p = probabilities(read)
    brier = math.fsum((value - (index == problem.truth)) ** 2 for index, value in enumerate(p))
    right = (p[problem.truth] == max(p)) / p.count(max(p))
    return max(p), right, brier, 1 - problem.chance
