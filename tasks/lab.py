"""Where a study is run: folders, and what a process loads once (texts, weights, calibration)."""

from __future__ import annotations

import os
import platform
import secrets
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import cache, lru_cache
from pathlib import Path

from neuromod_core.calibrate import Cache, Calibration, Request, calibrate
from neuromod_core.calibrate.dose import Matched
from neuromod_core.calibrate.units import units as kl_units_of
from neuromod_core.calibrate.vectors import DEFAULT, MEAN, Position
from neuromod_core.design import commit, new_key
from neuromod_core.engine import Session, best_path, dosed
from neuromod_core.engine.pages import keep_pages
from neuromod_core.kernel.types import digest
from neuromod_core.models import LoadedModel, ModelSpec, load
from neuromod_core.models.loading import expect
from neuromod_core.packs import Pack
from neuromod_core.store import LocalStore, folder_of, open_store
from neuromod_core.trial.archive import Archive
from neuromod_core.trial.config import StudyConfig
from neuromod_core.trial.library import Library, load_library
from neuromod_core.trial.plan import Outline, Plan, Registration, parse_registration
from neuromod_core.trial.prompts import Prompter
from neuromod_core.trial.register import Units
from neuromod_core.trial.roles import Allocator, Runner
from neuromod_core.trial.room import Room
from tasks import progress
from tasks.provenance import engine

KEY = "key"  # of the names of registration files


@dataclass(frozen=True)
class Places:
    """Folders and addresses: the project, the cache of models and calibrations, the storage root, MLflow (or None)."""

    project: str
    cache: str
    runs: str
    tracking: str | None

    @property
    def private(self) -> Path:
        """Folder of what never leaves this machine, registrations with their keys before all: the storage root where
        that is a folder, else `runs` in the working folder.
        """
        return folder_of(self.runs) or Path("runs").absolute()


@dataclass(frozen=True)
class Run:
    """One registered study and where it is run. `file` is the registration."""

    file: str
    places: Places

    def registration(self) -> Registration:
        """Return the registration."""
        return read_registration(self.file)

    def folder(self) -> str:
        """Return the folder or address of the run's records."""
        registration = self.registration()
        return f"{self.places.runs}/{registration.plan.study}-{registration.registration_id}"

    def archive(self) -> Archive:
        """Return the run's records."""
        return Archive(open_store(self.folder()))


@lru_cache(maxsize=4)
def read_registration(file: str) -> Registration:
    """Return the registration in a file, read once per process."""
    return parse_registration(Path(file).read_bytes(), file)


@lru_cache(maxsize=1)
def runner(file: str) -> Runner:
    """Return the runner of a registration: the packs of its cells, in this process's memory."""
    return Allocator(read_registration(file)).runner()


def has_key(folder: Path) -> bool:
    """Return whether registrations were made in this folder."""
    return (folder / KEY).is_file()


def keyed(folder: Path, content: bytes) -> str:
    """Return HMAC-SHA256(key of the folder, content); the key is drawn when there is none, and kept in the folder."""
    store = LocalStore(folder.absolute())
    if not store.holds(KEY):
        store.put_new(KEY, new_key(secrets.token_bytes))
        (folder / KEY).chmod(0o600)
    return commit(store.get(KEY), content)


def code_commit(project: str) -> str:
    """Return the commit of the code that runs, "unknown" where it is no checkout."""
    return str(engine(project)["commit"])


def process() -> str:
    """Return a name for this process that says nothing but whether two shards had the same one."""
    return digest([platform.node(), os.getpid()])[:12]


@cache
def library(project: str) -> Library:
    """Return the project's texts, read once per process."""
    return load_library(Path(project))


def model(spec: ModelSpec, folder: str) -> LoadedModel:
    """Return a model, loaded once per process, whatever digest is expected; the process then keeps its memory."""
    found = _model(replace(spec, sha256=None), folder)
    expect(spec, found.weights_sha256)
    return found


@lru_cache(maxsize=1)
def _model(spec: ModelSpec, folder: str) -> LoadedModel:
    keep_pages()
    return load(spec, Path(folder))


def spec_of(plan: Outline) -> ModelSpec:
    """Return what a plan says of its model, with the digest its weights must have."""
    source = plan.model_source
    return ModelSpec(
        name=plan.model,
        source=source["source"] or "",
        path=source["path"],
        revision=source["revision"],
        sha256=plan.weights_sha256 if source["source"] != "tiny" else None,
        dtype=source["dtype"] or "auto",
        device_map=source.get("device_map") or "auto",
    )


def kept(places: Places) -> Cache:
    """Return where calibrations are kept: this user's cache, and what ships with the project."""
    return Cache(Path(places.cache) / "calibration", Path(places.project) / "datasets" / "calibration")


def asked(
    places: Places,
    concepts: tuple[str, ...],
    lexicons: tuple[str, ...] = (),
    *,
    method: str = DEFAULT,
    position: Position = MEAN,
) -> Request:
    """Return what to calibrate, with the project's texts."""
    texts = library(places.project)
    return Request(concepts, lexicons, texts.contrast, texts.lexicon, texts.neutral(), method, position)


def calibration(loaded: LoadedModel, packs: tuple[Pack, ...], places: Places) -> Calibration:
    """Return what packs need of the model's calibration, from the cache where it is there."""
    return calibrate(loaded, asked(places, *Request.names(packs)), kept(places), tick=progress.say)


def units(session: Session, found: Calibration, places: Places) -> Units:
    """Return a function that gives the KL units of packs, from the cache where they are there."""

    def solve(packs: Sequence[Pack]) -> Sequence[Matched | None]:
        progress.stage("KL units of packs")
        return kl_units_of(
            session.model, lambda: session, packs, library(places.project).neutral(), found, kept(places)
        )

    return solve


@contextmanager
def room(plan: Plan | StudyConfig, loaded: LoadedModel, found: Calibration, texts: Library) -> Iterator[Room]:
    """Open the room in which cells of a study are administered; leaving it restores the model."""
    with dosed(loaded, best_path(loaded)) as session:
        yield Room(
            session=session,
            subject=found.subject,
            prompter=Prompter(loaded, texts),
            scales=texts.administered(plan.scales, plan.primary_scale, plan.foil_items),
            batch=plan.batch,
            story_tokens=plan.story_tokens,
            seed=plan.seed,
            unvalidated=bool(found.refused),
        )
