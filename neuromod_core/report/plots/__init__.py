"""The pictures of a report: one small module per family, each a function from data to pictures."""

from __future__ import annotations

from neuromod_core.report.canvas import Plot, drawing
from neuromod_core.report.data import ReportData
from neuromod_core.report.plots.crossed import crossed
from neuromod_core.report.plots.entropy import entropy
from neuromod_core.report.plots.forest import forest
from neuromod_core.report.plots.heat import item_map, shift_maps
from neuromod_core.report.plots.order import order
from neuromod_core.report.plots.robustness import flow, robustness
from neuromod_core.report.plots.safety import margins, measures
from neuromod_core.report.plots.side_effects import repetition, side_effects
from neuromod_core.report.plots.telemetry import telemetry

FAMILIES = (
    order,
    flow,
    forest,
    robustness,
    crossed,
    shift_maps,
    item_map,
    side_effects,
    margins,
    measures,
    repetition,
    entropy,
    telemetry,
)
"""A family returns no picture where the run recorded nothing to draw."""


def plots(data: ReportData) -> tuple[Plot, ...]:
    """Return every picture that `data` can fill."""
    with drawing("report"):
        return tuple(plot for family in FAMILIES for plot in family(data))
