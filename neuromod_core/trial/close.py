"""From committed shards to a closed study: dry run on dummy labels, unblinding, verdicts, dataset, root hash."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass

import pandas as pd
import pyarrow as pa

from neuromod_core.kernel.rng import rng
from neuromod_core.kernel.types import Json, canonical, digest
from neuromod_core.store.compact import Manifest, compact
from neuromod_core.store.tables import table
from neuromod_core.trial.analysis import Verdict, analyse, licensed
from neuromod_core.trial.archive import DRY_RUN, Archive, frame
from neuromod_core.trial.gates import Gate, after_unblinding
from neuromod_core.trial.plan import Plan, Registration
from neuromod_core.trial.scoring import Label, Labels, neutral_of, scores_of


@dataclass(frozen=True, eq=False)
class Outcome:
    """A closed study: its tables, verdicts and gates."""

    scores: pd.DataFrame
    verdicts: tuple[Verdict, ...]
    gates: tuple[Gate, ...]


def dummy_labels(plan: Plan) -> Labels:
    """Return labels dealt at random within each unit, over cells of equal battery: no cell's true arm enters."""
    generator = rng(plan.seed, "dummy labels")
    by_cell: dict[str, Label] = {}
    for unit in plan.units:
        cells = sorted((cell for cell in plan.cells if cell.unit_id == unit.unit_id), key=lambda cell: cell.cell_code)
        full = [cell.cell_code for cell in cells if cell.battery == "full"]
        rest = [cell.cell_code for cell in cells if cell.battery != "full"]
        first = [(arm.name, arm.members[0]) for arm in plan.arms if arm.members]
        sham, noise = plan.arm("P1"), plan.arm("P2")
        others = [(noise.name, member) for member in noise.members[1:]] if noise else []
        draws = list(sham.members[1:]) if sham else []
        others += [
            (sham.name, draws[at]) for at in generator.permutation(len(draws))[: len(rest) - len(others)] if sham
        ]
        by_cell |= dict(zip(full, [first[at] for at in generator.permutation(len(first))], strict=True))
        by_cell |= dict(zip(rest, [others[at] for at in generator.permutation(len(others))], strict=True))
    return Labels(by_cell)


def record_data(archive: Archive, registration: Registration) -> None:
    """Enter the digest of all rows into the ledger: from here on the data are fixed."""
    archive.raw(registration, "responses")
    archive.enter("data", {"head": archive.data_head(registration), "shards": registration.plan.shards})


def dry_run(archive: Archive, registration: Registration) -> None:
    """Run the whole analysis on dummy labels and store it: it proves that the analysis runs blind."""
    plan, responses = registration.plan, archive.rows(registration, "responses")
    labels = dummy_labels(plan)
    verdicts = analyse(plan, scores_of(plan, responses, labels), neutral_of(plan, responses, labels))
    body = canonical([item.as_row() for item in verdicts])
    archive.put(DRY_RUN, body)
    archive.enter("dry run", {"sha256": digest(body), "hypotheses": len(verdicts)})


def _early_gates(archive: Archive) -> list[Gate]:
    """Return the gates recorded before the first cell."""
    recorded = archive.entry("gates")["gates"]
    if not isinstance(recorded, Sequence):
        return []
    return [Gate(*(str(value) for value in gate)) for gate in recorded if isinstance(gate, Sequence)]


def record_gates(archive: Archive, gates: Sequence[Gate]) -> None:
    """Enter gates that were run before the first cell into the ledger."""
    entries: list[Json] = [[gate.code, gate.title, gate.state, gate.evidence] for gate in gates]
    archive.enter("gates", {"gates": entries})


def judge(archive: Archive, registration: Registration) -> Outcome:
    """Return scores, gates and verdicts, derived from raw rows and the opened allocation alone."""
    plan, responses = registration.plan, archive.rows(registration, "responses")
    labels = Labels.real(registration.allocation)
    scores = scores_of(plan, responses, labels)
    gates = [*_early_gates(archive), *after_unblinding(registration, responses, scores)]
    states = {gate.code: gate.state for gate in gates}
    verdicts = licensed(plan, analyse(plan, scores, neutral_of(plan, responses, labels)), states)
    return Outcome(scores, tuple(verdicts), tuple(gates))


def _cell_rows(plan: Plan) -> list[Mapping[str, object]]:
    rows: list[Mapping[str, object]] = []
    for cell in plan.cells:
        unit = plan.unit(cell.unit_id)
        nuisance = {"vignette": unit.vignette, "paraphrase": unit.paraphrase, "option_order": unit.option_order}
        rows.append({**asdict(cell), **nuisance})
    return rows


def _score_rows(scores: pd.DataFrame) -> list[Mapping[str, object]]:
    rows = scores.astype(object).where(scores.notna(), None).to_dict("records")
    return [{str(key): value for key, value in row.items()} for row in rows]


def tables_of(archive: Archive, registration: Registration, outcome: Outcome) -> Mapping[str, pa.Table]:
    """Return the tables of the closed dataset."""
    return {
        "cells": table("cells", _cell_rows(registration.plan)),
        "responses": archive.raw(registration, "responses"),
        "generations": archive.raw(registration, "generations"),
        "scores": table("scores", _score_rows(outcome.scores)),
        "verdicts": table("verdicts", [item.as_row() for item in outcome.verdicts]),
        "gates": table("gates", [asdict(gate) for gate in outcome.gates]),
    }


def close(archive: Archive, registration: Registration, outcome: Outcome) -> Manifest:
    """Write the closed dataset and enter its root hash into the ledger."""
    manifest = compact(archive.store, tables_of(archive, registration, outcome))
    archive.enter("closed", {"root": manifest.root})
    return manifest


__all__ = ["Outcome", "close", "dry_run", "dummy_labels", "frame", "judge", "record_data", "record_gates", "tables_of"]
