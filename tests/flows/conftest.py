"""A whole small study on a tiny model: real registration, real cells, real statistics, seconds instead of minutes."""

from __future__ import annotations

import dataclasses
import secrets
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from neuromod_core.engine import dosed
from neuromod_core.models import LoadedModel, ModelSpec
from neuromod_core.store import MemoryStore
from neuromod_core.trial.administer import administer
from neuromod_core.trial.archive import Archive
from neuromod_core.trial.close import close, dry_run, judge, record_data, record_gates
from neuromod_core.trial.config import StudyConfig
from neuromod_core.trial.executed import ran
from neuromod_core.trial.gates import before_first_cell
from neuromod_core.trial.library import Library, load_library
from neuromod_core.trial.plan import Control, Registration
from neuromod_core.trial.prompts import Prompter
from neuromod_core.trial.register import Readiness, register
from neuromod_core.trial.roles import Allocator
from neuromod_core.trial.room import Room
from tests.conftest import ROOT, subject_of
from tests.flows.blind import Blind, run_blind

CONFIG = StudyConfig(
    name="tiny",
    title="A tiny study",
    question="Does everything hang together?",
    model=ModelSpec(name="tiny-llama", source="tiny", path="llama"),
    arms=("placebo", "sham_vectors", "entropy_temperature", "creative_plus", "creative_minus", "none"),
    scales=("pdq_s", "sdq"),
    primary_scale="pdq_s",
    units=6,
    foil_items=2,
    sham_per_unit=2,
    units_per_shard=2,
    option_units=2,
    sampled_units=1,
    story_tokens=4,
    draws=999,
    resamples=999,
)
READY = Readiness(
    calibration="none",
    factors={
        "sham_vectors": {f"{draw:02d}": 0.5 + draw / 48 for draw in range(24)},
        "creative_plus": {"": 0.8},
        "creative_minus": {"": 0.9},
    },
    doses={"creative_plus": 0.1, "creative_minus": 0.2},
    controls=(Control("statement", "pdq_s", 2.0, 0.01, 8, True, "given"),),
)


@pytest.fixture(scope="session")
def library() -> Library:
    whole = load_library(ROOT)
    short = {
        name: dataclasses.replace(scale, items=scale.items[:3], consistency=scale.items[0].id)
        for name, scale in whole.scales.items()
    }
    frames = dataclasses.replace(whole.frames, content_free=whole.frames.content_free[:1])
    return dataclasses.replace(whole, scales=short, frames=frames, checks=(whole.checks[0], whole.checks[-1]))


@pytest.fixture(scope="session")
def registration(library: Library, llama: LoadedModel) -> Registration:
    return register(CONFIG, library, llama, READY, secrets.token_bytes)


@pytest.fixture(scope="session")
def blind(tmp_path_factory: pytest.TempPathFactory) -> Blind:
    return run_blind(tmp_path_factory.mktemp("blind"))


@contextmanager
def open_room(registration: Registration, library: Library, model: LoadedModel) -> Iterator[Room]:
    plan = registration.plan
    with dosed(model) as session:
        yield Room(
            session=session,
            subject=subject_of(model),
            prompter=Prompter(model, library),
            scales=library.administered(plan.scales, plan.primary_scale, plan.foil_items),
            batch=plan.batch,
            story_tokens=plan.story_tokens,
            seed=plan.seed,
        )


def run_shard(archive: Archive, registration: Registration, room: Room, shard: int) -> None:
    seats = Allocator(registration).runner().seats(shard)
    began = ran(seats, index=len(archive.store.keys("commits/")), process="one")
    responses, generations = administer(room, seats)
    engine = {"cpu": "any", "lock": "any", "torch": "any", "transformers": "any", "executed": began}
    archive.commit_shard(registration, shard, responses=responses, generations=generations, provenance=engine)


def finish(archive: Archive, registration: Registration) -> str:
    record_data(archive, registration)
    dry_run(archive, registration)
    opened = archive.unblind(registration)
    return close(archive, opened, judge(archive, opened)).root


def run_study(registration: Registration, library: Library, model: LoadedModel, shards: list[int]) -> Archive:
    archive = Archive(MemoryStore())
    archive.publish(registration)
    with open_room(registration, library, model) as room:
        record_gates(archive, before_first_cell(room, registration, library.pack("placebo")))
        for shard in shards:
            run_shard(archive, registration, room, shard)
    finish(archive, registration)
    return archive


@pytest.fixture(scope="session")
def closed(registration: Registration, library: Library, llama: LoadedModel) -> Archive:
    return run_study(registration, library, llama, list(range(registration.plan.shards)))
