"""What the platform costs beside the engine, how soon it starts, and what a fleet of workers would do.

    python benchmarks/scale.py [shards] [start] [fleet]      (all three where none is named; about four minutes alone)

`shards` runs a study and takes the engine's time from the whole; `start` times processes; `fleet` simulates and needs
no quiet machine. Writes benchmarks/results/scale.json, docs/scale.md and its picture. Commits and listings are in
benchmarks/storage.py.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path

from rich.console import Console
from rich.table import Table

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # so that it runs as a script too

from benchmarks.fleet import Figures, Fleet, curve, draw

ROOT = Path(__file__).resolve().parents[1]
RESULTS = ROOT / "benchmarks" / "results" / "scale.json"
PAGE, PICTURE = ROOT / "docs" / "scale.md", ROOT / "docs" / "pictures" / "fleet.png"
CACHE = Path.home() / ".cache" / "neuromod"
NEUROMOD = Path(sys.executable).with_name("neuromod")
MINUTE, PATIENCE, REPEATS = 60.0, 300.0, 3
WORKERS = (1, 8, 64, 128, 256, 512)
TARGETS = {"overhead at one-minute shards": 0.05, "run to first shard": 15.0, "help": 1.0, "calibrate again": 5.0}


def registered(folder: Path) -> str:
    """Register the smallest study into a folder; return the file."""
    from flows.settings import settings
    from tasks import steps

    chosen = settings(["study=smoke", f"storage.root={folder}", "tracking=none"])
    config, places, file = chosen.config(), chosen.places(CACHE), folder / "study.json"
    steps.make_registration.fn(config, places, steps.ready.fn(config, places), str(file))
    return str(file)


def shards(file: str, folder: Path) -> Figures:
    """Return what a shard takes beside the engine: claim, room, provenance, rows to Parquet, commit."""
    from flows.settings import places_here
    from flows.study import begin, plainly
    from tasks import shards as claims
    from tasks import steps
    from tasks.lab import Run

    engine, administer = [0.0], steps.rows_of

    def timed(*given: object) -> dict[str, object]:
        begun = time.perf_counter()
        rows = dict(administer(*given))  # type: ignore[arg-type]
        engine[0] += time.perf_counter() - begun
        return rows  # type: ignore[return-value]

    run = Run(file, places_here(str(folder), None, cache=CACHE))
    left = begin(run, plainly)
    steps.rows_of = timed  # type: ignore[assignment]
    begun = time.perf_counter()
    for number in claims.turns(run, left):
        plainly(steps.shard)(run, number)
    whole = time.perf_counter() - begun
    steps.rows_of = administer
    own = (whole - engine[0]) / len(left)
    return {
        "shards": len(left),
        "engine, seconds a shard": engine[0] / len(left),
        "platform, seconds a shard": own,
        "overhead here": own * len(left) / engine[0],
        "overhead at one-minute shards": own / MINUTE,
    }


def process(*words: str) -> float:
    """Return the seconds that a command takes."""
    begun = time.perf_counter()
    subprocess.run([NEUROMOD, *words], check=True, capture_output=True)
    return time.perf_counter() - begun


def first_shard(file: str, folder: Path) -> float:
    """Return the seconds from the command to the first shard: imports, weights, calibration, gates."""
    words = ["run", f"registration={file}", f"storage.root={folder}", "tracking=none"]
    begun = time.perf_counter()
    running = subprocess.Popen([NEUROMOD, *words], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        while not list(folder.glob("*/claims/*")):
            if running.poll() is not None or time.perf_counter() - begun > PATIENCE:
                raise SystemExit("The study did not come to its first shard: no figure is worth printing.")
            time.sleep(0.05)
        return time.perf_counter() - begun
    finally:
        running.send_signal(signal.SIGINT)
        running.wait()


def start(file: str, folder: Path) -> Figures:
    """Return how soon commands do what they are asked, everything cached."""
    process("calibrate")

    def median(act: Callable[[int], float]) -> float:
        return statistics.median(act(turn) for turn in range(REPEATS))

    return {
        "help": median(lambda _: process("--help")),
        "calibrate again": median(lambda _: process("calibrate")),
        "run to first shard": median(lambda turn: first_shard(file, folder / f"start-{turn}")),
    }


def fleet() -> dict[str, object]:
    """Return the figures of fleets of several sizes."""
    base = Fleet(workers=max(WORKERS))
    rows = curve(base, WORKERS)
    draw(rows, base, PICTURE)
    return {"assumed": asdict(base), "rows": rows}


def table_of(rows: list[Figures]) -> list[str]:
    """Return rows of Markdown."""
    lines = [
        "| workers | claims | hours | cells/s | of ideal | waiting | requests/s | done twice | GPUs, $ | requests, $ |"
    ]
    lines.append("|" + " --- |" * 10)
    for row in rows:
        number = {key: float(value) for key, value in row.items() if key != "plan"}
        lines.append(
            f"| {row['workers']} | {row['plan']} | {number['hours']:.1f} | {number['cells per second']:.1f} | "
            f"{number['efficiency']:.0%} | {number['waiting for the store']:.1%} | "
            f"{number['requests per second']:.0f} | {row['shards done twice']} | "
            f"{number['dollars, GPUs']:.0f} | {number['dollars, requests']:.0f} |"
        )
    return lines


BESIDE = """\
The platform's seconds of a shard are all but the engine's: the claim, opening the room, provenance, rows to Parquet,
the commit. `run to first shard` holds imports, weights, calibration from the cache, and the gates before the first
cell, which are computing. Commits and listings: [storage](storage.md#how-fast)."""


def page(known: dict[str, dict[str, object]]) -> str:
    """Return docs/scale.md."""
    lines = [
        "# Scale",
        "",
        "`python benchmarks/scale.py` measures and simulates what is below, and writes this page.",
        "",
    ]
    measured = {**known.get("shards", {}), **known.get("start", {})}
    if measured:
        lines += ["## Measured", "", "| what | found | target |", "| --- | --- | --- |"]
        for what, value in measured.items():
            share = what.startswith("overhead")
            unit = "" if what == "shards" or share else " s"
            found = f"{float(str(value)):.2%}" if share else f"{float(str(value)):.3g}{unit}"
            wanted = TARGETS.get(what)
            aim = "" if wanted is None else f"{wanted:.0%}" if share else f"{wanted:g} s"
            lines.append(f"| {what} | {found} | {aim} |")
        lines += ["", BESIDE]
    if known.get("fleet"):
        lines += fleet_text(known["fleet"])
    return "\n".join(lines) + "\n"


FLEET = """
## Simulated: a fleet on one study

{cells:,} cells in shards of {cells_per_shard}, {seconds:g} s of engine a shard (log-normal, spread {spread:g}).
Assumed, not measured: a store that serves {rate:g} requests a second, a round trip of {round_trip:g} s; a worker killed
every {killed:g} hours, back after {restart:g} s; ${gpu_hour:g} a GPU hour, ${million_requests:g} a million requests.
The simulation is event by event; no time passes.

![Throughput, waiting and money over the size of the fleet](pictures/fleet.png)

{table}

*One after the other*: a worker tries every shard's claim in the registered order. Every worker meets every claim once,
so requests grow as workers x shards. *From the list*, as the platform does: a worker that needs a
shard reads which claims there are, and tries the next that is free. Shards done twice are backups of the last ones; the
first commit counts, and no row counts twice.
"""


def fleet_text(found: dict[str, object]) -> list[str]:
    """Return the section about fleets."""
    assumed, rows = found["assumed"], found["rows"]
    if not (isinstance(assumed, dict) and isinstance(rows, list)):
        raise TypeError("figures of fleets are a mapping and a list")
    return FLEET.format(table="\n".join(table_of(rows)), **assumed).splitlines()


def show(known: dict[str, dict[str, object]]) -> None:
    measured = {**known.get("shards", {}), **known.get("start", {})}
    table = Table("what", "found", "target", title="scale")
    for what, value in measured.items():
        wanted = TARGETS.get(what)
        verdict = "" if wanted is None else f"{wanted:g}: {'reached' if float(str(value)) <= wanted else 'MISSED'}"
        table.add_row(what, f"{float(str(value)):.4g}", verdict)
    Console(width=120).print(table)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("parts", nargs="*", choices=("shards", "start", "fleet", []), help="all where none is named")
    parts = parser.parse_args().parts or ["shards", "start", "fleet"]
    known = json.loads(RESULTS.read_text("utf-8")) if RESULTS.is_file() else {}
    if {"shards", "start"} & set(parts):
        (ROOT / "runs").mkdir(exist_ok=True)
        with tempfile.TemporaryDirectory(dir=ROOT / "runs") as name:
            folder = Path(name)
            file = registered(folder)
            if "shards" in parts:
                known["shards"] = shards(file, folder)
            if "start" in parts:
                known["start"] = start(file, folder)
        known["machine"] = {"cores": len(os.sched_getaffinity(0)), "python": platform.python_version()}
    if "fleet" in parts:
        known["fleet"] = fleet()
    RESULTS.write_text(json.dumps(known, indent=2) + "\n", "utf-8")
    PAGE.write_text(page(known), "utf-8")
    show(known)


if __name__ == "__main__":
    main()
