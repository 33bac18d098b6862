"""The command `neuromod calibrate`: a model's vectors, head sets and doses, and what each is worth."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console

from flows.settings import PROJECT, Settings, settings
from neuromod_core.kernel.errors import ConfigError
from tasks import progress, remembered

if TYPE_CHECKING:  # what is heavy is loaded when something has to be measured
    from tasks.calibrating import Calibrated
    from tasks.lab import Places

ERR = Console(stderr=True)
Row = Mapping[str, object]
Show = Callable[[Sequence[Row], bool], int]
Command = Callable[[argparse.Namespace, Path], int]


def add_verbs(verb: Callable[[str, str], argparse.ArgumentParser]) -> None:
    """Add the command to the parser."""
    calibrate = verb(
        "calibrate", "make a model's vectors and head sets and say what each is worth: calibrate model=..."
    )
    calibrate.add_argument("--concepts", metavar="A,B", help="only these contrast sets")
    calibrate.add_argument("--method", default="mean_difference", help="how a direction is made of pairs")
    calibrate.add_argument("--position", default="mean", choices=("mean", "last"), help="where a sentence is read")
    calibrate.add_argument(
        "--unit", default="text", choices=("text", "rollout"), help="where 1 nat is measured: given text, or its own"
    )
    calibrate.add_argument("--document", metavar="FOLDER", help="write vectors.md, heads.md and their pictures")
    calibrate.add_argument("--gguf", metavar="FOLDER", help="write the valid vectors as llama.cpp reads them")
    calibrate.add_argument("--ship", action="store_true", help="keep the calibration with the project")
    calibrate.add_argument("--json", action="store_true", help="print JSON")


def verbs(show: Show) -> Mapping[str, Command]:
    """Return the command by name; `show` prints rows as JSON or as a table."""
    return {"calibrate": partial(_calibrate, show)}


def _calibrate(show: Show, given: argparse.Namespace, cache: Path) -> int:
    chosen = settings(given.overrides)
    if given.document is not None and not Path(given.document).is_dir():
        raise ConfigError(f"There is no folder {given.document} to write the pages to.")
    options = [given.concepts, given.method, given.position, given.unit, chosen.storage.root]
    key = remembered.fingerprint(PROJECT, chosen.model.model_dump(), options)
    more = given.document is not None or given.gguf is not None or given.ship
    answer = None if key is None or more else remembered.recall(cache, key)
    return show(answer.rows if answer else _measured(given, chosen, cache, key), given.json)


def _measured(given: argparse.Namespace, chosen: Settings, cache: Path, key: str | None) -> Sequence[Row]:
    """Calibrate what is not kept, write what was asked for, and return the table."""
    from tasks import calibrating

    places = chosen.places(cache)
    concepts = calibrating.concepts_of(places) if given.concepts is None else tuple(given.concepts.split(","))
    with progress.shown(ERR):
        found = calibrating.evidence(
            chosen.config().model, places, concepts, method=given.method, position=given.position, heard=given.unit
        )
        cards = calibrating.write_cards(found, places.private / "calibration" / found.model.name)
        told = _write(given, found, places)
    for line in told:
        ERR.print(line, highlight=False)
    rows = [calibrating.row(card) for card in found.evidence.cards]
    if key is not None:
        remembered.remember(cache, key, rows, cards)
    return rows


def _write(given: argparse.Namespace, found: Calibrated, places: Places) -> list[str]:
    """Write pages, control vectors and the project's own copy, where they were asked for; say what was written."""
    from tasks import calibrating

    told = []
    if given.document is not None:
        calibrating.document(found, places, Path(given.document))
    if given.gguf is not None:
        told.append(f"wrote {calibrating.write_gguf(found, Path(given.gguf))} control vectors in {given.gguf}")
    if given.ship:
        told.append(f"shipped {calibrating.ship(found)} files in datasets/calibration")
    return told
