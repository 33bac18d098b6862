"""The command `neuromod data`: public data sets that studies use and that are not shipped."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path

from rich.console import Console

Row = Mapping[str, object]
Show = Callable[[Sequence[Row], bool], int]
Command = Callable[[argparse.Namespace, Path], int]


def add_verbs(verb: Callable[[str, str], argparse.ArgumentParser]) -> None:
    """Add the command to the parser."""
    top = verb("data", "public data sets, pinned by their hash: list, fetch, add")
    actions = top.add_subparsers(dest="action", required=True, metavar="ACTION")
    actions.add_parser("list", help="which are here").add_argument("--json", action="store_true", help="print JSON")
    get = actions.add_parser("fetch", help="download those that are not here; asks the network")
    get.add_argument("names", nargs="*", metavar="NAME", help="all that are one file, where none is named")
    add = actions.add_parser("add", help="put one that is on this machine where studies look for it")
    add.add_argument("name")
    add.add_argument("source", help="the file; for BLiMP the folder of its published files")


def verbs(show: Show) -> Mapping[str, Command]:
    """Return the command by name; `show` prints rows as JSON or as a table."""
    return {"data": partial(_data, show)}


def adopt(cache: Path, folder: str | None) -> None:
    """Take over the public data sets of a folder that the environment names, where they are not here yet."""
    if folder is not None and Path(folder).is_dir():
        from neuromod_core.instruments.tasks.public import adopt as take_over
        from tasks.bench import data_folder

        take_over(Path(folder), data_folder(str(cache)))


def _data(show: Show, given: argparse.Namespace, cache: Path) -> int:
    from tasks import progress, public

    if given.action == "list":
        return show(public.known(str(cache)), given.json)
    if given.action == "add":
        print(public.added(str(cache), given.name, given.source))
        return 0
    with progress.shown(Console(stderr=True)):
        names = public.fetched(str(cache), given.names)
    print(f"fetched: {', '.join(names) or 'nothing, all of it is here'}")
    return 0
