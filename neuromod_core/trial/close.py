"""From committed shards to a closed study: dry run on dummy labels, unblinding, verdicts, dataset, root hash."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass

import pandas as pd
import pyarrow as pa

from neuromod_core.design import sequence_numbers
from neuromod_core.kernel.types import Json, canonical, digest, plain
from neuromod_core.store.compact import Manifest, compact
from neuromod_core.store.tables import table
from neuromod_core.trial import robust
from neuromod_core.trial.analysis import Verdict, analyse, licensed
from neuromod_core.trial.archive import Archive, frame
from neuromod_core.trial.crossed import cross_verdicts
from neuromod_core.trial.executed import ORDER, carried, executed, order_table
from neuromod_core.trial.gates import Gate, after_unblinding
from neuromod_core.trial.harms import harm_verdicts
from neuromod_core.trial.leakage import Leakage, leakage
from neuromod_core.trial.plan import Plan, Registration
from neuromod_core.trial.roles import Allocator
from neuromod_core.trial.scoring import Labels, neutral_of, scores_of
from neuromod_core.trial.stopping import explained, ran


@dataclass(frozen=True, eq=False)
class Outcome:
    """A closed study: its tables, verdicts and gates."""

    scores: pd.DataFrame
    verdicts: tuple[Verdict, ...]
    gates: tuple[Gate, ...]


def record_data(archive: Archive, registration: Registration) -> None:
    """Enter the digest of all rows into the ledger: from here on the data are fixed."""
    archive.raw(registration, "responses")
    archive.enter("data", {"head": archive.data_head(registration), "shards": registration.plan.shards})


def dry_run(archive: Archive, registration: Registration) -> None:
    """Run the whole analysis blind and store it: arms are codes, dealt anew, so that it proves that it runs blind."""
    allocator = Allocator(registration)
    scorer = allocator.scorer(archive.rows(registration, "responses"))
    analyst = allocator.analyst(scorer, archive.effective(registration.plan))
    dummy = allocator.dummy()
    verdicts = analyst.verdicts(dummy) + harm_verdicts(analyst.plan.plan, archive.rows(registration, "panel"), dummy)
    body = canonical([item.as_row() for item in verdicts])
    archive.put(archive.dry_run_key(), body)
    archive.enter(archive.dry_run_entry(), {"sha256": digest(body), "hypotheses": len(verdicts)})


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


def judge(archive: Archive, registration: Registration, plan: Plan | None = None) -> Outcome:
    """Return scores, gates and verdicts, derived from raw rows and the opened allocation alone.

    plan: another analysis than the registered one with its amendments, for exploring.
    """
    plan = archive.effective(registration.plan) if plan is None else plan
    responses = archive.rows(registration, "responses")
    labels = Labels.real(registration.allocation)
    scores = explained(plan, scores_of(plan, responses, labels), responses, labels)
    late = after_unblinding(
        registration,
        plan=plan,
        ran=executed(archive, registration),
        responses=ran(responses),
        generations=archive.rows(registration, "generations"),
        scores=scores,
        amended=archive.amended(),
    )
    gates = [*_early_gates(archive), *late]
    states = {gate.code: gate.state for gate in gates}
    found = analyse(plan, scores, neutral_of(plan, responses, labels)) + cross_verdicts(plan, scores)
    verdicts = licensed(plan, found + harm_verdicts(plan, archive.rows(registration, "panel"), labels), states)
    return Outcome(scores, tuple(verdicts), tuple(gates))


FACTORS = ("vignette", "paraphrase", "item_wording", "option_order", "labels")


def _cell_rows(registration: Registration) -> list[Mapping[str, object]]:
    """Return the rows of `cells`; sequences, which would have told equal arms before, are numbered now."""
    plan, arm_of = registration.plan, {item.cell_code: item.arm for item in registration.allocation}
    orders: dict[str, list[str]] = {unit.unit_id: [] for unit in plan.units}
    for cell in sorted(plan.cells, key=lambda cell: cell.period):
        if cell.battery == "full":
            orders[cell.unit_id].append(arm_of[cell.cell_code])
    numbers = sequence_numbers([tuple(arms) for arms in orders.values()])
    sequence = dict(zip(orders, numbers, strict=True))
    rows: list[Mapping[str, object]] = []
    for cell in plan.cells:
        unit = plan.unit(cell.unit_id)
        nuisance = {name: getattr(unit, name) for name in FACTORS}
        rows.append({**asdict(cell), **nuisance, "sequence": sequence[cell.unit_id]})
    return rows


def order_of(archive: Archive, registration: Registration, outcome: Outcome) -> bytes:
    """Return `analysis/order.json`: the order as executed, audited over arms, with the carry-over diagnostic."""
    ran = executed(archive, registration)
    carried_over = carried(registration.plan, outcome.scores, ran)
    return canonical({**order_table(registration, ran), "carry_over": plain(carried_over), "said": str(carried_over)})


def _score_rows(scores: pd.DataFrame) -> list[Mapping[str, object]]:
    rows = scores.astype(object).where(scores.notna(), None).to_dict("records")
    return [{str(key): value for key, value in row.items()} for row in rows]


def tables_of(archive: Archive, registration: Registration, outcome: Outcome) -> Mapping[str, pa.Table]:
    """Return the tables of the closed dataset."""
    return {
        "cells": table("cells", _cell_rows(registration)),
        "responses": archive.raw(registration, "responses"),
        "generations": archive.raw(registration, "generations"),
        **{name: archive.raw(registration, name) for name in ("panel", "telemetry") if registration.plan.panel},
        "scores": table("scores", _score_rows(outcome.scores)),
        "verdicts": table("verdicts", [item.as_row() for item in outcome.verdicts]),
        "gates": table("gates", [asdict(gate) for gate in outcome.gates]),
        "leakage": table("leakage", [row.as_row() for row in _leakage(registration.plan, outcome)]),
    }


def _leakage(plan: Plan, outcome: Outcome) -> list[Leakage]:
    return leakage(outcome.scores, plan.baseline, [arm.name for arm in plan.arms], plan.scales)


def close(archive: Archive, registration: Registration, outcome: Outcome) -> Manifest:
    """Write the closed dataset, the audited order and the sensitivity analyses; enter the root hash into the ledger."""
    manifest = compact(archive.store, tables_of(archive, registration, outcome))
    archive.put(ORDER, order_of(archive, registration, outcome))
    others = robust.publish(archive, robust.sensitivity_of(archive, registration, outcome.scores))
    registered = registration.public.fingerprint
    hashes = {"root": manifest.root, "plan": registered, "amended": archive.amended() or registered}
    archive.enter("closed", {**hashes, "sensitivity": others})
    return manifest


__all__ = ["Outcome", "close", "dry_run", "frame", "judge", "order_of", "record_data", "record_gates", "tables_of"]
