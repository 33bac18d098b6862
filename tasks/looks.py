"""Looking at runs without changing them: what was found, what it would cost, what this machine is."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import pandas as pd

from neuromod_core.kernel.errors import ConfigError, IntegrityError
from neuromod_core.models.loading import best_dtype, convert_embedded
from neuromod_core.packs import Pack
from neuromod_core.report.build import build
from neuromod_core.report.findings import findings
from neuromod_core.report.page import render
from neuromod_core.store import open_store
from neuromod_core.store.compact import read_manifest
from neuromod_core.store.files import read_file
from neuromod_core.trial.archive import Archive, frame
from neuromod_core.trial.config import StudyConfig
from neuromod_core.trial.library import Library
from neuromod_core.trial.verify import verify
from tasks.lab import Places, Run, engine, library

Row = Mapping[str, object]
BARRING = ("G1", "G2", "G5")  # gates without which a study has no result at all


def _table(archive: Archive, name: str) -> pd.DataFrame:
    file = read_manifest(archive.store).files[name]
    return frame(read_file(archive.store, f"dataset/{name}.parquet", name=name, file=file))


def summary(run: Run) -> list[str]:
    """Return what a closed study found, in sentences."""
    return findings(build(run.archive()))


def failed_gates(run: Run) -> list[str]:
    """Return the failed gates that leave a study without a result, as text."""
    gates = _table(run.archive(), "gates")
    failed = gates[(gates["state"] == "failed") & gates["code"].isin(BARRING)]
    return [f"{row['code']} {row['title']}" for row in failed.to_dict("records")]


def point_latest(run: Run) -> None:
    """Make `latest` in the storage root name this run."""
    link = Path(run.places.runs) / "latest"
    link.unlink(missing_ok=True)
    link.symlink_to(Path(run.folder()).name)


def verified(folder: Path, places: Places) -> str:
    """Verify a closed study and its report; return the root hash."""
    archive = Archive(open_store(str(folder)))
    root = verify(archive).root
    published = folder / "report.html"
    if published.is_file():
        page = render(build(archive), Path(places.project) / "analysis" / "templates")
        if page.encode() != published.read_bytes():
            raise IntegrityError(f"{published} does not follow from the data it reports.")
    return root


def allocation(folder: Path) -> list[Row]:
    """Return what each cell code stands for, once the ledger permits it."""
    registration = Archive(open_store(str(folder))).unblind()
    return [{"cell": item.cell_code, "arm": item.arm, "member": item.member} for item in registration.allocation]


def _cells(config: StudyConfig, packs: list[Pack]) -> int:
    per_unit = 0
    for pack in packs:
        if pack.role == "P1":
            per_unit += min(config.sham_per_unit, pack.members)
        elif pack.role == "P2":
            per_unit += sum(1 for other in packs if other.target_scale is not None)
        else:
            per_unit += 1
    return per_unit * config.units


def cost(config: StudyConfig, texts: Library, done: int) -> list[Row]:
    """Return the size of a study before it is run: cells, shards, and about how many tokens the model will read."""
    packs = [texts.pack(name) for name in config.arms]
    cells, full = _cells(config, packs), len(packs) * config.units
    scales = texts.administered(config.scales, config.primary_scale, config.foil_items)
    items = sum(len(scale.items) for scale in scales)
    sentence, context = 11, 90  # tokens, of a typical sentence and prompt
    read = cells * (2 * items * sentence + context) + full * (80 + config.story_tokens + context)
    shards = -(-config.units // config.units_per_shard)
    values = {
        "study": config.name,
        "arms": len(packs),
        "units": config.units,
        "cells": cells,
        "shards": shards,
        "shards done": done,
        "model tokens (about)": read,
        "rows of responses": cells * items,
        "minutes at 500 tokens/s": f"{read / 500 / 60:.1f}",
    }
    return [{"what": key, "value": value} for key, value in values.items()]


def doctor(places: Places) -> list[Row]:
    """Return what this machine offers; prepares the embedded model and reads every text, so that errors show here."""
    texts = library(places.project)
    facts: dict[str, object] = {
        "packs": len(texts.packs),
        "scales": ", ".join(texts.scales),
        "embedded model": str(convert_embedded(Path(places.cache) / "models")),
        "best number format": str(best_dtype()).removeprefix("torch."),
        **engine(places.project),
        "storage": _storage(places),
    }
    return [{"what": key, "value": value} for key, value in facts.items()]


def _storage(places: Places) -> str:
    """Return whether the storage root keeps the one promise everything rests on: a key is created once."""
    store = open_store(places.runs)
    first, second = store.put_new("doctor/probe", b"probe"), store.put_new("doctor/probe", b"other")
    if second or store.get("doctor/probe") != b"probe":
        raise ConfigError(f"The store at {places.runs} overwrites existing keys; a study cannot be kept there.")
    return f"{places.runs} creates keys once ({'new' if first else 'kept'} probe)"
