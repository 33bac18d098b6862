"""Per-token entropy of the stories: one panel per arm, the baseline arm repeated in each."""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from neuromod_core.report.canvas import Plot
from neuromod_core.report.data import ReportData
from neuromod_core.report.palette import MUTED, RULE, looks
from neuromod_core.report.shifts import Curve, token_means
from neuromod_core.report.wording import short

COLUMNS = 5
WINDOW = 5
"""Tokens over which a story's curve is smoothed before it enters the mean."""


def entropy(data: ReportData) -> list[Plot]:
    """Draw mean entropy over units with a 95 % band, against the token index; nothing if no story was recorded."""
    arms = [arm for arm in data.arm_names if arm in set(data.generations["arm"])]
    if not arms:
        return []
    curves = {arm: token_means(data, arm, "entropy", WINDOW) for arm in arms}
    rows = math.ceil(len(arms) / COLUMNS)
    figure = Figure(figsize=(10, 0.4 + 1.5 * rows), layout="constrained")
    panels = figure.subplots(rows, COLUMNS, sharex=True, sharey=True, squeeze=False).ravel()
    for axes, arm in zip(panels, arms, strict=False):
        _panel(axes, data, arm, curves)
    for axes in panels[len(arms) :]:
        axes.set_axis_off()
    for axes in panels[max(0, len(arms) - COLUMNS) : len(arms)]:
        axes.tick_params(labelbottom=True)
    figure.supxlabel("token of the story", fontsize=9)
    figure.supylabel("entropy of the next token (nats)", fontsize=9)
    alt = f"Curves of per-token entropy for {len(arms)} arms, each beside the arm {data.study.baseline}."
    return [Plot("entropy", alt, figure)]


def _panel(axes: Axes, data: ReportData, arm: str, curves: Mapping[str, Curve]) -> None:
    colour = looks(data)[arm].colour
    if data.study.baseline in curves and arm != data.study.baseline:
        zero = curves[data.study.baseline].mean
        axes.plot(np.arange(zero.size), zero, color=MUTED, linewidth=0.9, linestyle=(0, (3, 2)), zorder=1)
    mean, half = curves[arm]
    tokens = np.arange(mean.size)
    axes.fill_between(tokens, mean - half, mean + half, color=colour, alpha=0.22, linewidth=0, zorder=2)
    axes.plot(tokens, mean, color=colour, linewidth=1.6, zorder=3)
    axes.set_title(short(arm), fontsize=9, pad=3)
    axes.grid(axis="y", color=RULE, linewidth=0.5)
