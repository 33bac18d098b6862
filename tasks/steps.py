"""The steps of a study, one task each. A task is one call of the core with a retry policy; it decides nothing.

Parameters are small and say nothing of arms, so that what a scheduler records about a task keeps the blind. What is
heavy (weights, calibration) is loaded once per process.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path
from typing import ParamSpec, TypeVar

from prefect import task
from prefect.cache_policies import NO_CACHE
from prefect.client.schemas.objects import State, TaskRun
from prefect.tasks import Task

from neuromod_core.calibrate import Calibration
from neuromod_core.effects import Subject
from neuromod_core.kernel.errors import CalibrationError, ConfigError, IntegrityError, ModelError, StorageUnavailable
from neuromod_core.models import LoadedModel
from neuromod_core.packs import Pack, parse_pack
from neuromod_core.store import LocalStore
from neuromod_core.store.selftest import refuse_overwriting
from neuromod_core.trial.administer import ticks_of
from neuromod_core.trial.archive import PLAN
from neuromod_core.trial.close import close, dry_run, judge, record_data, record_gates
from neuromod_core.trial.config import StudyConfig
from neuromod_core.trial.control import positive_control
from neuromod_core.trial.executed import ran
from neuromod_core.trial.gates import before_first_cell
from neuromod_core.trial.plan import Plan
from neuromod_core.trial.planfile import plan_yaml
from neuromod_core.trial.register import (
    ENTROPY_TEXTS,
    Readiness,
    given,
    kl_factors,
    matched_doses,
    predicted,
    register,
)
from neuromod_core.trial.roles import Allocator
from neuromod_core.trial.room import Room
from neuromod_core.trial.sitting import rows_of
from neuromod_core.trial.stopping import not_run
from neuromod_core.trial.verify import verify
from tasks import progress, shards
from tasks.bench import before, bench, with_panel
from tasks.fresh import fresh_hash
from tasks.lab import (
    Places,
    Run,
    calibration,
    code_commit,
    library,
    model,
    process,
    room,
    runner,
    spec_of,
    units,
)
from tasks.provenance import engine

PLACEBO = "placebo"  # the pack of gate G1
OWNER_ONLY = 0o600  # a registration file holds the allocation
P = ParamSpec("P")
R = TypeVar("R")


def _transient(_task: Task[..., object], _run: TaskRun, state: State[object]) -> bool:
    """Return whether a failure may pass by itself: only an unreachable store may."""
    return isinstance(state.result(raise_on_failure=False), StorageUnavailable)


def step(name: str) -> Callable[[Callable[P, R]], Task[P, R]]:
    """Return a decorator that makes a task of a function: retried only when its store did not answer, never cached."""

    decorate: Callable[[Callable[P, R]], Task[P, R]] = task(
        name=name, retries=2, retry_delay_seconds=5, retry_condition_fn=_transient, cache_policy=NO_CACHE
    )
    return decorate


def packs_of(plan: Plan) -> tuple[Pack, ...]:
    """Return the packs of a plan's arms."""
    return tuple(parse_pack(arm.pack, f"arm {arm.name}") for arm in plan.arms)


@lru_cache(maxsize=1)
def opened(run: Run) -> Calibration:
    """Load a run's model and calibration, once per process; raise when they are not the ones registered."""
    plan = run.registration().plan
    progress.stage("loading the model and its calibration")
    loaded = model(spec_of(plan), run.places.cache)
    if loaded.fingerprint != plan.model_fingerprint:
        raise ModelError(f"Model {plan.model!r} is not the one registered ({plan.model_fingerprint[:12]}).")
    if (texts := dict(library(run.places.project).fingerprints())) != plan.texts:
        changed = ", ".join(sorted(key for key in plan.texts if texts.get(key) != plan.texts[key])) or "a new text"
        raise IntegrityError(f"The texts are not the registered ones: {changed} changed since registration.")
    found = calibration(loaded, packs_of(plan), run.places)
    if found.refused == plan.unvalidated:
        found = found.admitting()
    if found.fingerprint != plan.calibration:
        raise CalibrationError(
            f"Calibrating {plan.model!r} gave {found.fingerprint[:12]}; registered was {plan.calibration[:12]}."
        )
    return found


@contextmanager
def opened_room(run: Run) -> Iterator[Room]:
    """Open the room of a registered run."""
    plan, found = run.registration().plan, opened(run)
    with room(plan, model(spec_of(plan), run.places.cache), found, library(run.places.project)) as open_room:
        yield open_room


def write_new(path: Path, data: bytes) -> Path:
    """Write a file that must not exist yet, complete or not at all."""
    store = LocalStore(path.absolute().parent)
    if not store.put_new(path.name, data):
        raise ConfigError(f"{path} exists already; a registration is never overwritten.")
    return path


def _texts(loaded: LoadedModel, neutral: tuple[str, ...]) -> list[tuple[int, ...]]:
    return [tuple(loaded.tokenizer(text, add_special_tokens=False)["input_ids"]) for text in neutral[:ENTROPY_TEXTS]]


def controlled(config: StudyConfig, packs: tuple[Pack, ...]) -> frozenset[str]:
    """Return the scales that need a positive control: the primary one, and those that an arm is predicted to move."""
    return frozenset({config.primary_scale} | {pack.target_scale for pack in packs if pack.target_scale is not None})


def refuse_unfit(pack: Pack, subject: Subject) -> None:
    """Raise, naming the pack, when one of its effects means nothing on a model or asks for what was not calibrated."""
    try:
        pack.check(subject)
    except (CalibrationError, ModelError) as error:
        raise type(error)(f"Pack {pack.name!r} cannot be given to {subject.name}: {error}") from None


@step("ready")
def ready(config: StudyConfig, places: Places) -> Readiness:
    """Calibrate, match entropies and run the positive control: all that a plan must know before it is frozen."""
    texts = library(places.project)
    config.check(texts)
    with_panel(config, places)  # public data that the study needs are missed before anything is loaded
    progress.stage("loading the model")
    loaded = model(config.model, places.cache)
    progress.stage("calibration")
    packs = tuple(texts.pack(name) for name in config.arms)
    found = calibration(loaded, packs, places)
    if config.allow_unvalidated:
        found = found.admitting()
    for pack in (*packs, texts.pack(PLACEBO)):  # before minutes are spent on what cannot be administered
        refuse_unfit(pack, found.subject)
    with room(config, loaded, found, texts) as open_room:
        factors = kl_factors(packs, units(open_room.session, found, places))
        progress.say("entropy placebo")
        neutral = _texts(loaded, texts.neutral())
        matched = predicted(config, texts) if any(pack.match for pack in packs) else []
        dosed = [given(pack, factors, config.dose) for pack in matched]
        doses = matched_doses(open_room.session, found.subject, dosed, texts=neutral)
        progress.stage("positive control")
        controls = positive_control(open_room, texts, controlled(config, packs), pilots=config.pilot_units)
    return Readiness(found.fingerprint, factors, doses, controls, found.refused)


@step("register")
def make_registration(config: StudyConfig, places: Places, readiness: Readiness, file: str) -> Path:
    """Freeze the plan, draw the codes and the key, and write the registration to `file`, which must not exist."""
    texts = library(places.project)
    loaded, code = model(config.model, places.cache), code_commit(places.project)
    config = with_panel(config, places)
    registration = register(config, texts, loaded, readiness, secrets.token_bytes, code=code)
    write_new(Path(file).with_suffix(".plan.yaml"), plan_yaml(registration.public).encode())
    written = write_new(Path(file), registration.dump())
    written.chmod(OWNER_ONLY)
    return written


@step("publish and calibrate")
def begin(run: Run) -> None:
    """Record the registration, and check that model and calibration are the ones it names."""
    registration, archive = run.registration(), run.archive()
    if not archive.store.holds(PLAN):
        refuse_overwriting(run.places.runs, secrets.token_hex(8))
    archive.publish(registration)
    opened(run)


@step("gates before the first cell")
def probe(run: Run) -> None:
    """Run the gates that need the model: inert placebo, reset."""
    registration = run.registration()
    progress.stage("gates: inert placebo, reset")
    with opened_room(run) as open_room:
        placebo = library(run.places.project).pack(PLACEBO)
        fresh = fresh_hash(run) if open_room.session.model.device.type == "cpu" else None  # a GPU may not hold two
        record_gates(run.archive(), before_first_cell(open_room, registration, placebo, fresh))


@step("missing shards")
def missing(run: Run) -> list[int]:
    """Return the shards that are not committed yet: to run is to resume."""
    plan, left = run.registration().plan, shards.missing(run)
    progress.stage("cells", ticks_of(plan, range(plan.shards)))
    progress.tick(ticks_of(plan, set(range(plan.shards)) - set(left)))
    return left


@step("shard")
def shard(run: Run, number: int) -> None:
    """Administer one shard and commit its rows; where a safety look comes before it, first what the look needs."""
    for earlier in before(run, number):
        shard.fn(run, earlier)
    registration, seats, archive = run.registration(), runner(run.file).seats(number), run.archive()
    began = ran(seats, index=len(archive.store.keys("commits/")), process=process())
    reasons = not_run(archive, registration, number)
    with opened_room(run) as open_room:
        rows = dict(rows_of(open_room, bench(run), seats, reasons, progress.tick))
        provenance = {**engine(run.places.project), "path": open_room.session.path, "executed": began}
    responses, generations = rows.pop("responses"), rows.pop("generations")
    archive.commit_shard(
        registration, number, responses=responses, generations=generations, provenance=provenance, further=rows
    )


@step("dummy-label dry run")
def rehearse(run: Run) -> None:
    """Fix the data in the ledger and run the whole analysis on dummy labels."""
    registration = run.registration()
    progress.stage("dry run on dummy labels")
    record_data(run.archive(), registration)
    dry_run(run.archive(), registration)


@step("unblind")
def unblind(run: Run) -> None:
    """Open the allocation, if the ledger permits it."""
    progress.stage("unblinding")
    Allocator(run.registration()).unblinder(run.archive(), code_commit(run.places.project)).open()


@step("statistics")
def conclude(run: Run) -> str:
    """Derive scores, gates and verdicts, close the dataset, and return its root hash."""
    progress.stage("statistics")
    archive = run.archive()
    registration = archive.registration()
    return close(archive, registration, judge(archive, registration)).root


@step("report")
def report(run: Run) -> str:
    """Write the report and its pictures beside the records; return the report's address."""
    from tasks.reporting import publish  # with its pictures: they take a second to load

    progress.stage("report")
    return publish(run.folder(), run.places.project)


@step("track")
def track(run: Run) -> str | None:
    """Record the closed study in MLflow; without a tracking address, or when it cannot be reached, say so and go on."""
    if run.places.tracking is None:
        return None
    from tasks.tracking import recorded  # MLflow is loaded by those who use it

    progress.stage("MLflow")
    try:
        return recorded(run.folder(), run.places)
    except StorageUnavailable as error:
        progress.say(f"MLflow: not recorded ({error})")
        return None


@step("verify")
def check(run: Run) -> str:
    """Derive every published number again and return the root hash."""
    return verify(run.archive()).root
