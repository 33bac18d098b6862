"""The page and the picture of dose-response curves."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from neuromod_core.calibrate.curve import PERPLEXITY, REPEATED, Curve
from neuromod_core.calibrate.dose import Matched
from neuromod_core.report.canvas import Plot, drawing
from neuromod_core.report.palette import BAND, INK, MUTED, PACKS

COLUMNS = 3


def _panel(axes: Axes, curve: Curve) -> None:
    doses = [point.multiple for point in curve.points]
    for multiple in curve.broken:
        axes.axvspan(multiple - 0.12, multiple + 0.12, color=BAND, linewidth=0)
    axes.axhline(1.0, color=MUTED, linewidth=0.7, linestyle=":")
    axes.plot(doses, [point.kl for point in curve.points], "o-", color=INK, markersize=4, linewidth=1.2)
    axes.plot(doses, [point.own for point in curve.points], "s--", color=PACKS[0], markersize=4, linewidth=1)
    falling = [point for point in curve.points if point.multiple in curve.falling]
    axes.plot([p.multiple for p in falling], [p.kl for p in falling], "X", color=PACKS[1], markersize=8)
    axes.set(title=curve.pack, xlim=(-0.15, 3.2))
    axes.set_ylim(bottom=0)
    axes.grid()


def picture(curves: Sequence[Curve]) -> Plot:
    """Draw one panel a pack: KL95 over the multiple of its unit, with the guards."""
    rows = -(-len(curves) // COLUMNS)
    with drawing("doses"):
        figure = Figure(figsize=(10, 0.9 + 2.3 * rows), layout="constrained")
        panels = figure.subplots(rows, COLUMNS, squeeze=False, sharex=True).flatten()
        for axes, curve in zip(panels, curves, strict=False):
            _panel(axes, curve)
        for axes in panels[len(curves) :]:
            axes.set_visible(False)
        figure.supxlabel("dose, multiples of the pack's KL unit", fontsize=9)
        figure.supylabel("KL95, nats a token", fontsize=9)
        first = panels[0]
        marks = [
            first.plot([], [], "o-", color=INK, label="on given text")[0],
            first.plot([], [], "s--", color=PACKS[0], label="on its own text")[0],
            first.plot([], [], "X", color=PACKS[1], label="more dose, less change")[0],
            first.axvspan(0, 0, color=BAND, label="a guard fails: strange or repeated text"),
        ]
        figure.legend(handles=marks, loc="outside upper left", ncols=4)
    return Plot("doses", "How loud every pack is at multiples of its KL unit", figure)


def page(
    model: str, curves: Sequence[Curve], units: Mapping[str, Matched], silent: Sequence[str], templates: Path
) -> str:
    """Return docs/doses.md. silent: packs that do not reach the divergence they ask for."""
    surroundings = Environment(loader=FileSystemLoader(templates), undefined=StrictUndefined, autoescape=False)
    return surroundings.get_template("doses.md.j2").render(
        model=model, curves=curves, units=units, silent=silent, perplexity=PERPLEXITY, repeated=REPEATED
    )
