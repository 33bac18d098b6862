"""What an arm does to its target against what it does to the language model as such."""

from __future__ import annotations

from typing import NamedTuple

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from neuromod_core.report.canvas import Plot
from neuromod_core.report.data import ReportData
from neuromod_core.report.layout import label_column
from neuromod_core.report.palette import BAND, MUTED, RULE, Look, looks
from neuromod_core.report.shifts import Means, at, nll_shifts, specificity_shifts, story_means, story_shifts
from neuromod_core.report.wording import reading_unit, short


class Point(NamedTuple):
    """One arm's cost (x) and effect (y), with half-widths of 95 % intervals."""

    arm: str
    x: float
    y: float
    x_half: float | None
    y_half: float | None


def side_effects(data: ReportData) -> list[Plot]:
    """Draw specificity (y) against the neutral-text cost (left) and against repetition in stories (right)."""
    costs = {"neutral-text negative log-likelihood (nats per token)": nll_shifts(data)}
    costs["repeated 4-gram share of stories"] = story_shifts(data, "repeated_4gram_share")
    effect = specificity_shifts(data)
    clouds = {label: points for label, cost in costs.items() if (points := _points(data, cost, effect))}
    if not clouds:
        return []
    figure = Figure(figsize=(10, 4.6), layout="constrained")
    panels = figure.subplots(1, len(clouds), sharey=True, squeeze=False)[0]
    for axes, (label, points) in zip(panels, clouds.items(), strict=True):
        _scatter(axes, data, points)
        axes.set_xlabel(f"change in {label}")
        axes.locator_params(axis="x", nbins=5)
    panels[0].set_ylabel(f"shift on {data.primary_scale} minus foils\n({reading_unit(data.primary_reading)})")
    for axes, points in zip(panels, clouds.values(), strict=True):
        colours = [looks(data)[point.arm].colour for point in points]
        label_column(axes, [short(point.arm) for point in points], [(point.x, point.y) for point in points], colours)
    alt = f"Scatter plot: side effects against the specificity shift on {data.primary_scale}, one point per arm."
    return [Plot("side-effects", alt, figure)]


def repetition(data: ReportData) -> list[Plot]:
    """Draw distinct-2 and the repeated 4-gram share per arm, mean over units with a 95 % interval."""
    if data.generations.empty:
        return []
    figure = Figure(figsize=(10, 0.9 + 0.27 * len(data.arm_names)), layout="constrained")
    left, right = figure.subplots(1, 2, sharey=True)
    _dots(left, data, story_means(data, "distinct_2"), "distinct-2 (share of different word pairs)")
    _dots(right, data, story_means(data, "repeated_4gram_share"), "repeated 4-gram share")
    left.set_yticks(range(len(data.arm_names)), [short(arm) for arm in data.arm_names])
    left.set_ylim(len(data.arm_names) - 0.5, -0.5)
    alt = "Two dot plots per arm: distinct-2 and repeated 4-gram share of the stories, with 95 % intervals."
    return [Plot("repetition", alt, figure)]


def _points(data: ReportData, cost: Means, effect: Means) -> list[Point]:
    """Return the arms that have both numbers, in the order of the report."""
    found = []
    for arm in data.arm_names:
        x, y = at(cost, arm), at(effect, arm)
        if x.mean is not None and y.mean is not None:
            found.append(Point(arm, x.mean, y.mean, x.half, y.half))
    return found


def _scatter(axes: Axes, data: ReportData, points: list[Point]) -> None:
    look = looks(data)
    axes.axhspan(-data.min_effect, data.min_effect, color=BAND, linewidth=0, zorder=0)
    axes.axhline(0, color=MUTED, linewidth=0.7, zorder=1)
    axes.axvline(0, color=MUTED, linewidth=0.7, zorder=1)
    for point in points:
        _dot(axes, look[point.arm], (point.x, point.y), (point.x_half, point.y_half))


def _dot(axes: Axes, look: Look, place: tuple[float, float], half: tuple[float | None, float | None]) -> None:
    (x, y), (x_half, y_half) = place, half
    axes.errorbar(x, y, y_half, x_half, elinewidth=1, color=look.colour, marker=look.marker, markersize=6, zorder=3)


def _dots(axes: Axes, data: ReportData, means: Means, label: str) -> None:
    look = looks(data)
    for row, arm in enumerate(data.arm_names):
        mean = at(means, arm)
        axes.axhline(row, color=RULE, linewidth=0.5, zorder=0)
        if mean.mean is None:
            axes.annotate("missing", (0.5, row), xycoords=("axes fraction", "data"), va="center", color=MUTED)
        else:
            _dot(axes, look[arm], (mean.mean, row), (mean.half, None))
    axes.set_xlabel(label)
    axes.spines["left"].set_visible(False)
    axes.tick_params(axis="y", length=0)
