"""The command `neuromod detect`: can the answers of closed studies tell a dosed cell from a placebo?"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path

from flows.records import RUN, run_at
from flows.settings import places_here
from neuromod_core.kernel.errors import ConfigError

Row = Mapping[str, object]
Show = Callable[[Sequence[Row], bool], int]
Command = Callable[[argparse.Namespace, Path], int]


def add_verbs(verb: Callable[[str, str], argparse.ArgumentParser]) -> None:
    """Add the command to the parser."""
    detect = verb("detect", "fit models that tell dosed cells from placebos, judged on packs they never saw")
    detect.add_argument("runs", nargs="+", metavar="RUN", help=f"{RUN}; several runs of different doses for intensity")
    detect.add_argument("--reading", default="statement_raw", help="which scores to learn from (statement_raw)")
    detect.add_argument("--legacy", action="store_true", help="also the weights of earlier work, for comparison")
    detect.add_argument("--picture", metavar="FOLDER", help="write detection.png: AUC by pack and calibration")
    detect.add_argument("--json", action="store_true", help="print JSON")


def verbs(show: Show) -> Mapping[str, Command]:
    """Return the command by name; `show` prints rows as JSON or as a table."""
    return {"detect": partial(_detect, show)}


def _detect(show: Show, given: argparse.Namespace, cache: Path) -> int:
    from tasks import detecting

    folder = None if given.picture is None else Path(given.picture)
    if folder is not None and not folder.is_dir():
        raise ConfigError(f"There is no folder {folder} to write the picture to.")
    at = [run_at(name) for name in given.runs]
    rows = detecting.told(detecting.cells(at, given.reading), folder)
    if given.legacy:
        rows += [line for place in at for line in detecting.old(place, places_here("runs", None, cache=cache))]
    return show(rows, given.json)
