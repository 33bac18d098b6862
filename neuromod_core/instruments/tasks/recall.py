"""Working memory as n-back: is the last letter the same as the one n places before it, and how well is that detected.

Source: Kirchner 1958; Hautus 1995 (log-linear correction); Hanley & McNeil 1982 (area under the curve).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import NormalDist

import numpy as np

from neuromod_core.instruments.tasks.generated import TASKS, Draft, Generator
from neuromod_core.instruments.tasks.problem import Cell
from neuromod_core.kernel.errors import DataError

LETTERS = "BCDFGHJKLMPQRSTVWXZ"
LENGTH = 8  # letters in a list
_COUNTED = {1: "1 place", 2: "2 places", 3: "3 places"}


def _make(n: int, number: int, stream: np.random.Generator) -> Draft:
    """Make a list of letters; even numbers match n back. For n > 1, half of the others match a neighbouring place."""
    letters = [LETTERS[index] for index in stream.permutation(len(LETTERS))[:LENGTH]]  # all different so far
    if number % 2 == 0:
        letters[-1] = letters[-1 - n]
    elif n > 1 and stream.random() < 0.5:
        letters[-1] = letters[-n] if stream.random() < 0.5 else letters[-2 - n]
    question = f"Is the last letter the same as the letter {_COUNTED[n]} before it? Answer yes or no."
    return Draft(f"Letters in order: {' '.join(letters)}. {question}", ("Yes", "No"), number % 2)


TASKS.add("n_back")(Generator(levels=3, make=_make))


@dataclass(frozen=True)
class Detection:
    """How well targets are told from other places.

    d_prime and criterion use the log-linear rates; auc is None unless both kinds of place were answered.
    """

    hits: int
    misses: int
    false_alarms: int
    correct_rejections: int
    d_prime: float | None
    criterion: float | None
    auc: float | None
    n_missing: int

    def __str__(self) -> str:
        counts = f"{self.hits} hits, {self.misses} misses, {self.false_alarms} false alarms, {self.n_missing} missing"
        if self.d_prime is None or self.auc is None:
            return f"detection not measurable ({counts})"
        return f"d' = {self.d_prime:.2f}, AUC = {self.auc:.2f} ({counts})"

    def as_row(self) -> dict[str, Cell]:
        """Return the row of a table of scores."""
        return {
            "hits": self.hits,
            "misses": self.misses,
            "false_alarms": self.false_alarms,
            "correct_rejections": self.correct_rejections,
            "d_prime": self.d_prime,
            "criterion": self.criterion,
            "auc": self.auc,
            "n_missing": self.n_missing,
        }


def yes_over_no(loglik: Sequence[float | None]) -> float | None:
    """Return the log-odds of "yes" from the log-likelihoods (yes, no), nats; None if one is missing or both excluded.

    Raises:
        DataError: for other than two values.
    """
    if len(loglik) != 2:
        raise DataError(f"Detection reads yes and no; {len(loglik)} log-likelihoods were given.")
    yes, no = loglik
    return None if yes is None or no is None or yes == no == -math.inf else yes - no


def detection(targets: Sequence[bool], evidence: Sequence[float | None]) -> Detection:
    """Return hits, false alarms, d', criterion and AUC of evidence (places,) that each place is a target.

    evidence: log-odds of "yes", nats; above 0 means "yes"; None is missing and counts nowhere.
    Formula:  H = (hits + 1/2) / (targets + 1),  F = (false alarms + 1/2) / (others + 1);
        d' = z(H) - z(F),  criterion = -(z(H) + z(F)) / 2;
        AUC = P(evidence at a target > elsewhere) + P(equal) / 2.

    Raises:
        DataError: for unequal lengths, or evidence that is NaN.
    """
    if len(targets) != len(evidence):
        raise DataError(f"{len(evidence)} readings for {len(targets)} places.")
    if any(value is not None and math.isnan(value) for value in evidence):
        raise DataError("Evidence that is not a number (NaN) cannot be ranked; None stands for a missing answer.")
    given = [(target, value) for target, value in zip(targets, evidence, strict=True) if value is not None]
    there, elsewhere = [v for target, v in given if target], [v for target, v in given if not target]
    hits, false_alarms = sum(v > 0 for v in there), sum(v > 0 for v in elsewhere)
    both = bool(there and elsewhere)
    z_hit = NormalDist().inv_cdf((hits + 0.5) / (len(there) + 1))
    z_false = NormalDist().inv_cdf((false_alarms + 0.5) / (len(elsewhere) + 1))
    return Detection(
        hits=hits,
        misses=len(there) - hits,
        false_alarms=false_alarms,
        correct_rejections=len(elsewhere) - false_alarms,
        d_prime=z_hit - z_false if both else None,
        criterion=-(z_hit + z_false) / 2 if both else None,
        auc=_area(there, elsewhere) if both else None,
        n_missing=len(evidence) - len(given),
    )


def _area(there: Sequence[float], elsewhere: Sequence[float]) -> float:
    """Return the share of (target, other) pairs in the right order, ties counting half."""
    a, b = np.array(there)[:, None], np.array(elsewhere)
    return float(((a > b) + 0.5 * (a == b)).mean())
