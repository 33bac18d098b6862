"""The audit of the analysis: run, and written beside the documentation."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from neuromod_core.models import ModelSpec
from neuromod_core.report import audit as pages
from neuromod_core.trial.audit import QUICK, SUITES, Audit, Settings, audit
from neuromod_core.trial.checks import Check
from neuromod_core.trial.simulate import plan_of
from tasks import lab, progress
from tasks.lab import Places

TWIN_SCALES, TWIN_BATCH = ("pdq_s", "sdq"), 64


def settings(studies: int | None, quick: bool) -> Settings:
    """Return how much to simulate: a full audit or a short one, with another number of studies where one is given."""
    base = QUICK if quick else Settings()
    if studies is None:
        return base
    fewer = {name: min(getattr(base, name), studies) for name in ("trials", "fits", "links")}
    return replace(base, studies=studies, **fewer)


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


def twins(spec: ModelSpec, places: Places, studies: int) -> list[Check]:
    """Run A/A studies on a model; see `trial.twins`."""
    from neuromod_core.trial import twins as aa

    progress.stage("loading the model")
    loaded, texts = lab.model(spec, places.cache), lab.library(places.project)
    found = lab.calibration(loaded, (aa.twin(),), places)
    plan = plan_of([], TWIN_SCALES, minimum=0.0, draws=1, resamples=1)
    progress.stage("A/A studies", studies + 1)
    with lab.room(replace(plan, foil_items=1, batch=TWIN_BATCH), loaded, found, texts) as room:
        return aa.audit(room, studies, progress.tick)


def document_twins(model: str, checks: Sequence[Check], folder: Path) -> None:
    """Write the page of the A/A studies on a model into a folder of documentation."""
    (folder / f"audit-{model}.md").write_text(pages.twins_page(model, checks), "utf-8")


def document(found: Audit, folder: Path) -> None:
    """Write audit.md and its pictures into a folder of documentation."""
    progress.stage("pictures")
    pages.write(found, folder)


def rows(found: Sequence[Check]) -> list[dict[str, object]]:
    """Return one row a check."""
    return [check.as_row() for check in found]
