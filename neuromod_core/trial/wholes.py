"""Statistics of a whole arm, from the panel's ranked problems: they are no mean over units, and none of them is tested.

Units are resampled with replacement, each with all of its problems; the interval is that of the middle 95 % of what the
resamples give. Source: Efron 1979 (bootstrap); Field & Welsh 2007 (of clusters).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from neuromod_core.instruments.tasks import detection, probabilities
from neuromod_core.instruments.tasks.certainty import calibration_error
from neuromod_core.kernel.rng import rng
from neuromod_core.trial.examine import EVIDENCE, N_BACK, RANKED

RESAMPLES = 999
LEAST = 5  # problems, of each kind where there are two: fewer say nothing of an arm
WHOLES: Mapping[str, str] = MappingProxyType(
    {
        "ECE": "expected calibration error of ranked problems",
        "AUC": "area under the curve of n-back, chance .5",
        "d'": "d' of n-back, chance 0",
    }
)
Array = NDArray[np.float64]
Statistics = Callable[[Array, Array], Mapping[str, float | None]]


@dataclass(frozen=True)
class Whole:
    """A statistic of one arm with its interval; missing with a reason.  n: problems; units: those they come from."""

    arm: str
    name: str
    value: float | None
    low: float | None
    high: float | None
    n: int
    units: int
    reason: str | None


def wholes(panel: pd.DataFrame, arms: Sequence[str], seed: int) -> tuple[Whole, ...]:
    """Return every statistic of every arm; none where no problem was asked. panel: rows with unit_id and arm."""
    solved = panel[panel["instrument"].isin(RANKED) & (panel["reading"] == "ranked")]
    noticed = panel[(panel["instrument"] == N_BACK) & (panel["reading"] == EVIDENCE)]
    found: list[Whole] = []
    for arm in arms:
        if len(rows := solved[solved["arm"] == arm]):
            found += _calibration(arm, rows, seed)
        if len(rows := noticed[noticed["arm"] == arm]):
            found += _detection(arm, rows, seed)
    return tuple(sorted(found, key=lambda each: list(WHOLES).index(each.name)))


def _calibration(arm: str, rows: pd.DataFrame, seed: int) -> Iterator[Whole]:
    """Yield the calibration error: few problems have a larger one than many, so that arms of one n are compared."""
    valid = rows[rows["value"].notna()]
    sure = np.array([max(probabilities(list(loglik))) for loglik in valid["loglik"]], dtype=np.float64)
    right = valid["value"].to_numpy(dtype=np.float64)
    why = None if len(valid) >= LEAST else f"{len(valid)} problems were read, {LEAST} are needed"
    yield from _all(arm, ["ECE"], valid, (sure, right), _error, why, seed)


def _error(sure: Array, right: Array) -> Mapping[str, float | None]:
    return {"ECE": calibration_error(sure, right)}


def _detection(arm: str, rows: pd.DataFrame, seed: int) -> Iterator[Whole]:
    valid = rows[rows["value"].notna() & rows["event"].notna()]
    there = valid["event"].to_numpy(dtype=np.float64)
    evidence = valid["value"].to_numpy(dtype=np.float64)
    hits, others = int(there.sum()), int(len(there) - there.sum())
    enough = min(hits, others) >= LEAST
    why = None if enough else f"{hits} matches and {others} others were read, {LEAST} of each are needed"
    yield from _all(arm, ["AUC", "d'"], valid, (there, evidence), _told_apart, why, seed)


def _told_apart(there: Array, evidence: Array) -> Mapping[str, float | None]:
    found = detection((there > 0).tolist(), evidence.tolist())
    return {"AUC": found.auc, "d'": found.d_prime}


def _all(
    arm: str,
    names: Sequence[str],
    rows: pd.DataFrame,
    columns: tuple[Array, Array],
    statistics: Statistics,
    why: str | None,
    seed: int,
) -> Iterator[Whole]:
    """Yield statistics of two columns, one number a row, with intervals; missing where there is a reason why."""
    units, n = rows["unit_id"].nunique(), len(rows)
    if why is not None:
        yield from (Whole(arm, name, None, None, None, n, units, why) for name in names)
        return
    places = list(rows.reset_index(drop=True).groupby("unit_id").indices.values())
    draw = rng(seed, "wholes", *names)  # of every arm the same units
    drawn: list[Mapping[str, float | None]] = []
    for chosen in draw.integers(units, size=(RESAMPLES, units)):
        again = np.concatenate([places[unit] for unit in chosen])
        drawn.append(statistics(columns[0][again], columns[1][again]))
    values = statistics(*columns)
    for name in names:
        seen = [value for each in drawn if (value := each[name]) is not None]
        low, high = (float(end) for end in np.quantile(seen, [0.025, 0.975]))
        yield Whole(arm, name, values[name], low, high, n, units, None)
