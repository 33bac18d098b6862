"""Which arm raises which scale: one panel an arm, one row a scale, with intervals and the minimum-effect band."""

from __future__ import annotations

import math
from collections.abc import Sequence

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch

from neuromod_core.report.canvas import Plot
from neuromod_core.report.data import ReportData
from neuromod_core.report.palette import BAND, INK, MUTED, PAPER, RULE, looks
from neuromod_core.report.verdicts import Verdict, verdicts
from neuromod_core.report.wording import reading_unit, short
from neuromod_core.trial.crossed import CROSSED, TOLD

COLUMNS = 4
TOLD_ABOVE = 0.32  # of a line: a told state's shift stands above its contrast


def crossed(data: ReportData) -> list[Plot]:
    """Draw family C1, filled where a scale was raised, and C2; nothing where no contrast could be estimated."""
    rows, told = verdicts(data, CROSSED), verdicts(data, TOLD)
    arms = [name for name in data.arm_names if any(row.arm == name for row in rows)]
    if not any(row.estimate is not None for row in rows):
        return []
    scales = list(dict.fromkeys(row.scale for row in rows))
    lines, columns = math.ceil(len(arms) / COLUMNS), min(COLUMNS, len(arms))
    size = (1.6 + 2.3 * columns, 1.3 + lines * (0.7 + 0.24 * len(scales)))
    figure = Figure(figsize=size, layout="constrained")
    grid = figure.subplots(lines, columns, sharex=True, sharey=True, squeeze=False).ravel()
    for axes, arm in zip(grid, arms, strict=False):
        _panel(axes, data, arm, [row for row in (*rows, *told) if row.arm == arm], scales)
    for axes in grid[len(arms) :]:
        axes.set_visible(False)
    for axes in grid[max(0, len(arms) - columns) : len(arms)]:
        axes.tick_params(labelbottom=True)
    grid[0].set_ylim(len(scales) - 0.5, -0.5)
    grid[0].set_yticks(range(len(scales)), [short(scale) for scale in scales])
    unit = reading_unit(data.primary_reading)
    figure.supxlabel(f"specificity contrast, expressed: arm minus its comparator, target minus foils ({unit})", size=9)
    figure.legend(handles=_legend(data, bool(told)), loc="outside upper left", ncols=3, columnspacing=1.4)
    return [Plot("crossed", _alt(arms, scales, rows, told), figure)]


def _panel(axes: Axes, data: ReportData, arm: str, rows: list[Verdict], scales: list[str]) -> None:
    colour, target = looks(data)[arm].colour, data.arm_rows[arm].target
    axes.axvspan(-data.min_effect, data.min_effect, color=BAND, linewidth=0, zorder=0)
    axes.axvline(0, color=MUTED, linewidth=0.8, zorder=1)
    if target in scales:
        axes.axhspan(scales.index(target) - 0.5, scales.index(target) + 0.5, color=RULE, alpha=0.6, lw=0, zorder=0)
    for row in rows:
        told = row.family == TOLD
        height = scales.index(row.scale) - TOLD_ABOVE * told
        if row.estimate is None:
            axes.text(0, height, "missing" if row.informative else "zero", fontsize=6.5, color=MUTED, va="center")
            continue
        if row.ci:
            axes.plot(row.ci, [height, height], color=colour, linewidth=1.6, zorder=2)
        axes.add_line(_dot(colour, filled=_passed(row), x=row.estimate, y=height, told=told))
        axes.update_datalim([(row.estimate, height)])
    axes.set_title(short(arm), fontsize=8.5, loc="left", pad=4)
    axes.tick_params(axis="y", length=0)
    axes.spines["left"].set_visible(False)
    axes.autoscale_view(scaley=False)


def _passed(row: Verdict) -> bool:
    """Return whether the registered test passed, whatever the gates say of its licence."""
    return row.state in ("supported", "not licensed")


def _dot(
    colour: str, *, filled: bool, x: float | None = None, y: float = 0.0, label: str = "", told: bool = False
) -> Line2D:
    return Line2D(
        [] if x is None else [x],
        [] if x is None else [y],
        marker="D" if told else "o",
        markersize=5.5,
        markeredgewidth=1.4,
        color=colour,
        markerfacecolor=colour if filled else PAPER,
        linestyle="",
        label=label,
        zorder=3,
    )


def _legend(data: ReportData, told: bool) -> list[Line2D | Patch]:
    unit = reading_unit(data.primary_reading)
    control = _dot(INK, filled=True, label="its own scale, foils not taken off: seen", told=True)
    return [
        *([control] if told else []),
        _dot(INK, filled=True, label="raised: the registered test passed"),
        _dot(INK, filled=False, label="not raised"),
        Line2D([], [], color=INK, linewidth=1.6, label="95 % interval"),
        Patch(facecolor=RULE, alpha=0.6, label="scale that the arm is predicted to move"),
        Patch(facecolor=BAND, label=f"below the minimum effect (\u00b1{data.min_effect:g} {unit})"),
    ]


def _alt(arms: list[str], scales: list[str], rows: Sequence[Verdict], told: Sequence[Verdict]) -> str:
    raised, seen = (
        ", ".join(f"{row.arm} on {row.scale}" for row in some if _passed(row)) or "none" for some in (rows, told)
    )
    control = f" Told states seen on their own scale: {seen}." if told else ""
    shown = f"Specificity contrasts of {len(arms)} arms on {len(scales)} scales with 95 % intervals."
    return f"{shown} Raised: {raised}.{control}"
