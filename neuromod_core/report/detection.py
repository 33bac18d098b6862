"""The picture of a detection model: how well dosed cells are told, and whether its probabilities are right."""

from __future__ import annotations

from matplotlib.figure import Figure

from neuromod_core.report.canvas import Plot, drawing
from neuromod_core.report.palette import INK, MUTED, PACKS, RULE
from neuromod_core.trial.detection import Presence


def reliability(found: Presence) -> Plot:
    """Draw the area for every pack that was held out, and the reliability diagram of the probabilities."""
    with drawing("detection"):
        figure = Figure(figsize=(9, 3.4), layout="constrained")
        left, right = figure.subplots(1, 2)
        names = sorted(found.by_pack, key=lambda pack: -found.by_pack[pack])
        left.barh(range(len(names)), [found.by_pack[name] for name in names], color=PACKS[0], height=0.6)
        left.axvline(0.5, color=MUTED, linewidth=0.9, linestyle="--")
        left.set_yticks(range(len(names)), names)
        left.set(xlim=(0, 1), ylim=(len(names) - 0.5, -0.5), xlabel="AUC against placebos, pack held out")
        left.set_title(f"All packs: {found.area.estimate:.2f}, p = {found.pvalue:.3f} by refits")
        left.tick_params(length=0)
        right.plot([0, 1], [0, 1], color=RULE, linewidth=1)
        right.plot([one.predicted for one in found.bins], [one.observed for one in found.bins], color=INK, linewidth=1)
        for one in found.bins:
            right.plot(one.predicted, one.observed, "o", color=PACKS[0], markersize=4 + 0.12 * one.n)
        right.set(xlim=(0, 1), ylim=(-0.03, 1.03), xlabel="probability of being dosed", ylabel="share dosed")
        right.set_title(f"Calibration: slope {found.slope:.2f}, Brier {found.brier:.3f} of {found.base_brier:.3f}")
    return Plot("detection", "Detection of packs that no model saw, and calibration of its probabilities", figure)
