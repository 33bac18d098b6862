"""The process in which no arm ever ran: it says the same whether it is started early or late, and its end is told."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from flows.settings import places_here
from neuromod_core.engine import best_path, dosed
from neuromod_core.kernel.errors import IntegrityError
from neuromod_core.trial.gates import probe_hash
from neuromod_core.trial.library import Library
from neuromod_core.trial.plan import Registration
from neuromod_core.trial.prompts import Prompter
from neuromod_core.trial.room import Room
from tasks import fresh
from tasks.lab import Run, model, spec_of
from tests.conftest import subject_of

pytestmark = pytest.mark.platform


def test_started_early_or_late_it_reads_what_this_process_reads(
    tmp_path: Path, registration: Registration, library: Library
) -> None:
    file, plan = tmp_path / "study.json", registration.plan
    file.write_bytes(registration.dump())
    run = Run(str(file), places_here(str(tmp_path), None, cache=tmp_path))
    fresh.begin(run.file, run.places.project, run.places.cache)
    loaded = model(spec_of(plan), run.places.cache)
    with dosed(loaded, best_path(loaded)) as session:
        prompter = Prompter(loaded, library)
        room = Room(session, subject_of(loaded), prompter, (), plan.batch, plan.story_tokens, plan.seed)
        here = probe_hash(room, plan)
    assert fresh.fresh_hash(run) == here
    threads = torch.get_num_threads()
    fresh.begin(run.file, run.places.project, run.places.cache)  # with as many threads as this machine gives
    try:
        torch.set_num_threads(1 if threads > 1 else 2)
        assert len(fresh.fresh_hash(run)) == len(here)  # another number here: it is asked again
    finally:
        torch.set_num_threads(threads)


def test_one_that_does_not_finish_is_told_by_its_last_line(tmp_path: Path) -> None:
    run = Run(str(tmp_path / "nothing.json"), places_here(str(tmp_path), None, cache=tmp_path))
    with pytest.raises(IntegrityError, match=r"did not finish: FileNotFoundError.*nothing\.json"):
        fresh.fresh_hash(run)
