"""Configuration: Hydra composes the folder `conf`, and the result is checked against one frozen record, strictly."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError

from neuromod_core.kernel.errors import ConfigError
from neuromod_core.kernel.register import unknown
from neuromod_core.store import folder_of

if TYPE_CHECKING:  # what is heavy is loaded by those who ask for it, so that `neuromod --help` answers at once
    from hydra.errors import MissingConfigException

    from neuromod_core.trial.config import StudyConfig
    from neuromod_core.trial.panel import Panel as SidePanel
    from tasks.lab import Places

PROJECT = Path(__file__).resolve().parents[1]


class Group(BaseModel):
    """One group of `conf`: every key is known, every value has its type."""

    model_config = ConfigDict(extra="forbid", strict=True, protected_namespaces=())


class Naming(Group):
    """Group `study`."""

    name: str = Field(pattern=r"^[A-Za-z0-9._-]+$")
    title: str
    question: str


def _as_text(value: object) -> object:
    """Return a map from module to device as JSON, anything else as it is."""
    return json.dumps(value, sort_keys=True) if isinstance(value, dict) else value


class Model(Group):
    """Group `model`."""

    name: str
    source: str
    path: str | None
    revision: str | None
    sha256: str | None
    dtype: str
    device_map: Annotated[str, BeforeValidator(_as_text)]


class Packs(Group):
    """Group `packs`."""

    arms: list[str]


class Design(Group):
    """Group `design`."""

    units: int
    seed: int
    sham_per_unit: int
    pilot_units: int
    units_per_shard: int
    option_units: int
    sampled_units: int
    order: Literal["williams", "cyclic"]


class Instruments(Group):
    """Group `instruments`."""

    scales: list[str]
    primary_scale: str
    foil_items: int
    story_tokens: int


class Stop(Group):
    """Entry `stop` of group `panel`."""

    endpoint: str
    bound: float
    alpha: float
    every: int


class Panel(Group):
    """Group `panel`."""

    requests: int
    xstest: int
    replies: int
    problems: int
    figures: int
    writing: int
    summaries: int
    associations: int
    grammar: int
    paragraphs: int
    telemetry_units: int
    reply_tokens: int
    required: bool
    stop: Stop | None

    def registered(self) -> SidePanel:
        """Return the panel as a study states it."""
        from neuromod_core.trial.panel import Panel as SidePanel
        from neuromod_core.trial.panel import StopRule

        stop = None if self.stop is None else StopRule(**self.stop.model_dump())
        return SidePanel(**{**self.model_dump(), "stop": stop})


class Analysis(Group):
    """Group `analysis`."""

    min_effect: float
    alpha: float
    draws: int
    resamples: int


class Storage(Group):
    """Group `storage`."""

    root: str


class Tracking(Group):
    """Group `tracking`."""

    enabled: bool
    uri: str | None


class Runtime(Group):
    """Group `runtime`."""

    kind: str = Field(pattern=r"^(inprocess|prefect)$")
    batch: int
    launcher: Literal["serial", "joblib", "submitit"]
    jobs: int = Field(ge=1)
    slurm: dict[str, str | int]


class Settings(Group):
    """Everything `conf` composes to."""

    study: Naming
    model: Model
    packs: Packs
    design: Design
    instruments: Instruments
    panel: Panel
    analysis: Analysis
    storage: Storage
    tracking: Tracking
    runtime: Runtime
    dose: float
    registration: str | None
    fresh: bool
    allow_unvalidated: bool

    def config(self) -> StudyConfig:
        """Return the study these settings describe."""
        from neuromod_core.models import ModelSpec
        from neuromod_core.trial.config import StudyConfig

        return StudyConfig(
            name=self.study.name,
            title=self.study.title,
            question=self.study.question,
            model=ModelSpec(**self.model.model_dump()),
            arms=tuple(self.packs.arms),
            scales=tuple(self.instruments.scales),
            primary_scale=self.instruments.primary_scale,
            foil_items=self.instruments.foil_items,
            story_tokens=self.instruments.story_tokens,
            batch=self.runtime.batch,
            dose=self.dose,
            allow_unvalidated=self.allow_unvalidated,
            panel=self.panel.registered(),
            **self.design.model_dump(),
            **self.analysis.model_dump(),
        )

    def places(self, cache: Path) -> Places:
        """Return the folders and addresses these settings name."""
        here = places_here(self.storage.root, None, cache=cache)
        uri = self.tracking.uri or f"sqlite:///{here.private}/mlflow.db"
        return replace(here, tracking=uri if self.tracking.enabled else None)


def default_cache() -> Path:
    """Return the folder of converted models and calibrations of this user."""
    return Path.home() / ".cache" / "neuromod"


def places_here(runs: str, tracking: str | None, *, cache: Path | None = None) -> Places:
    """Return the places of this checkout, with storage at `runs`: an address, or a folder (from the working folder)."""
    from tasks.lab import Places

    folder = folder_of(runs)
    return Places(
        project=str(PROJECT),
        cache=str(cache or default_cache()),
        runs=runs.rstrip("/") if folder is None else str(folder),
        tracking=tracking,
    )


def _where(error: ValidationError) -> str:
    first = error.errors(include_url=False)[0]
    place = ".".join(str(part) for part in first["loc"])
    return f"{place}: {first['msg'][0].lower()}{first['msg'][1:]}, given {first['input']!r}"


def _missing(error: MissingConfigException) -> ConfigError:
    """Return the error for a choice that a group does not have, with the nearest one."""
    group, _, choice = (error.missing_cfg_file or "").rpartition("/")
    known = {path.stem: path for path in (PROJECT / "conf" / group).glob("*.yaml")}
    return ConfigError(str(unknown(group or "configuration", choice, known, f"conf/{group}")))


def settings(overrides: Sequence[str]) -> Settings:
    """Return the settings that `conf` and these overrides compose to.

    Raises:
        ConfigError: one line, for an unknown group, choice or key, or a value of another type.
    """
    from hydra import compose, initialize_config_dir
    from hydra.errors import HydraException, MissingConfigException
    from omegaconf import OmegaConf
    from omegaconf.errors import OmegaConfBaseException

    try:
        with initialize_config_dir(config_dir=str(PROJECT / "conf"), version_base="1.3"):
            composed = compose("config", overrides=list(overrides))
        body = OmegaConf.to_container(composed, resolve=True)
        return Settings.model_validate(body)
    except MissingConfigException as error:
        raise _missing(error) from None
    except ValidationError as error:
        raise ConfigError(f"Configuration: {_where(error)}.") from None
    except (HydraException, OmegaConfBaseException) as error:
        raise ConfigError(f"Configuration: {' '.join(str(error).split())}") from None


def sweep(overrides: Sequence[str]) -> list[list[str]]:
    """Return the override lists of a Hydra sweep: the product of all comma lists, ranges and globs."""
    from hydra._internal.core_plugins.basic_sweeper import BasicSweeper
    from hydra.core.override_parser.overrides_parser import OverridesParser
    from hydra.errors import HydraException

    try:
        parsed = OverridesParser.create().parse_overrides(list(overrides))
        (batch,) = BasicSweeper.split_arguments(parsed, max_batch_size=None)
    except HydraException as error:
        raise ConfigError(f"Sweep: {' '.join(str(error).split())}") from None
    return [list(job) for job in batch]
