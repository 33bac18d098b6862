"""The command `neuromod status`: services, work pools, workers, flow runs, and the shards done of every run."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path

from flows.records import place
from flows.settings import PROJECT

Row = Mapping[str, object]
Show = Callable[[Sequence[Row], bool], int]
Command = Callable[[argparse.Namespace, Path], int]


def add_verbs(verb: Callable[[str, str], argparse.ArgumentParser]) -> None:
    """Add the command to the parser."""
    status = verb("status", "say what serves and what runs: services, pools, workers, runs and their shards")
    status.add_argument("--storage", metavar="ROOT", default="runs", help="where runs are: a folder or s3:// (runs)")
    status.add_argument("--state", metavar="FOLDER", help="where `make up` keeps its services (runs, in the clone)")
    status.add_argument("--cancel-stale", action="store_true", help="cancel flow runs whose process here is gone")
    status.add_argument("--json", action="store_true", help="print JSON")


def verbs(show: Show) -> Mapping[str, Command]:
    """Return the command by name; `show` prints rows as JSON or as a table."""
    return {"status": partial(_status, show)}


def _status(show: Show, given: argparse.Namespace, cache: Path) -> int:
    from tasks import services

    state = PROJECT / "runs" if given.state is None else Path(given.state)
    rows = [*services.services(state), *services.scheduled(state, cancel=given.cancel_stale)]
    return show([*rows, *services.runs(place(given.storage))], given.json)
