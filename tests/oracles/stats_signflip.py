"""Sign-flip tests as the papers write them: one flip, one contrast and one t at a time."""

from __future__ import annotations

import itertools
import math
import statistics
from collections.abc import Callable, Iterator, Sequence

TIE = 1e-9  # relative: flips that are equal on paper

Fold = Callable[[float], float]


def student_t(numbers: Sequence[float]) -> float:
    return statistics.fmean(numbers) / (statistics.stdev(numbers) / math.sqrt(len(numbers)))


def flipped(rows: Sequence[Sequence[float]]) -> Iterator[list[list[float]]]:
    """Yield the rows (one per unit) under every choice of signs; a sign turns a whole row."""
    for signs in itertools.product((1, -1), repeat=len(rows)):
        yield [[sign * value for value in row] for sign, row in zip(signs, rows, strict=True)]


def reaches(value: float, threshold: float) -> bool:
    return value >= threshold - TIE * abs(threshold)


def exact_p(numbers: Sequence[float], statistic: Callable[[Sequence[float]], float], fold: Fold = abs) -> float:
    """Return the share of all sign flips whose folded statistic reaches the observed one."""
    observed = fold(statistic(numbers))
    flips = [[row[0] for row in rows] for rows in flipped([[number] for number in numbers])]
    return statistics.fmean(reaches(fold(statistic(flip)), observed) for flip in flips)


def step_down_max_t(rows: Sequence[Sequence[float]], fold: Fold = abs) -> list[float]:
    """Return adjusted p by the step-down max-T of Westfall & Young 1993 (algorithm 4.1), over all sign flips."""
    contrasts = range(len(rows[0]))
    observed = [fold(student_t([row[k] for row in rows])) for k in contrasts]
    order = sorted(contrasts, key=lambda k: -observed[k])
    counts = [0] * len(order)
    for flip in flipped(rows):
        t = [fold(student_t([row[k] for row in flip])) for k in contrasts]
        for place, k in enumerate(order):
            counts[place] += reaches(max(t[later] for later in order[place:]), observed[k])
    adjusted = [0.0] * len(order)
    for place, k in enumerate(order):
        adjusted[k] = max(counts[: place + 1]) / 2 ** len(rows)
    return adjusted
