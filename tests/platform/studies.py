"""Tiny studies run by real processes: registered once, then copied, and run again and again whatever happens to them.

Workers are forked from a server process that has imported everything, so that one starts in a fraction of a second and
still has a process of its own to be killed in.
"""

from __future__ import annotations

import io
import multiprocessing
import shutil
import sys
import time
from collections.abc import Callable
from contextlib import redirect_stderr
from dataclasses import dataclass
from multiprocessing.process import BaseProcess
from pathlib import Path

import pytest
from prefect.settings import PREFECT_API_URL, PREFECT_CLIENT_MAX_RETRIES, temporary_settings

from flows import cli
from flows.settings import places_here
from flows.study import conduct, served
from neuromod_core.kernel.errors import NeuromodError
from neuromod_core.store import open_store
from neuromod_core.store.commits import committed
from tasks import fresh, steps
from tasks.lab import Run, library
from tests.conftest import ROOT
from tests.flows.blind import calibrated

TINY = ["study=smoke", "model=tiny-llama", "panel=none", "design.units=16", "design.units_per_shard=1"]
TINY += ["design.option_units=0", "instruments.foil_items=1", "instruments.story_tokens=3"]
TINY += ["analysis.draws=999", "analysis.resamples=999"]
SHARDS = 16
FORKS = multiprocessing.get_context("forkserver")
FORKS.set_forkserver_preload([__name__])


@dataclass(frozen=True)
class Tiny:
    """A registered study: its file, and a folder with its public records, before the first cell."""

    file: Path
    records: Path
    cache: Path

    def run(self, storage: str, tracking: str | None = None) -> Run:
        """Return the run of this study at a storage root."""
        return Run(str(self.file), places_here(storage, tracking, cache=self.cache))

    def copy(self, to: Path) -> str:
        """Return a new storage root in which the study stands before its first cell."""
        shutil.copytree(self.records, to)
        return str(to)

    def done(self, storage: str) -> set[str]:
        """Return the shards that are committed at a storage root."""
        return set(committed(open_store(self.run(storage).folder())))

    def await_shards(self, storage: str, count: int, process: BaseProcess | None = None) -> None:
        """Return as soon as so many shards are committed; fail when that does not happen, or the process ends first."""
        for _ in range(60_000):
            if len(self.done(storage)) >= count:
                return
            assert process is None or process.is_alive(), "the worker ended before its time"
            time.sleep(0.01)
        raise TimeoutError(f"only {len(self.done(storage))} of {count} shards were committed")


def give_calibration(patch: pytest.MonkeyPatch) -> None:
    """Give the tiny model a calibration, and spare gate G2 the fresh process: both have tests of their own."""
    calibrated(patch)
    patch.setattr(steps, "fresh_hash", lambda _run: None)


def registered(folder: Path) -> Tiny:
    """Register a study and bring it before its first cell."""
    tiny = Tiny(folder / "tiny.json", folder / "records", folder / "cache")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        give_calibration(patch)
        assert cli.main(["register", *TINY, f"out={tiny.file}"]) == 0
        run = tiny.run(str(tiny.records))
        steps.begin.fn(run)
        steps.probe.fn(run)
    return tiny


def conducted(tiny: Tiny, storage: str, tracking: str | None = None) -> str:
    """Run a study from wherever it stands to its end, in this process; return its root hash."""
    with pytest.MonkeyPatch.context() as patch:
        give_calibration(patch)
        return conduct(tiny.run(storage, tracking))


def seen(api: str, tiny: Tiny, storage: str) -> str:
    """Run a study as a flow run that the Prefect server at `api` sees; return its root hash."""
    server = {PREFECT_API_URL: api, PREFECT_CLIENT_MAX_RETRIES: 1}
    with pytest.MonkeyPatch.context() as patch, temporary_settings(server):
        give_calibration(patch)
        return served(tiny.run(storage))


def commanded(tiny: Tiny, storage: str) -> str:
    """Run a study by the command line; return its exit code and its last words."""
    with pytest.MonkeyPatch.context() as patch, redirect_stderr(io.StringIO()) as said:
        give_calibration(patch)
        patch.setattr(fresh, "begin", lambda *_words: None)
        patch.setenv("NEUROMOD_CACHE", str(tiny.cache))
        code = cli.main(["run", f"registration={tiny.file}", f"storage.root={storage}", "tracking=none"])
    return f"{code} {said.getvalue().strip().splitlines()[-1]}"


def jumping(tiny: Tiny, storage: str) -> str:
    """Run a study while the clock jumps by years, back and forth, each time it is read; return its root hash."""
    real, reads = time.time, 0

    def jumps() -> float:
        nonlocal reads
        reads += 1
        return real() + (-1) ** reads * 1e8 * (reads % 7)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(time, "time", jumps)
        root = conducted(tiny, storage)
    assert reads, "nobody read the clock: nothing was tried"
    return root


How = Callable[[Tiny, str], str]


def _work(how: How, tiny: Tiny, storage: str, says: Path) -> None:
    """Run a study as a worker does, and say how it ended."""
    try:
        root = how(tiny, storage)
    except NeuromodError as error:
        says.write_text(f"{type(error).__name__}: {error}", "utf-8")
        sys.exit(2)
    says.write_text(root, "utf-8")


def worker(tiny: Tiny, storage: str, says: Path, how: How = conducted) -> BaseProcess:
    """Start a worker; when it ends by itself, its last words are in the file `says`."""
    process = FORKS.Process(target=_work, args=(how, tiny, storage, says))
    process.start()
    return process


def ended(process: BaseProcess, says: Path) -> tuple[int | None, str]:
    """Return how a worker ended, and its last words."""
    process.join(900)
    return process.exitcode, says.read_text("utf-8") if says.exists() else ""


library(str(ROOT))  # read once, by the server process from which workers are forked
