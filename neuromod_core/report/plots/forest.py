"""The forest plot: every arm's specificity contrast on the primary scale, against each comparator."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch

from neuromod_core.report.canvas import Plot
from neuromod_core.report.data import ReportData
from neuromod_core.report.layout import stack
from neuromod_core.report.palette import BAND, INK, MUTED, PAPER, RULE, looks
from neuromod_core.report.verdicts import Verdict, comparator_readings, comparators, specificity
from neuromod_core.report.wording import interval, listed, reading_unit, short, signed

OFFSET = 0.19
"""Half the distance between the outermost markers of one arm, in rows."""

SHAPES = ("o", "s", "D", "^", "v")
"""Marker of each comparator, in turn."""

SHAMS = "sham draws"
TESTED = ("assay", "pack")


def forest(data: ReportData) -> list[Plot]:
    """Draw arms x comparators with 95 % intervals, the sham draws as a row, and the minimum-effect band."""
    rows = specificity(data, data.primary_scale)
    if not rows:
        return []
    places = _places(data, rows)
    figure = Figure(figsize=(10, 1.2 + 0.5 * len(places)), layout="constrained")
    axes = figure.add_subplot()
    axes.axvspan(-data.min_effect, data.min_effect, color=BAND, linewidth=0, zorder=0)
    axes.axvline(0, color=MUTED, linewidth=0.8, zorder=1)
    numbers = _marks(axes, data, rows, places)
    _cloud(axes, data, places[SHAMS])
    _finish(axes, data, places, numbers)
    figure.legend(handles=_legend(data), loc="outside upper left", ncols=3, columnspacing=1.4)
    return [Plot("forest", _alt(data, places), figure)]


def _places(data: ReportData, rows: Mapping[tuple[str, str], Verdict]) -> dict[str, int]:
    """Return arm -> row, top first: controls that were compared, sham draws, assay, packs."""
    compared = {arm for arm, _ in rows}
    controls = [name for name, arm in data.arm_rows.items() if arm.role not in TESTED and name in compared]
    tested = [name for name, arm in data.arm_rows.items() if arm.role in TESTED]
    return {name: row for row, name in enumerate([*controls, SHAMS, *tested])}


def _marks(
    axes: Axes, data: ReportData, rows: Mapping[tuple[str, str], Verdict], places: Mapping[str, int]
) -> dict[float, str]:
    """Draw one marker per verdict; return height -> the numbers to print beside it."""
    look, names, numbers = looks(data), comparators(data), {}
    offsets = np.linspace(-OFFSET, OFFSET, len(names)) if len(names) > 1 else np.zeros(1)
    for arm in [name for name in places if name != SHAMS]:
        for index, comparator in enumerate(names):
            height = places[arm] + float(offsets[index])
            key = (arm, comparator)
            numbers[height] = _mark(axes, rows[key], height, look[arm].colour, index) if key in rows else _absent(*key)
    return numbers


def _absent(arm: str, comparator: str) -> str:
    return "" if arm == comparator else "not tested on this scale"


def _mark(axes: Axes, verdict: Verdict, height: float, colour: str, index: int) -> str:
    """Draw one estimate and its interval; return its numbers, or why there are none."""
    if not verdict.informative:
        return "zero by construction"
    if verdict.estimate is None:
        return "no valid scores"
    if verdict.ci:
        axes.plot(verdict.ci, [height, height], color=colour, linewidth=1.8, zorder=2)
    axes.add_line(_marker(index, colour, verdict.estimate, height))
    return f"{signed(verdict.estimate)}  {interval(verdict.ci_low, verdict.ci_high)}"


def _marker(index: int, colour: str, x: float | None = None, y: float = 0.0, label: str = "") -> Line2D:
    """Return the marker of the comparator with this index: filled for the first, open for the others."""
    return Line2D(
        [] if x is None else [x],
        [] if x is None else [y],
        marker=SHAPES[index % len(SHAPES)],
        markersize=6,
        markeredgewidth=1.5,
        color=colour,
        markerfacecolor=colour if index == 0 else PAPER,
        linestyle="",
        label=label,
        zorder=3,
    )


def _cloud(axes: Axes, data: ReportData, row: int) -> None:
    """Draw one dot per sham draw, piled up symmetrically about the row."""
    values = sorted(float(value) for value in data.shams["estimate"].dropna())
    if not values:
        return
    low, high = axes.get_xlim()
    piled = np.array(stack(values, 0.008 * (high - low)))
    side = np.where(piled % 2 == 0, 1, -1) * np.ceil(piled / 2)
    step = min(0.09, 0.38 / max(1.0, float(np.abs(side).max())))
    axes.plot(values, row + step * side, ".", color=MUTED, markersize=7, markeredgewidth=0, zorder=2)


def _finish(axes: Axes, data: ReportData, places: Mapping[str, int], numbers: Mapping[float, str]) -> None:
    axes.set_ylim(len(places) - 0.4, -0.6)
    axes.set_yticks(list(places.values()), [_row_label(data, name) for name in places])
    for edge in range(1, len(places)):
        axes.axhline(edge - 0.5, color=RULE, linewidth=0.5, zorder=0)
    unit = reading_unit(data.primary_reading)
    axes.set_xlabel(f"specificity contrast on {data.primary_scale}: arm minus comparator, target minus foils ({unit})")
    axes.tick_params(axis="y", length=0)
    axes.spines["left"].set_visible(False)
    beside = axes.twinx()
    beside.set_ylim(axes.get_ylim())
    beside.set_yticks(list(numbers), list(numbers.values()), fontsize=7.5, color=MUTED)
    beside.tick_params(length=0)
    beside.spines[:].set_visible(False)


def _row_label(data: ReportData, name: str) -> str:
    if name == SHAMS:
        return f"{SHAMS} (n = {data.shams['estimate'].notna().sum()})"
    arm = data.arm_rows[name]
    if arm.target != data.primary_scale:
        return f"{short(name)}\n{f'targets {short(arm.target)}' if arm.target else f'{arm.role}, no target'}"
    words = {1: "predicted up", -1: "predicted down", None: "no direction predicted"}
    return f"{short(name)}\n{arm.role}, {words[arm.sign]}"


def _legend(data: ReportData) -> list[Line2D | Patch]:
    readings = comparator_readings(data).items()
    names = [f"against {short(name)} ({reading})" for name, reading in readings]
    marks = [_marker(index, INK, label=name) for index, name in enumerate(names)]
    dots = Line2D([], [], marker=".", ls="", color=MUTED, markersize=7, markeredgewidth=0, label="one sham draw")
    unit = reading_unit(data.primary_reading)
    band = Patch(facecolor=BAND, label=f"below the minimum effect (\u00b1{data.min_effect:g} {unit})")
    line = Line2D([], [], color=INK, linewidth=1.8, label="95 % interval")
    return [*marks, dots, line, band]


def _alt(data: ReportData, places: Mapping[str, int]) -> str:
    return (
        f"Forest plot of the specificity contrast on {data.primary_scale} for {len(places) - 1} arms against "
        f"{listed(comparators(data))}, with {len(data.shams)} sham draws and a band of plus or minus "
        f"{data.min_effect:g} {reading_unit(data.primary_reading)}. The table of the primary family has the numbers."
    )
