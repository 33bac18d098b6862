"""The flows that prefect.yaml deploys beside the study: calibrate, report, audit. Each is one task and its outcome."""

from __future__ import annotations

from pathlib import Path
from typing import TypeAlias

from prefect import flow
from prefect.client.schemas.objects import State
from prefect.states import Completed, Failed

from flows.records import run_at
from flows.settings import PROJECT, settings
from flows.settings import default_cache as home
from tasks import artifacts, auditing, calibrating, reporting, stale
from tasks.steps import step

Ended: TypeAlias = "State[object]"


@flow(name="calibrate", persist_result=False)
def calibrate(model: str = "smollm2-135m", concepts: list[str] | None = None, cache: str | None = None) -> Ended:
    """Make a model's vectors and head sets, or read them where they are kept; list what each vector is worth."""
    stale.begin()
    chosen = settings([f"model={model}"])
    places = chosen.places(home() if cache is None else Path(cache))
    make = step("vectors and heads")(calibrating.evidence)
    found = make(chosen.config().model, places, concepts or calibrating.concepts_of(places))
    rows = [calibrating.row(card) for card in found.evidence.cards]
    artifacts.table(rows, f"vectors-{model}", f"What each vector of {model} is worth")
    return Completed(message=f"{sum(row['valid'] == 'yes' for row in rows)} of {len(rows)} vectors are valid")


@flow(name="report", persist_result=False)
def report(run: str) -> Ended:
    """Make the report of a closed run again from its records; `run` is a folder, an s3:// address, or `latest`."""
    stale.begin()
    at = step("report")(reporting.publish)(run_at(run), str(PROJECT))
    artifacts.link(at, "report", "The self-contained report")
    return Completed(message=at)


@flow(name="audit", persist_result=False)
def audit(studies: int | None = None, quick: bool = False) -> Ended:
    """Check error rates, coverage and power of the analysis on simulated studies; fail where a check does."""
    stale.begin()
    found = step("audit")(auditing.audited)(auditing.settings(studies, quick))
    artifacts.table(auditing.rows(found.checks), "audit", "Checks of the analysis on simulated studies")
    failed = "; ".join(check.name for check in found.failed)
    return Failed(message=f"AUDIT FAILED: {failed}") if failed else Completed(message="every check holds")
