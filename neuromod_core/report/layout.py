"""Small geometry that keeps labels apart."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes


def spread(positions: Sequence[float], gap: float) -> list[float]:
    """Return positions at least `gap` apart, in the same order, each group centred on the mean of its members.

    Groups that touch are merged, as in isotonic regression (pool adjacent violators), so the total move is the least in
    the squared sense.

    >>> spread([0.0, 0.0, 5.0], 1.0)
    [-0.5, 0.5, 5.0]
    """
    order = np.argsort(positions, kind="stable")
    groups: list[tuple[float, int]] = []
    for rank, index in enumerate(order):
        groups.append((positions[index] - rank * gap, 1))
        while len(groups) > 1 and groups[-2][0] > groups[-1][0]:
            (mean, n), (other, m) = groups[-2:]
            groups[-2:] = [((mean * n + other * m) / (n + m), n + m)]
    level = np.repeat([mean for mean, _ in groups], [n for _, n in groups])
    placed = np.empty(len(order))
    placed[order] = level + gap * np.arange(len(order))
    return [float(value) for value in placed]


def stack(values: Sequence[float], width: float) -> list[int]:
    """Return a height for each dot so that dots closer than `width` pile up from zero.

    >>> stack([0.0, 0.1, 3.0], 0.5)
    [0, 1, 0]
    """
    heights: list[int] = []
    for index, value in enumerate(values):
        taken = {heights[other] for other in range(index) if abs(values[other] - value) < width}
        heights.append(next(level for level in range(len(taken) + 1) if level not in taken))
    return heights


def label_column(
    axes: Axes, texts: Sequence[str], points: Sequence[tuple[float, float]], colours: Sequence[str]
) -> None:
    """Write one label per point in a column right of `axes`, kept apart, joined to its point by a hairline."""
    low, high = axes.get_ylim()
    right = axes.get_xlim()[1]
    margin = right + 0.03 * (right - axes.get_xlim()[0])
    places = spread([y for _, y in points], (high - low) / 19)
    for text, (x, y), place, colour in zip(texts, points, places, colours, strict=True):
        leader = {"arrowstyle": "-", "color": colour, "alpha": 0.45, "linewidth": 0.7, "shrinkA": 2, "shrinkB": 4}
        axes.annotate("", (x, y), (margin, place), annotation_clip=False, arrowprops=leader, zorder=1)
        axes.annotate(f"  {text}", (margin, place), va="center", fontsize=8.5, annotation_clip=False)
