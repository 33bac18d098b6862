"""Every sensitivity analysis of every primary hypothesis beside the registered one, and the flow of units."""

from __future__ import annotations

import math
from collections.abc import Sequence

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from neuromod_core.report.canvas import Plot
from neuromod_core.report.consort import picture
from neuromod_core.report.data import ReportData
from neuromod_core.report.palette import BAND, INK, MUTED, PAPER, looks
from neuromod_core.report.wording import reading_unit, short
from neuromod_core.trial.claims import Sensitivity

OTHER_UNIT = ("ordinal mixed model",)
MARKERS, APART = ("o", "s", "D"), 0.32


def flow(data: ReportData) -> list[Plot]:
    """Draw the flow of units through sequences and periods."""
    letters = {arm: look.letter for arm, look in looks(data).items()}
    return [] if data.consort is None else [picture(data.consort.flow, letters)]


def robustness(data: ReportData) -> list[Plot]:
    """Draw estimates and intervals by analysis (rows), one panel an arm, one marker a comparator."""
    drawn = [row for row in data.sensitivity if row.estimate is not None and row.analysis not in OTHER_UNIT]
    registered = [row for row in drawn if row.analysis == "registered"]
    if not registered:
        return []
    arms, against = _names(registered, "arm"), _names(registered, "comparator")
    drawn = [row for row in drawn if row.comparator in against and row.analysis != "other comparator"]
    analyses = [name for name in _names(drawn, "analysis") if name != "Benjamini-Yekutieli"]
    columns = min(2, len(arms))
    lines = math.ceil(len(arms) / columns)
    figure = Figure(figsize=(10, 0.7 + lines * (0.7 + 0.25 * len(analyses))), layout="constrained")
    panels = figure.subplots(lines, columns, squeeze=False, sharey=True).ravel()
    for axes, arm in zip(panels, arms, strict=False):
        _panel(axes, data, [row for row in drawn if row.arm == arm], analyses, against)
    for axes in panels[len(arms) :]:
        axes.set_axis_off()
    figure.supxlabel(f"specificity contrast ({reading_unit(data.primary_reading)})", fontsize=9, color=INK)
    marks = [_marker(place, MUTED, label=f"against {name}") for place, name in enumerate(against)]
    figure.legend(handles=marks, loc="outside upper left", ncols=3)
    alt = f"{len(drawn)} estimates of {len(arms)} arms under {len(analyses)} analyses, beside the registered ones."
    return [Plot("robustness", alt, figure)]


def _names(rows: Sequence[Sensitivity], field: str) -> list[str]:
    return list(dict.fromkeys(str(getattr(row, field)) for row in rows))


def _panel(
    axes: Axes, data: ReportData, rows: Sequence[Sensitivity], analyses: Sequence[str], against: Sequence[str]
) -> None:
    look = looks(data)[rows[0].arm]
    axes.axvspan(-data.min_effect, data.min_effect, color=BAND, linewidth=0, zorder=0)
    axes.axvline(0, color=MUTED, linewidth=0.8, zorder=1)
    for row in rows:
        if row.analysis in analyses and row.estimate is not None:
            place = against.index(row.comparator)
            height = analyses.index(row.analysis) + APART * (place - (len(against) - 1) / 2)
            if row.low is not None and row.high is not None:
                axes.plot([row.low, row.high], [height, height], color=look.colour, linewidth=1.5, zorder=2)
            axes.add_line(_marker(place, look.colour, row.estimate, height))
    axes.axhline(0.5, color=MUTED, linewidth=0.6, linestyle=":")
    axes.set_ylim(len(analyses) - 0.4, -0.6)
    axes.set_yticks(range(len(analyses)), analyses, fontsize=8)
    axes.set_title(f"{look.letter}  {short(rows[0].arm)} on {rows[0].scale}", fontsize=9)
    axes.tick_params(axis="y", length=0)
    axes.spines["left"].set_visible(False)


def _marker(place: int, colour: str, x: float | None = None, y: float = 0.0, label: str = "") -> Line2D:
    return Line2D(
        [] if x is None else [x],
        [] if x is None else [y],
        marker=MARKERS[place % len(MARKERS)],
        markersize=5.5,
        markeredgewidth=1.4,
        color=colour,
        markerfacecolor=colour if place == 0 else PAPER,
        linestyle="",
        label=label,
        zorder=3,
    )
