"""How long all eight scales take, in the primary reading of the embedded model, one wording a cell: 64 units x 8 arms.

    python benchmarks/instruments.py [--shards N] [--formats F ...]

Cells are those of the reference study's arms, administered by the code that studies use: in float32, as studies run
here, and in bfloat16 (`model.dtype=bfloat16`), with how far the scores of the two lie apart. Scales are given whole,
and in the short forms that `instruments=all` registers. --shards measures only so many of the shards and multiplies:
the result then says that it is extrapolated, and how far shards differed. The trunk that rows of one prompt share is
timed with and without, in turn, in one process. Writes benchmarks/results/instruments.json.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import sys
import time
from collections.abc import Sequence
from dataclasses import replace
from itertools import chain, product
from pathlib import Path

import pandas as pd
import torch
from rich.console import Console
from rich.table import Table

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # so that it runs as a script too

from benchmarks.engine import commit_of, product_rate
from flows.settings import settings
from neuromod_core.engine import best_path, dosed
from neuromod_core.engine.fused import FusedSession
from neuromod_core.instruments import Scale
from neuromod_core.packs import Binding, Pack
from neuromod_core.trial.administer import statement_lines
from neuromod_core.trial.plan import Cell
from neuromod_core.trial.prompts import Prompter
from neuromod_core.trial.register import units_of
from neuromod_core.trial.room import Room, Seat
from tasks.lab import Places, calibration, library, model

ROOT = Path(__file__).resolve().parents[1]
CACHE = Path.home() / ".cache" / "neuromod"
TARGET = 12 * 60
MATCHED = 0.2  # dose of the entropy placebo's temperature: its size does not change the time
FORMATS, REPEATS = ("float32", "bfloat16"), 2
DISTANCE = "bfloat16 less float32, in standard deviations"
OUT = Console(width=120)
Figures = dict[str, object]


def single(pack: Pack) -> Pack:
    """Return the pack as one cell receives it; a first member of an ensemble, a matched temperature."""
    return pack.matched(MATCHED) if pack.match else pack.singles[0]


def shards(room: Room, packs: Sequence[Pack], units: int, per: int) -> list[list[Seat]]:
    """Return the seats of every shard: each unit under each arm, asked the statements alone."""
    config = settings(
        ["study=reproduce", "instruments=all", f"design.units={units}", f"design.units_per_shard={per}"]
    ).config()
    dealt = units_of(config, room.prompter.library)
    seats = [
        [
            Seat(Cell(f"{unit.unit_id}/{pack.name}", unit.unit_id, period, 0, 0, "statements"), unit, pack)
            for period, pack in enumerate(packs)
        ]
        for unit in dealt
    ]
    return [list(chain.from_iterable(seats[start : start + per])) for start in range(0, units, per)]


def timed(room: Room, scales: Sequence[Scale], given: Sequence[Sequence[Seat]], wanted: int) -> Figures:
    """Return the figures of administering `wanted` shards, and what all of them take."""
    here = replace(room, scales=tuple(scales))
    seconds, read = [], 0
    for shard in given[:wanted]:
        begun = time.perf_counter()
        lines = statement_lines(here, shard)
        seconds.append(time.perf_counter() - begun)
        read += sum(int(str(line["keyed_tokens"])) + int(str(line["antonym_tokens"])) for line in lines)
        if any(line["keyed_ll"] is None for line in lines):
            raise SystemExit("A sentence has no likelihood: no figure.")
        OUT.log(f"shard {len(seconds)} of {min(wanted, len(given))}: {seconds[-1]:.1f} s")
    total = statistics.mean(seconds) * len(given)
    return {
        "items": sum(len(scale.items) for scale in scales),
        "shards measured": len(seconds),
        "shards": len(given),
        "seconds a shard": seconds,
        "extrapolated": len(seconds) < len(given),
        "minutes": total / 60,
        "tokens scored a second": read / sum(seconds),
        "target reached": total <= TARGET,
    }


class Alone(FusedSession):
    """The same session, in which every row is computed by itself from the first block on."""

    def trunk(self, binding: Binding, alike: torch.Tensor) -> None:
        """Share nothing."""


def shared(room: Room, seats: Sequence[Seat]) -> Figures:
    """Return what sharing a trunk saves on the cells of a shard and one scale, both ways in turn."""
    if not isinstance(room.session, FusedSession):
        return {"path": room.session.path}
    ways = {"shared": room.session, "alone": Alone(room.session.model, room.session.fused)}
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    read: dict[str, object] = {}
    for _ in range(REPEATS):
        for name, session in ways.items():
            begun = time.perf_counter()
            read[name] = statement_lines(replace(room, session=session, scales=room.scales[:1]), seats)
            seconds[name].append(time.perf_counter() - begun)
    middle = {name: statistics.median(values) for name, values in seconds.items()}
    return {"seconds": seconds, "ratio": middle["alone"] / middle["shared"], "equal": read["shared"] == read["alone"]}


def contrasts(room: Room, seats: Sequence[Seat]) -> pd.Series:
    """Return the mean contrast (nats) of each cell's items, by scale and cell."""
    lines = pd.DataFrame(statement_lines(room, seats))
    values = (lines["keyed_ll"] - lines["antonym_ll"]).astype(float)
    return values.groupby([lines["instrument"], lines["cell_code"]]).mean()


def apart(exact: pd.Series, coarse: pd.Series) -> Figures:
    """Return how far two number formats lie apart, in standard deviations of the exact scores over cells."""
    spread = exact.groupby(level=0).std().mean()
    difference = coarse - exact
    return {"mean": float(difference.mean() / spread), "sd": float(difference.std() / spread)}


def in_format(dtype: str, given: argparse.Namespace) -> tuple[Figures, pd.Series]:
    """Return the figures of whole scales and of registered short forms in a number format; and scores of one shard."""
    config, texts = settings(["study=reproduce", "instruments=all"]).config(), library(str(ROOT))
    packs = [texts.pack(name) for name in config.arms]
    exact = model(replace(config.model, dtype="float32"), str(CACHE))
    subject = calibration(exact, tuple(packs), Places(str(ROOT), str(CACHE), "runs", None)).admitting().subject
    loaded = exact if dtype == "float32" else model(replace(config.model, dtype=dtype), str(CACHE))
    whole = [texts.scale(name) for name in config.scales]
    short = texts.administered(config.scales, config.primary_scale, config.foil_items)
    with dosed(loaded, best_path(loaded)) as session:
        room = Room(session, subject, Prompter(loaded, texts), tuple(whole), config.batch, 1, config.seed)
        seats = shards(room, [single(pack) for pack in packs], given.units, given.per_shard)
        statement_lines(replace(room, scales=tuple(short[:1])), seats[0][:2])
        forms = {name: timed(room, form, seats, given.shards) for name, form in (("whole", whole), ("short", short))}
        figures = {"product GFLOP/s": product_rate(loaded.dtype), **forms, "trunk": shared(room, seats[0])}
        return figures, contrasts(replace(room, scales=tuple(short)), seats[0])


def measured(given: argparse.Namespace, known: Figures) -> Figures:
    """Return the figures of the formats that are asked for, beside those that are known."""
    found = {dtype: in_format(dtype, given) for dtype in given.formats}
    figures = known | {
        "machine": {
            "cores": len(os.sched_getaffinity(0)),
            "threads": torch.get_num_threads(),
            "torch": torch.__version__,
        },
        "units": given.units,
        "arms": len(settings(["study=reproduce", "instruments=all"]).config().arms),
        "units a shard": given.per_shard,
        "target minutes": TARGET / 60,
        **{dtype: mine | {"commit": commit_of()} for dtype, (mine, _) in found.items()},
    }
    if set(found) == set(FORMATS):
        figures[DISTANCE] = apart(*(found[dtype][1] for dtype in FORMATS))
    return figures


def shown(figures: Figures) -> None:
    table = Table("scales", "items", "minutes", "tokens/s", "measured", f"within {TARGET // 60} minutes")
    there = [dtype for dtype in FORMATS if dtype in figures]
    for dtype, name in product(there, ("whole", "short")):
        form = figures[dtype][name]  # type: ignore[index]
        counted = f"{form['shards measured']} of {form['shards']} shards"  # type: ignore[index]
        values = (form["items"], f"{form['minutes']:.1f}", f"{form['tokens scored a second']:.0f}")  # type: ignore[index]
        table.add_row(f"{name}, {dtype}", *map(str, values), counted, "yes" if form["target reached"] else "NO")  # type: ignore[index]
    OUT.print(table)
    for dtype in there:
        OUT.print(f"{dtype}: the trunk makes it {figures[dtype]['trunk']['ratio']:.2f} times faster")  # type: ignore[index]
    if DISTANCE in figures:
        OUT.print(f"{DISTANCE}: {figures[DISTANCE]}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shards", type=int, default=10_000, help="measure so many shards and extrapolate")
    parser.add_argument("--units", type=int, default=64)
    parser.add_argument("--per-shard", type=int, default=8, help="units whose cells share a batch")
    parser.add_argument("--formats", nargs="+", choices=FORMATS, default=list(FORMATS), help="the others stay as known")
    file = ROOT / "benchmarks" / "results" / "instruments.json"
    known = json.loads(file.read_text(encoding="utf-8")) if file.is_file() else {}
    figures = measured(parser.parse_args(), known)
    shown(figures)
    file.write_text(json.dumps(figures, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
