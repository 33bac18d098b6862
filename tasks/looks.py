"""Looking at runs without changing them: what was found, what it would cost, what this machine is."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import pandas as pd

from neuromod_core.design import sets
from neuromod_core.kernel.errors import IntegrityError
from neuromod_core.models.loading import best_dtype, convert_embedded
from neuromod_core.packs import Pack
from neuromod_core.report.build import build
from neuromod_core.report.findings import findings
from neuromod_core.report.page import render
from neuromod_core.store import open_store
from neuromod_core.store.compact import read_manifest
from neuromod_core.store.files import read_file
from neuromod_core.trial.amend import amend, parse_changes
from neuromod_core.trial.archive import Archive, frame
from neuromod_core.trial.config import StudyConfig, shared_arms
from neuromod_core.trial.library import Library
from neuromod_core.trial.plan import Registration
from neuromod_core.trial.verify import verify
from tasks.lab import Places, Run, code_commit, engine, library, read_registration

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


def verified(at: str, places: Places) -> str:
    """Verify a closed study, and its report where one lies beside the records; return the root hash."""
    archive = Archive(open_store(at))
    root = verify(archive).root
    if archive.store.holds("report.html"):
        page = render(build(archive), Path(places.project) / "analysis" / "templates")
        if page.encode() != archive.store.get("report.html"):
            raise IntegrityError(f"{at}/report.html does not follow from the data it reports.")
    return root


def allocation(at: str, file: str | None, places: Places) -> list[Row]:
    """Return what each cell code stands for, once the ledger permits it.

    file: the registration; not needed for a study that was unblinded before, nor where `registrations` beside the run
    holds it.
    """
    archive, code = Archive(open_store(at)), code_commit(places.project)
    found = read_registration(file) if file is not None else _kept(at, archive)
    registration = archive.unblind(found, code=code)
    return [{"cell": item.cell_code, "arm": item.arm, "member": item.member} for item in registration.allocation]


def _kept(at: str, archive: Archive) -> Registration | None:
    """Return the registration of a run from the files kept beside it, None where there is none."""
    wanted = archive.entry("registered")["plan"]
    for file in sorted((Path(at).parent / "registrations").glob("*.json")):
        kept = read_registration(str(file))
        if kept.public.fingerprint == wanted:
            return kept
    return None


def amended(at: str, reason: str, texts: Sequence[str], *, exploratory: bool) -> list[Row]:
    """Append an amendment to a run's ledger; return it with both plan hashes."""
    made = amend(Archive(open_store(at)), reason, parse_changes(texts), exploratory=exploratory)
    changes = {key: f"{value:g}" for key, value in made.changes.items()}
    values = {"kind": made.kind, "reason": made.reason, **changes, "plan": made.registered, "amended plan": made.plan}
    return [{"what": key, "value": value} for key, value in values.items()]


def _cells(config: StudyConfig, packs: list[Pack]) -> tuple[int, int]:
    """Return how many cells a study has, and how many of them with a full battery."""
    parts = sets(len(packs), shared_arms([pack.role for pack in packs]))
    per_unit = full = 0.0
    for place, pack in enumerate(packs):
        share = sum(place in part for part in parts) / len(parts)
        members = 1
        if pack.role == "P1":
            members = min(config.sham_per_unit, pack.members)
        elif pack.role == "P2":
            members = sum(1 for other in packs if other.target_scale is not None)
        per_unit, full = per_unit + share * members, full + share
    return round(per_unit * config.units), round(full * config.units)


def cost(config: StudyConfig, texts: Library, done: int) -> list[Row]:
    """Return the size of a study before it is run: cells, shards, and about how many tokens the model will read."""
    packs = [texts.pack(name) for name in config.arms]
    cells, full = _cells(config, packs)
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
    }
    return [{"what": key, "value": value} for key, value in facts.items()]
