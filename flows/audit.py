"""The command `neuromod audit`: the analysis audits itself on simulated studies, or on a model that changes nothing."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console

from neuromod_core.kernel.errors import ConfigError

if TYPE_CHECKING:
    from neuromod_core.trial.checks import Check

Row = Mapping[str, object]
Show = Callable[[Sequence[Row], bool], int]
Command = Callable[[argparse.Namespace, Path], int]
TWIN_STUDIES = 20


def add_verbs(verb: Callable[[str, str], argparse.ArgumentParser]) -> None:
    """Add the command to the parser."""
    audit = verb("audit", "check error rates, coverage and power of the analysis on simulated studies (minutes)")
    audit.add_argument(
        "--studies", type=int, metavar="N", help="simulated studies a line (4000; --quick: 300; --model: 20)"
    )
    audit.add_argument("--model", metavar="NAME", help="A/A studies on this model instead: one pack under two names")
    audit.add_argument("--quick", action="store_true", help="a short audit with wider limits (seconds)")
    audit.add_argument("--document", metavar="FOLDER", help="write audit.md and its pictures")
    audit.add_argument("--json", action="store_true", help="print JSON")


def verbs(show: Show) -> Mapping[str, Command]:
    """Return the command by name; `show` prints rows as JSON or as a table."""
    return {"audit": partial(_audit, show)}


def _audit(show: Show, given: argparse.Namespace, cache: Path) -> int:
    from tasks import auditing, progress

    folder = None if given.document is None else Path(given.document)
    if folder is not None and not folder.is_dir():
        raise ConfigError(f"There is no folder {folder} to write the page to.")
    if given.model is not None and given.quick:
        raise ConfigError("A short audit is of the analysis; with --model give --studies N.")
    with progress.shown(Console(stderr=True)):
        checks = _simulated(given, folder) if given.model is None else _twins(given, cache, folder)
    show(auditing.rows(checks), given.json)
    failed = "; ".join(check.name for check in checks if not check.passed)
    if failed:
        print(f"AUDIT FAILED: {failed}", file=sys.stderr if given.json else sys.stdout)
    return 3 if failed else 0


def _simulated(given: argparse.Namespace, folder: Path | None) -> Sequence[Check]:
    from tasks import auditing

    found = auditing.audited(auditing.settings(given.studies, given.quick))
    if folder is not None:
        auditing.document(found, folder)
    return found.checks


def _twins(given: argparse.Namespace, cache: Path, folder: Path | None) -> Sequence[Check]:
    from flows.settings import settings
    from tasks import auditing

    chosen = settings([f"model={given.model}"])
    spec = chosen.config().model
    checks = auditing.twins(spec, chosen.places(cache), given.studies or TWIN_STUDIES)
    if folder is not None:
        auditing.document_twins(spec.name, checks, folder)
    return checks
