"""Heat maps of shifts against the baseline arm: scales x arms for each reading, items x arms for the primary scale."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.colors import Normalize, to_hex
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from numpy.typing import NDArray

from neuromod_core.report.canvas import Plot, bare, inside
from neuromod_core.report.data import ReportData
from neuromod_core.report.palette import text_on
from neuromod_core.report.shifts import Means, at, item_shifts, scale_names, scale_shifts
from neuromod_core.report.wording import reading_name, reading_unit, short, signed

PALETTE = colormaps["PuOr_r"].resampled(41)
"""Diverging and safe for colour-vision deficiency: violet below zero, near-white at zero, orange above.

The steps are few enough for the colour bar to stay a vector drawing.
"""

BLANK, HATCH, FRAME = "#eceef1", "#8a9099", "#101214"
"""Missing cells and frames. A map keeps its own light ground, on dark paper too, so these do not follow the theme."""


@dataclass(frozen=True)
class Grid:
    """Numbers to map: values of shape (rows, columns), NaN where missing, with their names."""

    rows: tuple[str, ...]
    columns: tuple[str, ...]
    values: NDArray[np.float64]

    @cached_property
    def norm(self) -> Normalize:
        """Colour limits, symmetric about zero."""
        finite = np.abs(self.values[np.isfinite(self.values)])
        limit = float(finite.max()) if finite.size and finite.max() > 0 else 1.0
        return Normalize(-limit, limit)


def shift_maps(data: ReportData) -> list[Plot]:
    """Draw one map per reading that has scores: rows are arms, columns are scales."""
    return [plot for reading in data.study.readings for plot in _shift_map(data, reading)]


def item_map(data: ReportData) -> list[Plot]:
    """Draw the primary scale's items (rows) x arms (columns); nothing if no item was recorded."""
    means = item_shifts(data)
    if not means:
        return []
    items = tuple(sorted({item for _, item in means}))
    arms = _arms(data)
    grid = Grid(items, arms, np.array([[_value(means, arm, item) for arm in arms] for item in items]))
    figure, axes = _draw(grid, (3.4 + 0.62 * len(arms), 1.9 + 0.3 * len(items)), "nats, keyed minus antonym")
    axes.set_xticks(axes.get_xticks(), list(map(short, arms)), rotation=40, ha="left", rotation_mode="anchor")
    alt = f"Heat map of item shifts on {data.primary_scale}: {len(items)} items by {len(arms)} arms."
    return [Plot("items", alt, figure)]


def _shift_map(data: ReportData, reading: str) -> list[Plot]:
    means = scale_shifts(data, reading)
    if not means:
        return []
    arms, scales = _arms(data), scale_names(data, means)
    grid = Grid(arms, scales, np.array([[_value(means, arm, scale) for scale in scales] for arm in arms]))
    figure, axes = _draw(grid, (2.9 + 0.95 * len(scales), 1.2 + 0.27 * len(arms)), reading_unit(reading))
    _outline_targets(axes, data, grid)
    axes.set_title(reading_name(reading), pad=8)
    alt = f"Heat map of mean shifts, {reading_name(reading)}: {len(arms)} arms by {len(scales)} scales."
    return [Plot(f"shift-{reading}", alt, figure)]


def _arms(data: ReportData) -> tuple[str, ...]:
    return tuple(arm for arm in data.arm_names if arm != data.study.baseline)


def _value(means: Means, arm: str, name: str) -> float:
    mean = at(means, arm, name).mean
    return float("nan") if mean is None else mean


def _draw(grid: Grid, size: tuple[float, float], unit: str) -> tuple[Figure, Axes]:
    """Draw a diverging map centred on zero with its numbers; missing cells are hatched."""
    figure = Figure(figsize=size, layout="constrained")
    axes = figure.add_subplot()
    masked = np.ma.masked_invalid(grid.values)
    mesh = axes.pcolormesh(masked, cmap=PALETTE, norm=grid.norm, edgecolors="#ffffff", linewidth=0.8)
    for (row, column), value in np.ndenumerate(grid.values):
        _cell(axes, (row, column), float(value), grid.norm)
    axes.set_xticks(np.arange(len(grid.columns)) + 0.5, list(map(short, grid.columns)))
    axes.set_yticks(np.arange(len(grid.rows)) + 0.5, list(map(short, grid.rows)))
    axes.invert_yaxis()
    bare(axes)
    axes.tick_params(labeltop=True, labelbottom=False)
    bar = figure.colorbar(mesh, ax=axes, label=f"shift ({unit})", fraction=0.05, pad=0.02, aspect=24)
    bar.outline.set_visible(False)
    if bar.solids is not None:
        bar.solids.set_edgecolor("face")
    return figure, axes


def _cell(axes: Axes, place: Sequence[int], value: float, norm: Normalize) -> None:
    row, column = place
    if np.isnan(value):
        axes.add_patch(Rectangle((column, row), 1, 1, hatch="////", facecolor=BLANK, edgecolor=HATCH, linewidth=0))
        return
    colour = text_on(to_hex(PALETTE(norm(value))))
    inside(axes, (column + 0.5, row + 0.5), signed(value), fontsize=7.5, color=colour)


def _outline_targets(axes: Axes, data: ReportData, grid: Grid) -> None:
    """Frame the cell that each arm is predicted to move."""
    for row, arm in enumerate(grid.rows):
        target = data.arm_rows[arm].target
        if target in grid.columns:
            corner = (grid.columns.index(target) + 0.02, row + 0.04)
            axes.add_patch(Rectangle(corner, 0.96, 0.92, fill=False, edgecolor=FRAME, linewidth=1.6))
