"""The command `neuromod track`: records of studies in MLflow, made again from the studies themselves."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path

from rich.console import Console

from flows.records import place
from flows.settings import places_here

Row = Mapping[str, object]
Show = Callable[[Sequence[Row], bool], int]
Command = Callable[[argparse.Namespace, Path], int]


def add_verbs(verb: Callable[[str, str], argparse.ArgumentParser]) -> None:
    """Add the command to the parser."""
    track = verb("track", "keep MLflow's view of studies")
    inner = track.add_subparsers(dest="action", required=True, metavar="ACTION")
    text = "make every run in MLflow again from the records of the studies; again, it changes nothing"
    rebuild = inner.add_parser("rebuild", help=text, description=text)
    rebuild.add_argument("root", nargs="?", default="runs", metavar="RUN", help="a run, or a root with runs (runs)")
    rebuild.add_argument("--uri", help="MLflow server or database (mlflow.db in the storage root, or in runs)")
    rebuild.add_argument("--json", action="store_true", help="print JSON")


def verbs(show: Show) -> Mapping[str, Command]:
    """Return the command by name; `show` prints rows as JSON or as a table."""
    return {"track": partial(_rebuild, show)}


def _rebuild(show: Show, given: argparse.Namespace, cache: Path) -> int:
    from tasks import progress, tracking  # MLflow is loaded by those who ask

    places = places_here(place(given.root), given.uri, cache=cache)
    with progress.shown(Console(stderr=True)):
        rows = tracking.rebuilt(places)
    return show(rows, given.json)
