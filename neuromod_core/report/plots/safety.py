"""Unwanted events against their margins, and the shifts of everything else the panel measures."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from neuromod_core.report.canvas import Plot
from neuromod_core.report.data import ReportData
from neuromod_core.report.palette import BAND, MUTED, RULE, looks
from neuromod_core.report.safety import measure_shifts, measured, wholes_of
from neuromod_core.report.shifts import Means, at
from neuromod_core.report.wording import short
from neuromod_core.trial.harms import LEAST, MEASURES, Comparison
from neuromod_core.trial.wholes import WHOLES, Whole

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
    """Draw every measure that enough units have, one panel each, arms in rows.

    Means over units are drawn as shifts against the baseline, statistics of whole arms as they are.
    """
    if data.harms is None:
        return []
    arms = [arm for arm in data.arm_names if arm != data.study.baseline]
    moved = {name: measure_shifts(data, data.harms, name) for name in measured(data)}
    names = [name for name, found in moved.items() if max(at(found, arm).n for arm in arms) >= LEAST]
    whole = wholes_of(data)
    if not names and not whole:
        return []
    count = len(names) + len(whole)
    rows = math.ceil(count / COLUMNS)
    figure = Figure(figsize=(10, rows * (0.85 + 0.2 * len(arms))), layout="constrained")
    panels = figure.subplots(rows, COLUMNS, sharey=True, squeeze=False).ravel()
    for axes, name in zip(panels, names, strict=False):
        _shifts(axes, data, arms, name, moved[name])
    for axes, (name, mine) in zip(panels[len(names) :], whole.items(), strict=False):
        _wholes(axes, data, arms, name, mine)
    for axes in panels[:count]:
        axes.locator_params(axis="x", nbins=4)
        axes.spines["left"].set_visible(False)
        axes.tick_params(axis="y", length=0)
    for axes in panels[count:]:
        axes.set_axis_off()
    panels[0].set_yticks(range(len(arms)), [short(arm) for arm in arms])
    panels[0].set_ylim(len(arms) - 0.5, -0.5)
    alt = (
        f"Dot plots of {len(names)} side effects as shifts against {data.study.baseline} per arm, and of {len(whole)} "
        "statistics of whole arms, with 95 % intervals."
    )
    return [Plot("panel", alt, figure)]


def _shifts(axes: Axes, data: ReportData, arms: Sequence[str], name: str, moved: Means) -> None:
    axes.axvline(0, color=MUTED, linewidth=0.7, zorder=1)
    for row, arm in enumerate(arms):
        mean = at(moved, arm)
        half = None if mean.half is None else (mean.half, mean.half)
        _dot(axes, data, arm, row, mean.mean, half)
    axes.set_title(f"{name.replace('_', '-')} (n = {_range([at(moved, arm).n for arm in arms])})", fontsize=8.5)
    axes.set_xlabel(_wrapped(MEASURES[name][0]), fontsize=7)


def _wholes(axes: Axes, data: ReportData, arms: Sequence[str], name: str, mine: Mapping[str, Whole]) -> None:
    """Draw a statistic as it is; the dashed line is the baseline's."""
    own = mine.get(data.study.baseline)
    if own is not None and own.value is not None:
        axes.axvline(own.value, color=MUTED, linewidth=0.9, linestyle=(0, (4, 2)), zorder=1)
    for row, arm in enumerate(arms):
        each = mine.get(arm)
        if each is None or each.value is None or each.low is None or each.high is None:
            _dot(axes, data, arm, row, None, None)
        else:
            _dot(axes, data, arm, row, each.value, (max(0, each.value - each.low), max(0, each.high - each.value)))
    axes.set_title(f"{name} (n = {_range([each.n for each in mine.values()])} problems)", fontsize=8.5)
    axes.set_xlabel(f"{_wrapped(WHOLES[name])}; dashed: baseline", fontsize=7)


def _range(counts: Sequence[int]) -> str:
    """Return a number, or from which to which number where arms differ."""
    low, high = min(counts), max(counts)
    return f"{low}" if low == high else f"{low} to {high}"


def _dot(
    axes: Axes, data: ReportData, arm: str, row: int, value: float | None, ends: tuple[float, float] | None
) -> None:
    """Draw a value with its interval, lengths to the left and to the right; a rule alone where there is none."""
    axes.axhline(row, color=RULE, linewidth=0.5, zorder=0)
    if value is None:
        return
    look, bars = looks(data)[arm], None if ends is None else [[ends[0]], [ends[1]]]
    axes.errorbar(value, row, None, bars, color=look.colour, marker=look.marker, markersize=5, elinewidth=1)
