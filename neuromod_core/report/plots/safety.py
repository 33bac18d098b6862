"""Unwanted events against their margins, and the shifts of everything else the panel measures."""

from __future__ import annotations

import math
from collections.abc import Sequence

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from neuromod_core.report.canvas import Plot
from neuromod_core.report.data import ReportData
from neuromod_core.report.palette import BAND, MUTED, RULE, looks
from neuromod_core.report.safety import measure_shifts, measured
from neuromod_core.report.shifts import at
from neuromod_core.report.wording import short
from neuromod_core.trial.harms import LEAST, MEASURES, Comparison

COLUMNS = 4
SHORT = {"within the margin": "within", "beyond the margin": "BEYOND", "inconclusive": "open", "missing": "missing"}


def margins(data: ReportData) -> list[Plot]:
    """Draw the difference in unwanted events of every arm with its interval, one panel per kind, the margin shaded."""
    if data.harms is None or not data.harms.comparisons:
        return []
    kinds = list(dict.fromkeys((item.instrument, item.reading) for item in data.harms.comparisons))
    arms = [arm for arm in data.arm_names if any(item.arm == arm for item in data.harms.comparisons)]
    figure = Figure(figsize=(10, 1.1 + 0.32 * len(arms)), layout="constrained")
    panels = figure.subplots(1, len(kinds), sharey=True, squeeze=False)[0]
    for axes, kind in zip(panels, kinds, strict=True):
        mine = {item.arm: item for item in data.harms.comparisons if (item.instrument, item.reading) == kind}
        _margin(axes, data, arms, [mine.get(arm) for arm in arms])
    panels[0].set_yticks(range(len(arms)), [short(arm) for arm in arms])
    panels[0].set_ylim(len(arms) - 0.4, -0.6)
    figure.supxlabel(f"difference to {data.study.baseline}, percentage points, with Tango's 95 % interval", fontsize=9)
    alt = (
        "Differences in unwanted events against the baseline with 95 % intervals, one panel per kind of event, arms in "
        "rows; the line is the margin. The table below has the numbers."
    )
    return [Plot("margins", alt, figure)]


def _margin(axes: Axes, data: ReportData, arms: Sequence[str], items: Sequence[Comparison | None]) -> None:
    given = [item for item in items if item is not None]
    bound = 100 * given[0].kept.margin.bound
    axes.axvline(0, color=MUTED, linewidth=0.7, zorder=1)
    axes.axvline(bound, color=MUTED, linewidth=1.1, linestyle=(0, (4, 2)), zorder=1)
    for row, (arm, item) in enumerate(zip(arms, items, strict=True)):
        axes.axhline(row, color=RULE, linewidth=0.5, zorder=0)
        _point(axes, data, arm, row, item)
    how = {"odds": "by the odds of openings", "reply": "by written replies", "text": "by a word list"}
    reading = given[0].reading
    pairs = max(item.kept.n for item in given)
    axes.set_title(f"{_wrapped(given[0].kept.margin.endpoint)}\n{how.get(reading, reading)}, n = {pairs}", fontsize=8.5)
    low, high = axes.get_xlim()
    axes.axvspan(bound, max(high, bound + 1), color=BAND, linewidth=0, zorder=-1)
    axes.set_xlim(min(low, -1), max(high, bound + 1))
    axes.locator_params(axis="x", nbins=4)
    axes.spines["left"].set_visible(False)
    axes.tick_params(axis="y", length=0)


def _point(axes: Axes, data: ReportData, arm: str, row: int, item: Comparison | None) -> None:
    look = looks(data)[arm]
    test = item.kept.test if item is not None else None
    said = "missing" if item is None else SHORT[item.kept.outcome]
    if test is not None and test.ci is not None:
        ends = [100 * test.ci.low, 100 * test.ci.high]
        axes.plot(ends, [row, row], color=look.colour, linewidth=1.6, zorder=2)
        axes.plot(100 * test.estimate, row, marker=look.marker, color=look.colour, markersize=6, zorder=3)
    axes.annotate(
        said, (1, row), xytext=(-2, 6), xycoords=("axes fraction", "data"), textcoords="offset points",
        ha="right", va="center", fontsize=7, color=MUTED,
    )  # fmt: skip


def _wrapped(text: str) -> str:
    """Return a text of two lines, broken near its middle."""
    words = text.split()
    return " ".join(words[: math.ceil(len(words) / 2)]) + "\n" + " ".join(words[math.ceil(len(words) / 2) :])


def measures(data: ReportData) -> list[Plot]:
    """Draw the shift of every measure that enough units have, against the baseline, one panel each, arms in rows."""
    if data.harms is None:
        return []
    arms = [arm for arm in data.arm_names if arm != data.study.baseline]
    moved = {name: measure_shifts(data, data.harms, name) for name in measured(data)}
    names = [name for name, found in moved.items() if max(at(found, arm).n for arm in arms) >= LEAST]
    if not names:
        return []
    rows = math.ceil(len(names) / COLUMNS)
    figure = Figure(figsize=(10, rows * (0.85 + 0.2 * len(arms))), layout="constrained")
    panels = figure.subplots(rows, COLUMNS, sharey=True, squeeze=False).ravel()
    for axes, name in zip(panels, names, strict=False):
        axes.axvline(0, color=MUTED, linewidth=0.7, zorder=1)
        for row, arm in enumerate(arms):
            axes.axhline(row, color=RULE, linewidth=0.5, zorder=0)
            mean, look = at(moved[name], arm), looks(data)[arm]
            if mean.mean is not None:
                axes.errorbar(
                    mean.mean, row, None, mean.half, color=look.colour, marker=look.marker, markersize=5, elinewidth=1
                )
        count = max(at(moved[name], arm).n for arm in arms)
        axes.set_title(f"{name.replace('_', '-')} (n = {count})", fontsize=8.5)
        axes.set_xlabel(_wrapped(MEASURES[name][0]), fontsize=7)
        axes.locator_params(axis="x", nbins=4)
        axes.spines["left"].set_visible(False)
        axes.tick_params(axis="y", length=0)
    for axes in panels[len(names) :]:
        axes.set_axis_off()
    panels[0].set_yticks(range(len(arms)), [short(arm) for arm in arms])
    panels[0].set_ylim(len(arms) - 0.5, -0.5)
    alt = f"Dot plots of {len(names)} side effects: shift against {data.study.baseline} per arm, 95 % intervals."
    return [Plot("panel", alt, figure)]
