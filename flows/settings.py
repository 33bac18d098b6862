"""Configuration: Hydra composes the folder `conf`, and the result is checked against one frozen record, strictly."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Literal

from hydra import compose, initialize_config_dir
from hydra._internal.core_plugins.basic_sweeper import BasicSweeper
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.errors import HydraException, MissingConfigException
from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from neuromod_core.kernel.errors import ConfigError
from neuromod_core.kernel.register import unknown
from neuromod_core.models import ModelSpec
from neuromod_core.trial.config import StudyConfig
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


class Model(Group):
    """Group `model`."""

    name: str
    source: str
    path: str | None
    revision: str | None
    sha256: str | None
    dtype: str


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
    order: Literal["williams", "cyclic"]


class Instruments(Group):
    """Group `instruments`."""

    scales: list[str]
    primary_scale: str
    foil_items: int
    story_tokens: int


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


class Settings(Group):
    """Everything `conf` composes to."""

    study: Naming
    model: Model
    packs: Packs
    design: Design
    instruments: Instruments
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
            **self.design.model_dump(),
            **self.analysis.model_dump(),
        )

    def places(self, cache: Path) -> Places:
        """Return the folders and addresses these settings name."""
        root = Path(self.storage.root)
        uri = self.tracking.uri or f"sqlite:///{root.absolute()}/mlflow.db"
        return places_here(self.storage.root, uri if self.tracking.enabled else None, cache=cache)


def default_cache() -> Path:
    """Return the folder of converted models and calibrations of this user."""
    return Path.home() / ".cache" / "neuromod"


def places_here(runs: str, tracking: str | None, *, cache: Path | None = None) -> Places:
    """Return the places of this checkout, with storage at `runs` (relative to the working folder)."""
    return Places(
        project=str(PROJECT),
        cache=str(cache or default_cache()),
        runs=str(Path(runs).absolute()),
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
    try:
        parsed = OverridesParser.create().parse_overrides(list(overrides))
        (batch,) = BasicSweeper.split_arguments(parsed, max_batch_size=None)
    except HydraException as error:
        raise ConfigError(f"Sweep: {' '.join(str(error).split())}") from None
    return [list(job) for job in batch]
