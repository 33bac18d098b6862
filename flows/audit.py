"""The command `neuromod audit`: the analysis audits itself on simulated studies."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path

from rich.console import Console

from neuromod_core.kernel.errors import ConfigError
from tasks import auditing, progress

Row = Mapping[str, object]
Show = Callable[[Sequence[Row], bool], int]
Command = Callable[[argparse.Namespace, Path], int]


def add_verbs(verb: Callable[[str, str], argparse.ArgumentParser]) -> None:
    """Add the command to the parser."""
    audit = verb("audit", "check error rates, coverage and power of the analysis on simulated studies (minutes)")
    audit.add_argument("--studies", type=int, metavar="N", help="simulated studies a line (4000; quick: 400)")
    audit.add_argument("--quick", action="store_true", help="a short audit with wider limits (seconds)")
    audit.add_argument("--document", metavar="FOLDER", help="write audit.md and its pictures")
    audit.add_argument("--json", action="store_true", help="print JSON")


def verbs(show: Show) -> Mapping[str, Command]:
    """Return the command by name; `show` prints rows as JSON or as a table."""
    return {"audit": partial(_audit, show)}


def _audit(show: Show, given: argparse.Namespace, cache: Path) -> int:
    folder = None if given.document is None else Path(given.document)
    if folder is not None and not folder.is_dir():
        raise ConfigError(f"There is no folder {folder} to write the page to.")
    with progress.shown(Console(stderr=True)):
        found = auditing.audited(auditing.settings(given.studies, given.quick))
        if folder is not None:
            auditing.document(found, folder)
    show(auditing.rows(found), given.json)
    if found.failed:
        names = "; ".join(check.name for check in found.failed)
        print(f"AUDIT FAILED: {names}", file=sys.stderr if given.json else sys.stdout)
    return 3 if found.failed else 0
