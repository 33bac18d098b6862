"""Token-bias leakage: how much of a shift by options is there without any content to answer.

A pack that favours some marks, or some place in the key, shifts the answer to every sentence, also to one that says
nothing. What a content-free sentence shifts by under the same key is bias; what is left is about the item.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass

import numpy as np
import pandas as pd

from neuromod_core.trial.readings import CONTENT_FREE
from neuromod_core.trial.wide import Array, Wide, wide

READ = ("options_raw", "options_expressed", "texts_raw", "texts_expressed")
LEAST_SHIFT = 1.0  # POMP points: a share of less than that is noise over noise


@dataclass(frozen=True)
class Leakage:
    """One row of `leakage`: an arm on a scale in one reading, in POMP points, against the baseline.

    shift: of the scale.  content_free: of sentences that say nothing.  residual: their difference, within units.
    share: content_free / shift; None where the shift is below one point.  n: units with all four scores.
    reason: why a number is missing.
    """

    arm: str
    scale: str
    reading: str
    shift: float | None
    content_free: float | None
    residual: float | None
    share: float | None
    n: int
    reason: str | None

    def as_row(self) -> dict[str, object]:
        """Return the row of the table."""
        return asdict(self)


def leakage(scores: pd.DataFrame, baseline: str, arms: Sequence[str], scales: Sequence[str]) -> list[Leakage]:
    """Return how much of every arm's shift a content-free sentence explains, for each reading by options.

    scores: the `scores` table, members of an arm averaged within units.

    Source: Zhao et al. 2021, Calibrate Before Use (content-free inputs show the bias of an answer key).
    """
    found: list[Leakage] = []
    for reading in READ:
        rows = scores[scores["reading"] == reading]
        if CONTENT_FREE in set(rows["scale"]):
            found += _rows(wide(rows, reading), reading, baseline, arms, scales)
    return found


def _rows(table: Wide, reading: str, baseline: str, arms: Sequence[str], scales: Sequence[str]) -> Iterator[Leakage]:
    for arm in (arm for arm in arms if arm != baseline):
        members = [member for given, member in table.cells if given == arm]
        for scale in (scale for scale in scales if scale in table.scales):
            shift, free = (
                table.mean(table.on(each), arm, members) - table.mean(table.on(each), baseline, ("",))
                for each in (scale, CONTENT_FREE)
            )
            both = np.isfinite(shift) & np.isfinite(free)
            yield _row(arm, scale, reading, shift[both], free[both])


def _row(arm: str, scale: str, reading: str, shift: Array, free: Array) -> Leakage:
    if not len(shift):
        absent = "no unit has valid scores of both under the arm and the baseline"
        return Leakage(arm, scale, reading, None, None, None, None, 0, absent)
    mean, bias = float(shift.mean()), float(free.mean())
    small = abs(mean) < LEAST_SHIFT
    reason = f"a shift below {LEAST_SHIFT:g} point has no share" if small else None
    return Leakage(arm, scale, reading, mean, bias, mean - bias, None if small else bias / mean, len(shift), reason)
