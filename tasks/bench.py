"""What the panel of a study needs, loaded once per process: its texts, from the project and from public data."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import lru_cache
from pathlib import Path

from neuromod_core.trial.bank import check, deal, load_bank, registered
from neuromod_core.trial.config import StudyConfig
from neuromod_core.trial.examine import Bench
from neuromod_core.trial.stopping import unseen
from tasks.lab import Places, Run

DATA = "data"  # folder of public data in the cache


def data_folder(cache: str) -> Path:
    """Return the folder of public data of this user."""
    return Path(cache) / DATA


def with_panel(config: StudyConfig, places: Places) -> StudyConfig:
    """Return a study whose panel says which texts it uses, and which public data are not here, as a plan freezes it.

    Raises:
        ConfigError: when the study requires public data that are not here.
    """
    if not config.panel:
        return config
    bank = load_bank(Path(places.project), data_folder(places.cache), config.panel, config.units)
    return replace(config, panel=registered(config.panel, bank))


@lru_cache(maxsize=1)
def bench(run: Run) -> Bench | None:
    """Return what the panel of a registered run needs; None when the study has none.

    Raises:
        IntegrityError: when the texts are not the registered ones.
    """
    plan = run.registration().plan
    if not plan.panel:
        return None
    bank = load_bank(Path(run.places.project), data_folder(run.places.cache), plan.panel, len(plan.units))
    check(plan.panel, bank)
    asked = deal(plan.panel, bank, [unit.unit_id for unit in plan.units], plan.seed)
    return Bench(bank, asked, plan.panel.reply_tokens)


def before(run: Run, shard: int) -> Sequence[int]:
    """Return the shards that must be administered before this one: those that a safety look still waits for."""
    return unseen(run.archive(), run.registration(), shard)
