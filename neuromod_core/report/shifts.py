"""Means of within-unit differences, for pictures and tables. No test is done here.

A unit's several members, prompts or samples are averaged first, because the unit is what was drawn; then
shift = mean over units of (arm - baseline), with the 95 % interval  shift +- t * sd / sqrt(n)  between units.
A pair with a missing side is left out; n says how many remain.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple, TypeAlias

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.stats import t as student

from neuromod_core.report.data import ReportData
from neuromod_core.report.wording import number


class Mean(NamedTuple):
    """A mean over n units and the half-width of its 95 % interval; None where it cannot be formed."""

    mean: float | None
    half: float | None
    n: int


Means: TypeAlias = Mapping[tuple[str, ...], Mean]
"""Arm, or arm and one more name -> mean."""

NO_MEAN = Mean(None, None, 0)


class Curve(NamedTuple):
    """Mean over units at each token, and the half-width of its 95 % interval. Shape of each: (tokens,)."""

    mean: NDArray[np.float64]
    half: NDArray[np.float64]


def summarise(frame: pd.DataFrame, by: Sequence[str], value: str) -> Means:
    """Return the mean of `value` over units for each combination of `by`; a unit's rows are averaged first."""
    units = frame.groupby([*by, "unit_id"], sort=False, observed=True)[value].mean().reset_index()
    groups = units.groupby(list(by), sort=False, observed=True)[value]
    return {tuple(map(str, key)): _mean(values.dropna().to_numpy(float)) for key, values in groups}


def _mean(values: NDArray[np.float64]) -> Mean:
    if values.size == 0:
        return NO_MEAN
    mean, half = _curve(values[:, None])
    return Mean(float(mean[0]), number(float(half[0])), values.size)


def _curve(values: NDArray[np.float64]) -> Curve:
    """Return mean and half-width over the rows of `values` (units x tokens), NaN left out."""
    n = np.isfinite(values).sum(axis=0)
    mean = np.nansum(values, axis=0) / n
    degrees = np.where(n > 1, n - 1.0, np.nan)
    variance = np.nansum((values - mean) ** 2, axis=0) / degrees
    return Curve(mean, student.ppf(0.975, degrees) * np.sqrt(variance / n))


def paired(frame: pd.DataFrame, by: Sequence[str], value: str, baseline: str) -> pd.DataFrame:
    """Return within-unit differences to `baseline`: columns arm, *by, unit_id, `value`; NaN if a side is missing."""
    keys = ["arm", *by, "unit_id"]
    units = frame.astype({value: float}).groupby(keys, sort=False, observed=True)[value].mean().reset_index()
    zero = units[units["arm"] == baseline].drop(columns="arm").rename(columns={value: "_zero"})
    joined = units.merge(zero, how="left", on=[*by, "unit_id"])
    return joined.assign(**{value: joined[value] - joined["_zero"]}).drop(columns="_zero")


def shift(frame: pd.DataFrame, by: Sequence[str], value: str, baseline: str) -> Means:
    """Return the mean shift of `value` against `baseline` for each (arm, *by)."""
    return summarise(paired(frame, by, value, baseline), ["arm", *by], value)


def scale_shifts(data: ReportData, reading: str) -> Means:
    """Return the score shifts in one reading for each (arm, scale)."""
    rows = data.scores[data.scores["reading"] == reading]
    return shift(rows, ["scale"], "value", data.study.baseline)


def scale_names(data: ReportData, means: Means) -> tuple[str, ...]:
    """Return the scales in `means`: the primary scale first, the others by name."""
    return tuple(sorted({scale for _, scale in means}, key=lambda name: (name != data.primary_scale, name)))


def item_shifts(data: ReportData) -> Means:
    """Return the shifts of the primary scale's item contrasts for each (arm, item)."""
    rows = data.items[data.items["scale"] == data.primary_scale]
    return shift(rows, ["item"], "contrast", data.study.baseline)


def specificity_shifts(data: ReportData) -> Means:
    """Return the shift of the primary scale minus the mean shift of its foils, in the primary reading, for each arm."""
    rows = data.scores[data.scores["reading"] == data.primary_reading]
    long = paired(rows, ["scale"], "value", data.study.baseline)
    wide = long.pivot(index=["arm", "unit_id"], columns="scale", values="value")
    wide = wide.reindex(columns=[data.primary_scale, *data.study.foils])
    contrast = wide[data.primary_scale] - wide[list(data.study.foils)].mean(axis=1, skipna=False)
    return summarise(contrast.rename("value").reset_index(), ["arm"], "value")


def nll_shifts(data: ReportData) -> Means:
    """Return the shift of the neutral-text negative log-likelihood, nats per token, for each arm."""
    return shift(data.side_effects, [], "neutral_nll", data.study.baseline)


def story_shifts(data: ReportData, column: str) -> Means:
    """Return the shift of a number per story for each arm."""
    return shift(data.generations, [], column, data.study.baseline)


def story_means(data: ReportData, column: str) -> Means:
    """Return the mean of a number per story for each arm."""
    return summarise(data.generations, ["arm"], column)


def token_means(data: ReportData, arm: str, column: str, window: int) -> Curve:
    """Return the curve of a per-token list over the units of `arm`, smoothed in each story over `window` tokens.

    It ends where fewer than half of the units still have a token: beyond, the mean would be of other units.
    """
    rows = data.generations[data.generations["arm"] == arm]
    lists = [pd.Series(values, dtype=float).rolling(window, min_periods=1).mean() for values in rows[column]]
    stories = pd.DataFrame(lists).set_axis(rows["unit_id"].to_numpy(), axis=0)
    units = stories.groupby(level=0, sort=False).mean().to_numpy(float)
    reached = np.isfinite(units).sum(axis=0)
    return _curve(units[:, 2 * reached >= len(units)])


def at(means: Means, *key: str) -> Mean:
    """Return the mean under `key`, or the mean of nothing."""
    return means.get(key, NO_MEAN)
