"""The executed order: which arm each unit received in each period."""

from __future__ import annotations

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import ListedColormap
from matplotlib.figure import Figure
from matplotlib.patches import Patch
from numpy.typing import NDArray

from neuromod_core.report.canvas import Plot, bare, inside
from neuromod_core.report.data import ReportData
from neuromod_core.report.palette import PAPER, Look, looks, text_on
from neuromod_core.report.wording import short

LETTERED_UNITS = 60
"""With more units than this, cells are too small for letters."""


def order(data: ReportData) -> list[Plot]:
    """Draw units (columns) x periods (rows), one cell per executed arm; nothing if no order was recorded."""
    if data.order.empty:
        return []
    grid = data.order.pivot_table(index="period", columns="unit_id", values="arm", aggfunc="first", observed=True)
    look = looks(data)
    codes = grid.apply(lambda column: column.map({arm: index for index, arm in enumerate(look)})).to_numpy(float)
    figure = Figure(figsize=(10, 0.9 + 0.19 * len(grid)), layout="constrained")
    axes = figure.add_subplot()
    colours = ListedColormap([each.colour for each in look.values()])
    masked = np.ma.masked_invalid(codes)
    axes.pcolormesh(masked, cmap=colours, vmin=-0.5, vmax=len(look) - 0.5, edgecolors=PAPER, linewidth=0.8)
    if grid.shape[1] <= LETTERED_UNITS:
        _letters(axes, codes, list(look.values()))
    axes.invert_yaxis()
    axes.set_yticks(np.arange(len(grid)) + 0.5, [str(period) for period in grid.index])
    axes.set(ylabel="period", xlabel=f"unit ({grid.shape[1]} contexts, one column each)", xticks=[])
    bare(axes)
    entries = [Patch(facecolor=each.colour, label=f"{each.letter}  {short(arm)}") for arm, each in look.items()]
    figure.legend(handles=entries, loc="outside right upper", handlelength=1, handleheight=1, labelspacing=0.35)
    alt = f"Executed order: {grid.shape[1]} units by {len(grid)} periods, each cell the arm that was given."
    return [Plot("order", alt, figure)]


def _letters(axes: Axes, codes: NDArray[np.float64], look: list[Look]) -> None:
    for (row, column), code in np.ndenumerate(codes):
        if not np.isnan(code):
            each = look[int(code)]
            colour = text_on(each.colour)
            inside(axes, (column + 0.5, row + 0.5), each.letter, fontsize=6.5, color=colour)
