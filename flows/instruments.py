"""The command `neuromod instruments`: scales and imported tasks, and what they are worth on a model."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path

from rich.console import Console

from flows.settings import PROJECT, settings
from neuromod_core.kernel.errors import ConfigError

Row = Mapping[str, object]
Show = Callable[[Sequence[Row], bool], int]
Command = Callable[[argparse.Namespace, Path], int]
SOURCE = "a file, inspect:FILE.jsonl or lm-eval:TASK.yaml"


def add_verbs(verb: Callable[[str, str], argparse.ArgumentParser]) -> None:
    """Add the command to the parser."""
    top = verb("instruments", "scales and imported tasks: list, show, card, import")
    actions = top.add_subparsers(dest="action", required=True, metavar="ACTION")
    every = actions.add_parser("list", help="all scales")
    one = actions.add_parser("show", help="the items of a scale")
    card = actions.add_parser("card", help="what scales are worth on a model: card NAME ... [model=...]")
    taken = actions.add_parser("import", help=f"check a scale or a task of your own: {SOURCE}")
    one.add_argument("name")
    card.add_argument(
        "overrides", nargs="*", metavar="NAME", help=f"a scale, or {SOURCE}; and Hydra overrides: model=..."
    )
    card.add_argument("--all", action="store_true", help="every scale of the project")
    card.add_argument("--packs", default="lsd,ketamine", metavar="A,B", help="packs to read change under, or 'none'")
    card.add_argument("--units", type=int, metavar="N", help="contexts (24)")
    card.add_argument("--document", metavar="FOLDER", help="write instruments.md and its pictures (with --all)")
    taken.add_argument("source", help=SOURCE)
    taken.add_argument("--data", metavar="FILE", help="JSON-lines data of an lm-eval task that names none")
    for parser in (every, card, taken):
        parser.add_argument("--json", action="store_true", help="print JSON")


def verbs(show: Show) -> Mapping[str, Command]:
    """Return the command by name; `show` prints rows as JSON or as a table."""
    return {"instruments": partial(_instruments, show)}


def _instruments(show: Show, given: argparse.Namespace, cache: Path) -> int:
    actions = {"list": _list, "show": _show, "card": _card, "import": _import}
    return actions[given.action](show, given, cache)


def _list(show: Show, given: argparse.Namespace, cache: Path) -> int:
    from tasks.lab import library

    rows = [
        {"scale": name, "items": len(scale.items), "wordings": len(scale.items[0].wordings), "what": scale.title}
        for name, scale in library(str(PROJECT)).scales.items()
    ]
    return show(rows, given.json)


def _show(show: Show, given: argparse.Namespace, cache: Path) -> int:
    from tasks.lab import library

    scale = library(str(PROJECT)).scale(given.name)
    print(f"{scale.title}; version {scale.version}, fingerprint {scale.fingerprint}")
    rows = [
        {"item": item.id, "subscale": item.subscale, "keyed": item.keyed, "antonym": item.antonym}
        for item in scale.items
    ]
    return show(rows, False)


def _card(show: Show, given: argparse.Namespace, cache: Path) -> int:
    names = [name for name in given.overrides if "=" not in name]
    if bool(names) == given.all:
        raise ConfigError("neuromod instruments card needs names of scales, or --all.")
    if given.document is not None and not (given.all and Path(given.document).is_dir()):
        raise ConfigError(f"--document needs --all and a folder; given {given.document}.")
    from neuromod_core.trial.psychometrics import Scope
    from tasks import imports, instruments, progress

    chosen = settings([name for name in given.overrides if "=" in name])
    places, spec = chosen.places(cache), chosen.config().model
    scope = Scope() if given.units is None else Scope.of(given.units)
    packs = () if given.packs == "none" else tuple(given.packs.split(","))
    with progress.shown(Console(stderr=True)):
        known, added, tasks = imports.sorted_out(names, places)
        asked = [imports.row(one) for one in imports.task_cards(tasks, spec, places)]
        wanted = instruments.Wanted(spec, scope, packs, None if given.all else tuple(known), added)
        found = instruments.cards(wanted, places) if known or added or given.all else ()
        if given.document is not None:
            instruments.document(found, instruments.title(spec), Path(given.document))
        instruments.write(found, places)
    status = show(asked, given.json) if asked else 0
    return show([instruments.row(one) for one in found], given.json) if found else status


def _import(show: Show, given: argparse.Namespace, cache: Path) -> int:
    from tasks import imports

    return show(imports.facts(imports.read(given.source, given.data), str(PROJECT)), given.json)
