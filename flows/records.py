"""The commands that look after records: gc, compact, query, export. They work on a folder and on s3:// alike."""

from __future__ import annotations

import argparse
import csv
import json
import math
import sys
from collections.abc import Callable, Mapping, Sequence
from decimal import Decimal
from functools import partial
from pathlib import Path

from flows.settings import PROJECT
from neuromod_core.kernel.errors import ConfigError
from neuromod_core.store import folder_of, open_store

Row = Mapping[str, object]
Show = Callable[[Sequence[Row], bool], int]
Command = Callable[[argparse.Namespace, Path], int]
RUN = "folder or s3:// address of the run, or 'latest'"


def add_verbs(verb: Callable[[str, str], argparse.ArgumentParser], now: float) -> None:
    """Add the commands to the parser; `now` is the time of day, in seconds since 1970."""
    gc = verb("gc", "list data files that no shard's marker names; with --delete, remove them")
    gc.add_argument("--delete", action="store_true", help="remove what is listed")
    gc.add_argument("--grace", type=float, default=24.0, metavar="HOURS", help="spare files younger than this (24)")
    gc.set_defaults(now=now)
    compact = verb("compact", "write a complete run's dataset and print its root hash; again, it changes nothing")
    query = verb("query", "read-only SQL over the tables of a run, or of all runs below a folder or address")
    query.add_argument("--csv", action="store_true", help="print CSV")
    export = verb("export", "write a closed run's dataset to a new folder")
    report = verb("report", "make a closed run's report again from its records, and say where it is")
    for parser in (gc, compact, query, export, report):
        parser.add_argument("run", help=RUN)
    for parser in (gc, compact, query):
        parser.add_argument("--json", action="store_true", help="print JSON")
    query.add_argument("sql", help='one SELECT: "select scale, avg(value) from scores group by scale"')
    export.add_argument("folder", help="a folder that does not exist yet")
    report.add_argument("--to", metavar="FOLDER", help="write it, with its pictures, into this folder as well")
    export.add_argument("--format", choices=("hf", "csv"), default="hf", help="Hugging Face dataset (default) or CSV")


def verbs(show: Show) -> Mapping[str, Command]:
    """Return the commands by name; `show` prints rows as JSON or as a table."""
    return {
        "gc": partial(_gc, show),
        "compact": partial(_compact, show),
        "query": partial(_query, show),
        "export": _export,
        "report": _report,
    }


def place(name: str) -> str:
    """Return the address of a store: s3:// as it is given, a folder as its absolute path, 'latest' followed."""
    latest = Path("runs/latest")
    if name == "latest" and latest.is_file():  # the address of a run in a bucket
        return latest.read_text("utf-8").strip()
    folder = folder_of(str(latest) if name == "latest" else name)
    return name.rstrip("/") if folder is None else str(folder.resolve())


def run_at(name: str) -> str:
    """Return the address of a run.

    Raises:
        ConfigError: there is no run.
    """
    at = place(name)
    if not open_store(at).holds("plan.json"):
        raise ConfigError(f"{name} is not a run: it holds no plan.json.")
    return at


def _gc(show: Show, given: argparse.Namespace, cache: Path) -> int:
    from tasks import records

    found = records.swept(run_at(given.run), now=given.now, grace=given.grace * 3600, delete=given.delete)
    if given.json or found:
        show(found, given.json)
    if not given.json:
        size = sum(int(str(row["bytes"])) for row in found)
        done = "removed" if given.delete else "nothing removed (--delete removes them)"
        print(f"{len(found)} unreferenced files, {size} bytes" + (f": {done}" if found else ""))
    return 0


def _compact(show: Show, given: argparse.Namespace, cache: Path) -> int:
    from tasks import records

    root, files = records.compacted(run_at(given.run))
    if given.json:
        print(json.dumps({"root": root, "files": files}, indent=2))
        return 0
    show(files, False)
    print(f"root hash  {root}")
    return 0


def _query(show: Show, given: argparse.Namespace, cache: Path) -> int:
    from tasks import records

    found = records.asked(place(given.run), given.sql)
    if given.csv:
        lines = csv.writer(sys.stdout, lineterminator="\n")
        lines.writerow(found.column_names)
        lines.writerows([_cell(value) for value in row.values()] for row in found.to_pylist())
        return 0
    rows = [{key: _value(value) for key, value in row.items()} for row in found.to_pylist()]
    return show(rows, given.json)


def _export(given: argparse.Namespace, cache: Path) -> int:
    from tasks import records

    manifest = records.exported(run_at(given.run), Path(given.folder), given.format)
    print(f"wrote {len(manifest.files)} tables to {given.folder} (root hash {manifest.root})")
    return 0


def _report(given: argparse.Namespace, cache: Path) -> int:
    from tasks import reporting

    at, folder = run_at(given.run), given.to
    if folder is not None and not Path(folder).is_dir():
        raise ConfigError(f"There is no folder {folder} to write the report to.")
    print(reporting.publish(at, str(PROJECT)))
    if folder is not None:
        reporting.hand_out(at, Path(folder), str(PROJECT))
        print(f"{folder}/{reporting.REPORT}")
    return 0


def _value(value: object) -> object:
    """Return a value of SQL as a value of JSON; a sum of counts comes as Decimal, NaN is missing."""
    match value:
        case Decimal():
            return int(value) if value == value.to_integral_value() else float(value)
        case dict():
            return {key: _value(item) for key, item in value.items()}
        case list():
            return [_value(item) for item in value]
        case float() if math.isnan(value):
            return None
        case None | bool() | int() | float() | str():
            return value
        case _:
            return str(value)


def _cell(value: object) -> object:
    """Return a value of SQL as a field of CSV: missing is empty, a list is JSON."""
    made = _value(value)
    return json.dumps(made) if isinstance(made, dict | list) else made
