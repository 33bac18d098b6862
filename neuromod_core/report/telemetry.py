"""What was seen while stories were read once more, per arm."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd

from neuromod_core.engine.telemetry import DISTANCES, PERIODS
from neuromod_core.report.data import ReportData
from neuromod_core.report.shifts import Mean, Means, at, shift, summarise
from neuromod_core.report.tables import Cell, Table
from neuromod_core.report.wording import MISSING, plain

CURVES = ("kl", "surprisal", "entropy", "repeated", "attention_entropy")
NAMES = {
    "kl": "KL to the undosed model (nats per token)",
    "surprisal": "surprisal under the undosed model (nats per token)",
    "entropy": "entropy of what was sampled from (nats)",
    "repeated": "share of tokens that end a repeated run of four",
    "attention_entropy": "attention entropy (nats)",
}


def distance_names() -> tuple[str, ...]:
    """Return what the bins of attention by distance are called."""
    ends = [f"{low}" if high == low else f"{low}+" if high is None else f"{low}\u2013{high}" for low, high in DISTANCES]
    return ("itself", *ends[1:])


def period_names() -> tuple[str, ...]:
    """Return what the bands of the spectrum are called."""
    return tuple(f"{low:g}+" if high is None else f"{low:g}\u2013{high:g}" for low, high in PERIODS)


def _mean(values: object) -> float | None:
    if values is None or (isinstance(values, float) and np.isnan(values)):
        return None
    return float(np.mean(np.asarray(values, dtype=np.float64)))


def _number(frame: pd.DataFrame, column: str, place: int | None = None) -> pd.DataFrame:
    """Return a frame of arm, unit and one number a story: the mean of a list, or one of its places."""
    values = [_mean(row) if place is None or row is None else float(row[place]) for row in frame[column]]
    return frame[["arm", "unit_id"]].assign(value=pd.Series(values, index=frame.index, dtype=float))


def means(data: ReportData, column: str, place: int | None = None) -> Means:
    """Return the mean over units of a number per story, for each arm."""
    return summarise(_number(_frame(data), column, place), ["arm"], "value")


def moved(data: ReportData, column: str, place: int | None = None) -> Means:
    """Return the mean shift of a number per story against the baseline, for each arm."""
    return shift(_number(_frame(data), column, place), [], "value", data.study.baseline)


def _frame(data: ReportData) -> pd.DataFrame:
    return pd.DataFrame(columns=["arm", "unit_id"]) if data.harms is None else data.harms.telemetry


def told(data: ReportData) -> tuple[str, ...]:
    """Return the arms of which stories were read once more."""
    frame = _frame(data)
    return tuple(arm for arm in data.arm_names if arm in set(frame["arm"]))


def units(data: ReportData) -> int:
    """Return of how many units stories were read once more."""
    return int(_frame(data)["unit_id"].nunique())


def _cell(mean: Mean) -> Cell:
    if mean.mean is None:
        return Cell(MISSING, "missing")
    half = "" if mean.half is None else f" \u00b1 {plain(mean.half, 3)}"
    return Cell(f"{plain(mean.mean, 3)}{half}", "number")


def table(data: ReportData) -> Table | None:
    """Return one row per arm: means over units of what was seen, with 95 % half-widths; None if nothing was."""
    arms = told(data)
    if not arms:
        return None
    columns = [means(data, name) for name in CURVES]
    columns += [means(data, "attention_mass", place) for place in range(len(DISTANCES))]
    columns += [means(data, "spectral_power", place) for place in range(len(PERIODS))]
    header = [NAMES[name] for name in CURVES]
    header += [f"attention on {name} tokens before" for name in _titled(distance_names())]
    header += [f"power at periods of {name} tokens" for name in period_names()]
    rows = tuple((Cell(arm), *[_cell(at(column, arm)) for column in columns]) for arm in arms)
    return Table(
        f"While stories are read: means \u00b1 95 % half-width over {units(data)} units", ("arm", *header), rows
    )


def _titled(names: Sequence[str]) -> list[str]:
    return [name.replace("itself", "0") for name in names]
