"""The flow `study`: a table of contents."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import ParamSpec, TypeVar

from prefect import flow
from prefect.tasks import Task

from flows.settings import places_here
from tasks import steps
from tasks.lab import Run

P = ParamSpec("P")
R = TypeVar("R")


def plainly(step: Task[P, R]) -> Callable[P, R]:
    """Return a task's function: the study in this process, without a scheduler."""
    return step.fn


def through_prefect(step: Task[P, R]) -> Callable[P, R]:
    """Return the task itself: called inside a flow, it is seen, retried and recorded by the server."""
    return step


def conduct(run: Run, *, prefect: bool) -> str:
    """Run a registered study from wherever it stands to its report; return the root hash of its data."""
    do = through_prefect if prefect else plainly
    do(steps.begin)(run)
    do(steps.probe)(run)
    for number in do(steps.missing)(run):
        do(steps.shard)(run, number)
    do(steps.rehearse)(run)
    do(steps.unblind)(run)
    root = do(steps.conclude)(run)
    do(steps.report)(run)
    do(steps.track)(run)
    return root


@flow(name="study", persist_result=False)
def study(registration: str, storage: str = "runs", tracking: str | None = None) -> str:
    """Run the study of a registration file; the same registration gives the same root hash wherever it runs."""
    places = places_here(storage, tracking)
    return conduct(Run(str(Path(registration).absolute()), places), prefect=True)
