"""How fast the sign flips are: max-T over 64 contrasts, by the number of units, on the cores there are.

    python benchmarks/stats.py

Prints a table and writes benchmarks/results/stats.json. The target is two seconds for 100 000 flips of 126 units on two
cores; time must grow with units and not faster. Before any figure the p-values pass a gate: those of the plain double
loop over flips, on a family small enough for it.
"""

from __future__ import annotations

import json
import os
import platform
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
from rich.console import Console
from rich.table import Table

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # so that it runs as a script too

from neuromod_core.stats import bootstrap_t, max_t, rerandomise
from tests.oracles.stats_signflip import step_down_max_t

ROOT = Path(__file__).resolve().parents[1]
DRAWS, CONTRASTS, REPEATS, TARGET = 100_000, 64, 7, 2.0
UNITS = (16, 32, 63, 126, 252, 504)


def family(units: int) -> np.ndarray:
    draw = np.random.default_rng(units)
    return draw.normal(size=(units, 1)) + draw.normal(size=(units, CONTRASTS)) + 0.1


def gate() -> None:
    """Stop unless the fast p-values are those of the slow definition."""
    data = family(8)[:, :3]
    fast = [test.p_adj for test in max_t(data, generator=np.random.default_rng(0))]
    if fast != step_down_max_t(data.tolist()):
        raise SystemExit("The adjusted p-values differ from the enumeration: no figure is worth printing.")


def seconds(run: Callable[[], object]) -> float:
    """Return the median time of `REPEATS` runs after one to warm up."""
    run()
    times = []
    for _ in range(REPEATS):
        begun = time.perf_counter()
        run()
        times.append(time.perf_counter() - begun)
    return statistics.median(times)


def flips(units: int, minimum: float) -> float:
    data = family(units)
    return seconds(lambda: max_t(data, minimum=minimum, draws=DRAWS, generator=np.random.default_rng(1)))


def others() -> dict[str, float]:
    """Return the time of the other resampling procedures at 126 units."""
    values, rows = family(126)[:, 0], np.tile([[0, 1, 2], [1, 2, 0], [2, 0, 1]], (42, 1))
    scores = np.random.default_rng(2).normal(size=rows.shape)
    return {
        "bootstrap-t, 9999 draws": seconds(lambda: bootstrap_t(values, generator=np.random.default_rng(3))),
        "re-randomised sequences, 100000 deals": seconds(
            lambda: rerandomise(scores, rows, [1, -1, 0], generator=np.random.default_rng(4))
        ),
    }


def main() -> None:
    gate()
    plain = {units: flips(units, 0.0) for units in UNITS}
    beyond = {units: flips(units, 0.05) for units in UNITS}
    rest = others()
    table = Table("units", "two-sided, s", "beyond a minimum, s", title=f"{DRAWS} flips x {CONTRASTS} contrasts")
    for units in UNITS:
        table.add_row(str(units), f"{plain[units]:.2f}", f"{beyond[units]:.2f}")
    console = Console(width=120)
    console.print(table, *(f"{name}: {spent:.2f} s" for name, spent in rest.items()), sep="\n")
    reached = max(plain[126], beyond[126]) <= TARGET
    console.print(f"target of {TARGET:g} s at 126 units: {'reached' if reached else 'MISSED'}")
    figures = {
        "machine": {
            "cores": len(os.sched_getaffinity(0)),
            "python": platform.python_version(),
            "numpy": np.__version__,
        },
        "draws": DRAWS,
        "contrasts": CONTRASTS,
        "repeats": REPEATS,
        "seconds": {"two-sided": plain, "beyond a minimum": beyond, **rest},
    }
    (ROOT / "benchmarks" / "results" / "stats.json").write_text(json.dumps(figures, indent=2) + "\n", "utf-8")


if __name__ == "__main__":
    main()
