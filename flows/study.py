"""The flow `study`: a table of contents."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import ParamSpec, Protocol, TypeVar

import httpx
from prefect import flow
from prefect.exceptions import PrefectHTTPStatusError
from prefect.settings import PREFECT_API_URL
from prefect.tasks import Task

from flows.settings import places_here
from neuromod_core.kernel.errors import ConfigError
from tasks import artifacts, shards, stale, steps
from tasks.lab import Run

P = ParamSpec("P")
R = TypeVar("R")


class How(Protocol):
    """How a step is called: by itself, or as a task that a server sees."""

    def __call__(self, step: Task[P, R]) -> Callable[P, R]:
        """Return the function that runs a step."""


def plainly(step: Task[P, R]) -> Callable[P, R]:
    """Return a task's function: the study in this process, without a scheduler."""
    return step.fn


def through_prefect(step: Task[P, R]) -> Callable[P, R]:
    """Return the task itself: called inside a flow, it is seen, retried and recorded by the server."""
    return step


def begin(run: Run, do: How) -> list[int]:
    """Load weights and calibration, once for all shards; pass the gates; return the shards without a marker."""
    do(steps.begin)(run)
    do(steps.probe)(run)
    return do(steps.missing)(run)


def conclude(run: Run, do: How) -> str:
    """Go from committed shards to the report; return the root hash. Workers that do it side by side write the same."""
    do(steps.rehearse)(run)
    do(steps.unblind)(run)
    root = do(steps.conclude)(run)
    do(steps.report)(run)
    do(steps.track)(run)
    return root


def conduct(run: Run) -> str:
    """Run a registered study in this process from wherever it stands to its report; return its data's root hash."""
    for number in shards.turns(run, begin(run, plainly)):
        plainly(steps.shard)(run, number)
    return conclude(run, plainly)


def run_of(registration: str, storage: str, tracking: str | None, cache: str | None) -> Run:
    """Return the run of a registration file at a storage root."""
    places = places_here(storage, tracking, cache=None if cache is None else Path(cache))
    return Run(str(Path(registration).absolute()), places)


@flow(name="administer", persist_result=False)
def administer(registration: str, storage: str = "runs", tracking: str | None = None, cache: str | None = None) -> None:
    """Administer the shards of one registration, and so of one model, in this process; its weights are loaded once."""
    stale.sign()
    run = run_of(registration, storage, tracking, cache)
    left, progress = begin(run, through_prefect), artifacts.begin(run)
    for number in shards.turns(run, left):
        through_prefect(steps.shard)(run, number)
        artifacts.advance(run, progress)
    artifacts.workers(run)


@flow(name="study", persist_result=False)
def study(registration: str, storage: str = "runs", tracking: str | None = None, cache: str | None = None) -> str:
    """Run the study of a registration file; the same registration gives the same root hash wherever it runs.

    Several runs of one registration, on as many workers, share its shards.
    """
    stale.begin()
    administer(registration, storage, tracking, cache)
    run = run_of(registration, storage, tracking, cache)
    root = conclude(run, through_prefect)
    artifacts.outcome(run, root)
    return root


def served(run: Run) -> str:
    """Run a registered study as a flow run of the Prefect server; return the root hash of its data.

    Raises:
        ConfigError: the server does not answer; what was committed stays.
    """
    places = run.places
    try:
        return study(run.file, places.runs, places.tracking, places.cache)
    except (httpx.HTTPError, PrefectHTTPStatusError) as error:
        address, why = PREFECT_API_URL.value(), " ".join(str(error).split()) or type(error).__name__
        remedy = "The same command resumes, without a server too: runtime=inprocess."
        raise ConfigError(f"The Prefect server {address} does not answer: {why}. {remedy}") from error
