"""Many studies of one command: one after another, in processes of this machine, or as jobs of a Slurm cluster.

Every job is what one command would do, and says the same; a failed one does not stop the others, and running the same
sweep again resumes.
"""

from __future__ import annotations

import io
import sys
from collections.abc import Callable, Mapping, Sequence
from contextlib import redirect_stderr, redirect_stdout
from functools import partial
from importlib import import_module
from pathlib import Path
from typing import Any, NamedTuple

from flows.settings import Runtime
from neuromod_core.kernel.errors import ConfigError


class Outcome(NamedTuple):
    """What a job ended with and what it said."""

    code: int
    said: str


Job = Callable[[Sequence[str]], Outcome]


def launch(jobs: Sequence[Sequence[str]], runtime: Runtime, folder: Path) -> int:
    """Run jobs, each given by its overrides, and print what they say; return the highest exit code.

    folder: where a cluster's jobs leave their logs.

    Raises:
        ConfigError: the launcher's package is not installed.
    """
    run = {"joblib": _processes, "submitit": _cluster}[runtime.launcher]
    outcomes = run(jobs, runtime, folder)
    for job, outcome in zip(jobs, outcomes, strict=True):
        print(f"== {' '.join(job)}\n{outcome.said}", end="")
    return max(outcome.code for outcome in outcomes)


def one(verb: str, overrides: Sequence[str]) -> Outcome:
    """Run one command in this process, its output kept: what a worker does."""
    from flows.cli import main

    said = io.StringIO()
    with redirect_stdout(said), redirect_stderr(said):
        code = main([verb, *overrides])
    return Outcome(code, _settled(said.getvalue()))


def _settled(text: str) -> str:
    """Return output without empty lines and progress bars."""
    lines = [line.rstrip() for line in text.splitlines()]
    return "".join(f"{line}\n" for line in lines if line and "━" not in line)


def _processes(jobs: Sequence[Sequence[str]], runtime: Runtime, folder: Path) -> list[Outcome]:
    joblib = _package("joblib", "joblib")
    work = joblib.delayed(partial(one, "run"))
    return list(joblib.Parallel(n_jobs=runtime.jobs, backend="loky")(work(list(job)) for job in jobs))


def _cluster(jobs: Sequence[Sequence[str]], runtime: Runtime, folder: Path) -> list[Outcome]:
    submitit = _package("submitit", "submitit")
    executor = submitit.AutoExecutor(folder=str(folder))  # Slurm where there is one, else processes here
    executor.update_parameters(slurm_array_parallelism=runtime.jobs, **_given(runtime.slurm))
    submitted = executor.map_array(partial(one, "run"), [list(job) for job in jobs])
    print(f"submitted {len(submitted)} jobs; logs in {folder}", file=sys.stderr)
    return [job.result() for job in submitted]


def _given(parameters: Mapping[str, str | int]) -> dict[str, Any]:
    return dict(parameters)


def _package(name: str, extra: str) -> Any:
    """Return a package; raise ConfigError where it is not installed."""
    try:
        return import_module(name)
    except ModuleNotFoundError:
        raise ConfigError(
            f"runtime.launcher={name} needs the package {name}, which is not installed: pip install {extra}; "
            "or runtime.launcher=serial."
        ) from None
