"""The commands that look beyond one study: `signature` (directions of effect in people) and `pool` (several models)."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from flows.records import RUN, run_at
from flows.settings import PROJECT

if TYPE_CHECKING:
    from neuromod_core.trial.archive import Archive

Row = Mapping[str, object]
Show = Callable[[Sequence[Row], bool], int]
Command = Callable[[argparse.Namespace, Path], int]


def add_verbs(verb: Callable[[str, str], argparse.ArgumentParser]) -> None:
    """Add the commands to the parser."""
    signature = verb("signature", "compare a closed study with the directions of effect that human studies found")
    signature.add_argument("run", help=RUN)
    signature.add_argument("--predictions", metavar="FILE", help="instead of datasets/signatures/directions.yaml")
    pool = verb("pool", "primary results of several closed studies, model by model; from six models on, their mean")
    pool.add_argument("runs", nargs="+", metavar="RUN", help=RUN)
    for parser in (signature, pool):
        parser.add_argument("--json", action="store_true", help="print JSON")


def verbs(show: Show) -> Mapping[str, Command]:
    """Return the commands by name; `show` prints rows as JSON or as a table."""
    return {"signature": partial(_signature, show), "pool": partial(_pool, show)}


def _signature(show: Show, given: argparse.Namespace, cache: Path) -> int:
    from tasks import signatures

    return show(signatures.matched(_closed(given.run), given.predictions, str(PROJECT)), given.json)


def _pool(show: Show, given: argparse.Namespace, cache: Path) -> int:
    from tasks import signatures

    return show(signatures.pooled([_closed(run) for run in given.runs]), given.json)


def _closed(run: str) -> Archive:
    from neuromod_core.store import open_store
    from neuromod_core.trial.archive import Archive

    return Archive(open_store(run_at(run)))
