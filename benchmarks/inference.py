"""How long the complete registered analysis takes: twelve arms, forty scales, by the number of units.

    python benchmarks/inference.py [UNITS ...]

From a table of scores to all verdicts: `analyse` with 100 000 sign flips and 9 999 resamples, as in a study. Prints a
table and writes benchmarks/results/inference.json. The target is sixty seconds for 126 units; time must grow with units
and not faster. Every run is checked before it counts: the arms that have an effect are found, and every hypothesis has
a verdict.
"""

from __future__ import annotations

import json
import os
import platform
import sys
import time
from itertools import pairwise
from pathlib import Path

import numpy as np
import pandas as pd
from rich.console import Console
from rich.table import Table

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # so that it runs as a script too

from neuromod_core.trial import analysis
from neuromod_core.trial.plan import Arm, Plan
from neuromod_core.trial.readings import READINGS
from neuromod_core.trial.simulate import plan_of

ROOT = Path(__file__).resolve().parents[1]
UNITS, ARMS, SCALES, PREDICTED, TARGET = (32, 64, 126, 252), 12, 40, 6, 60.0
SHAMS, SHAM_PER_UNIT = 24, 3


def arm(name: str, role: str, members: tuple[str, ...] = ("",), target: str | None = None) -> Arm:
    return Arm(name, role, "{}", "", target, 1 if target else None, members, {})


def planned() -> Plan:
    """Return a plan of a baseline, an inert placebo, a sham ensemble, an entropy placebo and eight packs."""
    scales = [f"scale {number:02d}" for number in range(SCALES)]
    packs = [
        arm(f"pack {number}", "pack", target=scales[number] if number < PREDICTED else None)
        for number in range(ARMS - 4)
    ]
    shams = tuple(f"{draw:02d}" for draw in range(SHAMS))
    noise = tuple(pack.name for pack in packs if pack.target_scale)
    arms = [arm("none", "none"), arm("inert", "P0"), arm("sham", "P1", shams), arm("entropy", "P2", noise), *packs]
    return plan_of(arms, scales, minimum=0.5, draws=100_000, resamples=9_999)


def scores(plan: Plan, units: int) -> pd.DataFrame:
    """Return the `scores` of a study in both readings; every predicted arm moves its scale by three."""
    draw = np.random.default_rng(units)
    cells = [
        (unit, one.name, member)
        for unit in range(units)
        for one in plan.arms
        for member in (
            [one.members[(unit * SHAM_PER_UNIT + place) % SHAMS] for place in range(SHAM_PER_UNIT)]
            if one.role == "P1"
            else one.members
        )
    ]
    index = pd.DataFrame(cells, columns=["unit", "arm", "member"])
    level = draw.normal(size=(units, SCALES))
    parts = []
    for number, scale in enumerate(plan.scales):
        effect = 3.0 * (index["arm"] == f"pack {number}") * (number < PREDICTED)
        raw = level[index["unit"], number] + 0.5 * draw.normal(size=len(index)) + effect
        for reading, sampled in zip(READINGS[:2], (0.0, 0.2), strict=True):
            value = raw + sampled * draw.normal(size=len(index))
            parts.append(index.assign(scale=scale, reading=reading, value=value))
    table = pd.concat(parts, ignore_index=True)
    return table.assign(unit_id=[f"u{unit:03d}" for unit in table["unit"]])


def neutral(plan: Plan, units: int) -> pd.DataFrame:
    draw = np.random.default_rng(units + 1)
    rows = [(f"u{unit:03d}", one.name, 3 + 0.1 * draw.normal()) for unit in range(units) for one in plan.arms]
    return pd.DataFrame(rows, columns=["unit_id", "arm", "neutral_nll"])


def measured(plan: Plan, units: int) -> dict[str, float]:
    """Return the seconds of each family and of the whole, after checking what was found."""
    rows, text = scores(plan, units), neutral(plan, units)
    begun, verdicts = time.perf_counter(), []
    tables = analysis.tables(plan, rows)
    spent = {"pivots": time.perf_counter() - begun}
    families = (
        ("primary", lambda: analysis.primary(plan, tables)),
        ("side effects", lambda: analysis.side_effects(plan, text)),
        ("scale shifts", lambda: analysis.scale_shifts(plan, tables)),
        ("contrasts", lambda: analysis.contrasts(plan, tables)),
    )
    for name, run in families:
        begun = time.perf_counter()
        verdicts += run()
        spent[name] = time.perf_counter() - begun
    gate(verdicts)
    return {**spent, "all": sum(spent.values()), "hypotheses": len(verdicts)}


def gate(verdicts: list[analysis.Verdict]) -> None:
    """Stop unless every hypothesis was tested and the six arms that have an effect were found."""
    untested = [one.hypothesis for one in verdicts if one.p is None]
    found = [one for one in verdicts if one.family == analysis.DECISIONS and one.state == "supported"]
    if untested or len(found) != PREDICTED:
        raise SystemExit(f"{len(untested)} hypotheses untested, {len(found)} of {PREDICTED} effects found: no figure.")


def main() -> None:
    plan = planned()
    sizes = tuple(int(word) for word in sys.argv[1:]) or UNITS
    measured(plan, 8)  # to warm up
    figures = {units: measured(plan, units) for units in sizes}
    console = Console(width=120)
    table = Table("units", *next(iter(figures.values())), "ms a unit", title=f"seconds; {ARMS} arms x {SCALES} scales")
    for units, spent in figures.items():
        each = 1000 * spent["all"] / units
        table.add_row(str(units), *(f"{value:.2f}" for value in spent.values()), f"{each:.0f}")
    console.print(table)
    if 126 in figures:
        console.print(
            f"target of {TARGET:g} s at 126 units: {'reached' if figures[126]['all'] <= TARGET else 'MISSED'}"
        )
    machine = {"cores": len(os.sched_getaffinity(0)), "python": platform.python_version(), "numpy": np.__version__}
    result = {
        "machine": {**machine, "pandas": pd.__version__},
        "arms": ARMS,
        "scales": SCALES,
        "draws": plan.draws,
        "resamples": plan.resamples,
        "seconds": figures,
        "ratio to the size before": {
            f"{after} / {before}": figures[after]["all"] / figures[before]["all"] for before, after in pairwise(sizes)
        },
    }
    (ROOT / "benchmarks" / "results" / "inference.json").write_text(json.dumps(result, indent=2) + "\n", "utf-8")


if __name__ == "__main__":
    main()
