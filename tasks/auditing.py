"""The audit of the analysis: run, and written beside the documentation."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from neuromod_core.report import audit as pages
from neuromod_core.trial.audit import QUICK, SUITES, Audit, Settings, audit
from tasks import progress


def settings(studies: int | None, quick: bool) -> Settings:
    """Return how much to simulate: a full audit or a short one, with another number of studies where one is given."""
    base = QUICK if quick else Settings()
    if studies is None:
        return base
    return replace(base, studies=studies, trials=min(base.trials, studies), fits=min(base.fits, studies))


def audited(chosen: Settings) -> Audit:
    """Run the audit."""
    progress.stage("audit", len(SUITES))
    begun: list[str] = []

    def tick(name: str) -> None:
        progress.tick(1 if begun else 0)
        begun.append(name)
        progress.say(name)

    found = audit(chosen, tick)
    progress.tick(1)
    return found


def document(found: Audit, folder: Path) -> None:
    """Write audit.md and its pictures into a folder of documentation."""
    progress.stage("pictures")
    pages.write(found, folder)


def rows(found: Audit) -> list[dict[str, object]]:
    """Return one row a check."""
    return [check.as_row() for check in found.checks]
