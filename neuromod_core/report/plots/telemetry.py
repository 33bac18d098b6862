"""What was seen while stories were read once more: KL along a story, attention by distance, the spectrum of states."""

from __future__ import annotations

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from neuromod_core.report.canvas import Plot
from neuromod_core.report.data import ReportData
from neuromod_core.report.palette import MUTED, PAPER, RULE, looks
from neuromod_core.report.shifts import at
from neuromod_core.report.telemetry import distance_names, moved, period_names, told, units
from neuromod_core.report.wording import short

WINDOW = 8
"""Tokens over which a curve is smoothed."""


def telemetry(data: ReportData) -> list[Plot]:
    """Draw three panels: KL to the undosed model along the story; shifts of attention mass and of spectral power."""
    arms = told(data)
    if not arms or data.harms is None:
        return []
    figure = Figure(figsize=(10, 3.6), layout="constrained")
    left, middle, right = figure.subplots(1, 3)
    for arm in arms:
        _curve(left, data, arm)
    left.set_xlabel("token of the story")
    left.set_ylabel(f"KL to the undosed model\n(nats per token, over {WINDOW} tokens)")
    left.set_ylim(bottom=0)
    _bars(middle, data, arms, "attention_mass", distance_names())
    middle.set_xlabel("distance of what is attended to (tokens)")
    middle.set_ylabel(f"attention, shift against\n{short(data.study.baseline)} (percentage points)")
    _bars(right, data, arms, "spectral_power", period_names())
    right.set_xlabel("period of the last hidden states (tokens)")
    right.set_ylabel("power, shift (percentage points)")
    left.set_title(f"n = {units(data)} units", fontsize=8.5)
    for axes, column in ((middle, "attention_mass"), (right, "spectral_power")):
        axes.set_title(_said(data, arms, column), fontsize=8.5)
    handles, names = left.get_legend_handles_labels()
    figure.legend(handles, names, loc="outside upper left", ncols=min(len(names), 5), columnspacing=1.4)
    alt = (
        f"Three panels for {len(arms)} arms: KL divergence to the undosed model per token of the story, and shifts of "
        "attention by distance and of spectral power by period. The table below has the means."
    )
    return [Plot("telemetry", alt, figure)]


def _said(data: ReportData, arms: tuple[str, ...], column: str) -> str:
    """Return of how many units there is a shift: texts too short for a spectrum have none."""
    counts = {at(moved(data, column, 0), arm).n for arm in arms if arm != data.study.baseline}
    if len(counts) <= 1:
        return f"n = {max(counts, default=0)} units"
    return f"n = {min(counts)} to {max(counts)} units"


def second(data: ReportData, arm: str) -> bool:
    """Return whether an earlier arm has the same colour and marker: then this one is dashed, or open."""
    look = looks(data)
    before = data.arm_names[: data.arm_names.index(arm)]
    return any(look[other].colour == look[arm].colour and look[other].marker == look[arm].marker for other in before)


def _curve(axes: Axes, data: ReportData, arm: str) -> None:
    """Draw the mean over stories of an arm, as far as half of them reach."""
    if data.harms is None:
        return
    frame, look = data.harms.telemetry, looks(data)[arm]
    stories = [np.asarray(values, dtype=np.float64) for values in frame[frame["arm"] == arm]["kl"]]
    longest = max(map(len, stories))
    padded = np.array([np.pad(story, (0, longest - len(story)), constant_values=np.nan) for story in stories])
    reached = np.isfinite(padded).sum(axis=0) * 2 >= len(stories)
    mean = np.nanmean(padded[:, reached], axis=0)
    window = min(WINDOW, len(mean))
    smooth = np.convolve(mean, np.ones(window) / window, mode="valid")
    at_token = np.arange(len(smooth)) + (window - 1) / 2
    line = "--" if second(data, arm) else "-"
    axes.plot(at_token, smooth, color=look.colour, linewidth=1.4, linestyle=line, label=short(arm))


def _bars(axes: Axes, data: ReportData, arms: tuple[str, ...], column: str, names: tuple[str, ...]) -> None:
    """Draw the shift of each share of a list against the baseline, in percentage points, arms side by side."""
    others = [arm for arm in arms if arm != data.study.baseline]
    shifts = [moved(data, column, place) for place in range(len(names))]
    axes.axhline(0, color=MUTED, linewidth=0.7, zorder=1)
    spread = np.linspace(-0.3, 0.3, len(others)) if len(others) > 1 else np.zeros(1)
    for place, found in enumerate(shifts):
        for offset, arm in zip(spread, others, strict=False):
            mean, look = at(found, arm), looks(data)[arm]
            if mean.mean is not None:
                half = None if mean.half is None else 100 * mean.half
                face = PAPER if second(data, arm) else look.colour
                axes.errorbar(
                    place + offset, 100 * mean.mean, half, None, color=look.colour, marker=look.marker, markersize=4,
                    elinewidth=0.9, markerfacecolor=face,
                )  # fmt: skip
    if all(at(found, arm).mean is None for found in shifts for arm in others):
        axes.annotate("missing: see the table", (0.5, 0.5), xycoords="axes fraction", ha="center", color=MUTED)
        axes.set_yticks([])
    axes.set_xticks(range(len(names)), names)
    axes.set_xlim(-0.5, len(names) - 0.5)
    axes.grid(axis="y", color=RULE, linewidth=0.5)
