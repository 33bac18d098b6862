"""The picture of the throughput curve."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import matplotlib

matplotlib.use("Agg")
from matplotlib import pyplot as plt

COLOURS = {"generate": "#7f8790", "engine, no pack": "#0b66a8", "engine, different packs": "#d55e00"}


def draw(curve: Mapping[str, object], path: Path) -> None:
    """Write tokens per second over the batch size, one line an arm, each named at its end."""
    points = curve["tokens per second"]
    if not isinstance(points, Mapping):
        raise TypeError("a curve has points")
    figure, axes = plt.subplots(figsize=(7.2, 4.2), dpi=140)
    for name, line in points.items():
        batches = [int(batch) for batch in line]
        axes.plot(batches, list(line.values()), marker="o", markersize=4, color=COLOURS[name], label=name)
    axes.set_xscale("log", base=2)
    axes.set_xticks(batches, [str(batch) for batch in batches])
    axes.set_ylim(bottom=0)
    axes.set_xlabel("rows in the batch")
    axes.set_ylabel("new tokens per second, prefill included")
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(axis="y", color="#e5e8ec")
    axes.legend(frameon=False, loc="upper left")
    figure.tight_layout()
    figure.savefig(path)
    plt.close(figure)
