"""Gates: what must hold before a claim. Each is run and recorded; a failed gate bars every claim of the study.

G1 the inert placebo is bitwise the baseline.  G2 leaving the engine leaves no trace.  G3 the order is balanced.
G4 enough readings are valid.  G5 an instructed state moves its own scale (before registration).  G6 the assay: the
known-active arm moves its scale, reverses with its sign, and beats at least 95 % of the shams.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd

from neuromod_core.design import balance
from neuromod_core.effects import Stream
from neuromod_core.engine import Row, dosed, generate, score
from neuromod_core.kernel.rng import rng
from neuromod_core.models import LoadedModel
from neuromod_core.packs import Pack
from neuromod_core.stats import constant_by_construction, sign_flip
from neuromod_core.trial.administer import Room, Seat, administer, pack_of
from neuromod_core.trial.analysis import shams_of, shift_of
from neuromod_core.trial.control import UNDOSED
from neuromod_core.trial.plan import Arm, Assignment, Cell, Plan, Registration

PROBE_TOKENS = 12
BEATEN = 0.95


@dataclass(frozen=True)
class Gate:
    """One row of `gates`. state: passed, failed, or not run."""

    code: str
    title: str
    state: str
    evidence: str


def _state(passed: bool) -> str:
    return "passed" if passed else "failed"


def _probe(room: Room, plan: Plan, pack: Pack) -> tuple[object, object]:
    """Return everything a unit gives under a pack: all responses with a short story, as rows."""
    seats = [
        Seat(Cell(unit.unit_id, unit.unit_id, 0, 0, slot, 0, "full"), unit, pack)
        for slot, unit in enumerate(plan.units[:1])
    ]
    return administer(replace(room, scales=room.scales[:1], story_tokens=PROBE_TOKENS), seats)


def inert_gate(room: Room, plan: Plan, placebo: Pack) -> Gate:
    """Return G1: the battery under the inert placebo, its machinery on, equals the baseline bit for bit."""
    equal = _probe(room, plan, UNDOSED) == _probe(room, plan, placebo)
    evidence = f"all readings and tokens of a unit under {placebo.name!r} ({len(placebo.effects)} effects at dose 0) "
    return Gate("G1", "inert placebo equals baseline", _state(equal), evidence + ("are equal" if equal else "DIFFER"))


def _weights(model: LoadedModel) -> str:
    state = hashlib.sha256()
    for name, value in sorted(model.network.state_dict().items()):
        state.update(name.encode() + value.detach().cpu().contiguous().view(-1).numpy().tobytes())
    return state.hexdigest()


def reset_gate(room: Room, registration: Registration) -> Gate:
    """Return G2: after every arm has run, and the engine was entered and left again, all is as before (A/B/A)."""
    plan, model = registration.plan, room.prompter.model
    units = plan.units[:1]
    rows = [Row(room.prompter.statement_prompt(unit, None), UNDOSED, Stream(0, unit.unit_id)) for unit in units]
    texts = room.prompter.statements(room.scales[:1])[:6]
    before = (_weights(model), score(room.session, rows, texts, room.subject))
    packs = [pack_of(plan, Assignment("", arm.name, arm.members[0])) for arm in plan.arms if arm.members]
    dosed_rows = [replace(rows[0], pack=pack) for pack in packs]
    with dosed(model, room.session.path) as inner:
        score(inner, dosed_rows, texts, room.subject)
        generate(inner, dosed_rows, room.subject, tokens=4)
    after = (_weights(model), score(room.session, rows, texts, room.subject))
    return Gate(
        "G2",
        "reset leaves no trace",
        _state(before == after),
        f"weights and {len(texts)} likelihoods before and after {len(packs)} dosed arms "
        + ("are bitwise equal" if before == after else "DIFFER"),
    )


def balance_gate(registration: Registration) -> Gate:
    """Return G3: every unit has every arm, periods and first-order carry-over are balanced."""
    plan, arm_of = registration.plan, {item.cell_code: item.arm for item in registration.allocation}
    cells = [cell for cell in plan.cells if cell.battery == "full"]
    audit = balance(
        [cell.unit_id for cell in cells],
        [arm_of[cell.cell_code] for cell in cells],
        periods=[cell.period for cell in cells],
        nuisance={
            "wording": [str(plan.unit(cell.unit_id).paraphrase) for cell in cells],
            "option order": [plan.unit(cell.unit_id).option_order for cell in cells],
        },
    )
    return Gate("G3", "order is balanced", _state(audit.ok), str(audit))


def validity_gate(plan: Plan, responses: pd.DataFrame) -> Gate:
    """Return G4: at least 95 % of raw statement readings are finite."""
    rows = responses[responses["reading"] == "statement"]
    finite = np.isfinite(rows["keyed_ll"]) & np.isfinite(rows["antonym_ll"])
    share = float(finite.mean())
    return Gate(
        "G4", "readings are valid", _state(share >= BEATEN), f"{share:.1%} of {len(rows)} raw readings are finite"
    )


def control_gate(plan: Plan) -> Gate:
    """Return G5: some reading passed its positive control on the primary scale."""
    found = "; ".join(
        f"{control.reading} on {control.scale}: "
        + (f"g_z = {control.g_z:.2f}, p = {control.pvalue:.3g}" if control.g_z is not None else control.note)
        + f" ({'passed' if control.passed else 'failed'})"
        for control in plan.controls
    )
    return Gate("G5", "an instructed state moves its own scale", _state(plan.primary_reading is not None), found)


def _moves(plan: Plan, scores: pd.DataFrame, arm: Arm) -> tuple[bool, str]:
    shift = shift_of(plan, scores, arm, str(arm.target_scale)) * float(arm.predicted_sign or 0)
    if np.isnan(shift).any() or constant_by_construction(shift):
        return False, f"{arm.name} does not move {arm.target_scale} at all"
    test = sign_flip(shift, alternative="greater", draws=plan.draws, generator=rng(plan.seed, "assay", arm.name))
    signed = test.estimate * float(arm.predicted_sign or 0)
    return (
        test.pvalue < plan.alpha,
        f"{arm.name} shifts {arm.target_scale} by {signed:+.2f} nats (p = {test.pvalue:.2g})",
    )


def assay_gate(plan: Plan, scores: pd.DataFrame) -> Gate:
    """Return G6: the known-active arm moves its scale, reverses with its sign, and beats at least 95 % of the shams."""
    title = "assay: the known-active arm is seen"
    arms = {arm.predicted_sign: arm for arm in plan.arms if arm.role == "assay"}
    shams = shams_of(plan, scores)
    if set(arms) != {1, -1} or shams.empty:
        return Gate("G6", title, "not run", "needs a known-active arm of each sign and a sham ensemble")
    outcomes = [_moves(plan, scores, arm) for arm in arms.values()]
    active = float(shift_of(plan, scores, arms[1], str(arms[1].target_scale)).mean())
    beaten = float((shams["shift"] < active).mean())
    passed = all(moved for moved, _ in outcomes) and beaten >= BEATEN
    said = "; ".join(text for _, text in outcomes)
    return Gate(
        "G6", title, _state(passed), f"{said}; specificity {active:+.2f} beats {beaten:.0%} of {len(shams)} shams"
    )


def after_unblinding(registration: Registration, responses: pd.DataFrame, scores: pd.DataFrame) -> list[Gate]:
    """Return the gates that are derived from plan and data: G3 to G6."""
    plan = registration.plan
    return [balance_gate(registration), validity_gate(plan, responses), control_gate(plan), assay_gate(plan, scores)]


def before_first_cell(room: Room, registration: Registration, placebo: Pack) -> Sequence[Gate]:
    """Return the gates that are run on the model before the first cell: G1 and G2."""
    return [inert_gate(room, registration.plan, placebo), reset_gate(room, registration)]
