"""Gates: what must hold before a claim. Each is run and recorded; a failed gate bars every claim of the study.

G1 the inert placebo is bitwise the baseline.  G2 leaving the engine leaves no trace.  G3 the order is balanced, as
planned and as executed.  G4 enough readings are valid.  G5 an instructed state moves its own scale (before
registration).  G6 the assay: the known-active arm moves its scale, reverses with its sign, and beats at least 95 % of
the shams.  G7 plan, allocation and key are those committed to.  G8 metadata do not tell arms apart.

Evidence of G3 does not depend on scheduling: what does is tabulated in `analysis/order.json`.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd

from neuromod_core.calibrate.entropy import expressed_logits
from neuromod_core.effects import Stream
from neuromod_core.engine import Row, dosed, generate, score
from neuromod_core.kernel.errors import DataError
from neuromod_core.kernel.rng import rng
from neuromod_core.models import LoadedModel
from neuromod_core.packs import Pack
from neuromod_core.stats import constant_by_construction, sign_flip
from neuromod_core.trial.administer import administer, pack_of
from neuromod_core.trial.analysis import shams_of, shift_of
from neuromod_core.trial.control import UNDOSED
from neuromod_core.trial.executed import Executed, audits, departures, planned
from neuromod_core.trial.leak import guess
from neuromod_core.trial.plan import Arm, Assignment, Cell, Outline, Plan, Registration
from neuromod_core.trial.readings import STATEMENT
from neuromod_core.trial.room import Room, Seat

PROBE_TOKENS, PROBE_ITEMS = 4, 1
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
    """Return what a unit gives under a pack, as rows: every reading of a few items, and a short story."""
    seats = [
        Seat(Cell(unit.unit_id, unit.unit_id, 0, slot, 0, "full"), unit, pack)
        for slot, unit in enumerate(plan.units[:1])
    ]
    library = room.prompter.library
    library = replace(library, checks=(), frames=replace(library.frames, content_free=()))  # read as items are
    thin = replace(
        room,
        scales=tuple(scale.short(PROBE_ITEMS) for scale in room.scales[:1]),
        prompter=replace(room.prompter, library=library),
        story_tokens=PROBE_TOKENS,
    )
    return administer(thin, seats)


def inert_gate(room: Room, plan: Plan, placebo: Pack) -> Gate:
    """Return G1: every reading of a unit under the inert placebo, its machinery on, equals the baseline bit for bit."""
    equal = _probe(room, plan, UNDOSED) == _probe(room, plan, placebo)
    evidence = f"every reading and a story of a unit under the inert pack ({len(placebo.effects)} effects at dose 0) "
    return Gate("G1", "inert placebo equals baseline", _state(equal), evidence + ("are equal" if equal else "DIFFER"))


def _weights(model: LoadedModel) -> str:
    state = hashlib.sha256()
    for name, value in sorted(model.network.state_dict().items()):
        state.update(name.encode() + value.detach().cpu().contiguous().view(-1).numpy().tobytes())
    return state.hexdigest()


def probe_hash(room: Room, plan: Outline) -> str:
    """Return the SHA-256 of the undosed next-token logits (places, vocabulary) of the first unit's prompt."""
    prompt = room.prompter.statement_prompt(plan.units[0], None)
    logits = expressed_logits(room.session, UNDOSED, [prompt], room.subject)
    return hashlib.sha256(logits.detach().float().cpu().contiguous().numpy().tobytes()).hexdigest()


def reset_gate(room: Room, registration: Registration, fresh: str | None = None) -> Gate:
    """Return G2: after every arm has run, and the engine was entered and left again, all is as before (A/B/A).

    fresh: the probe hash of a process in which no arm ever ran; None where no such process was started.
    """
    plan, model = registration.plan, room.prompter.model
    units = plan.units[:1]
    rows = [Row(room.prompter.statement_prompt(unit, None), UNDOSED, Stream(0, unit.unit_id)) for unit in units]
    texts = room.prompter.statements(room.scales[:1], units[0])[:6]
    before = (_weights(model), score(room.session, rows, texts, room.subject))
    packs = [pack_of(plan, Assignment("", arm.name, arm.members[0])) for arm in plan.arms if arm.members]
    dosed_rows = [replace(rows[0], pack=pack) for pack in packs]
    with dosed(model, room.session.path) as inner:
        score(inner, dosed_rows, texts, room.subject)
        generate(inner, dosed_rows, room.subject, tokens=4)
    after = (_weights(model), score(room.session, rows, texts, room.subject))
    clean = fresh in (None, probe_hash(room, plan))
    evidence = f"weights and {len(texts)} likelihoods before and after {len(packs)} dosed arms "
    evidence += "are bitwise equal" if before == after else "DIFFER"
    told = "are bitwise equal" if clean else "DIFFER"
    compared = f"; then logits and those of a fresh process {told}" if fresh else "; no fresh process was compared"
    return Gate("G2", "reset leaves no trace", _state(before == after and clean), evidence + compared)


def balance_gate(registration: Registration, ran: Sequence[Executed]) -> Gate:
    """Return G3: every unit has its arms, and arms are balanced over periods, neighbours, wordings, slots, processes.

    ran: the cells in the order in which they were executed.
    """
    plan = registration.plan
    intended, done = audits(plan, planned(registration)), audits(plan, ran)
    moved = departures(registration, ran)
    faults = [str(audit) for audit in done if not audit.ok]
    said = " ".join(map(str, intended)) + " As executed: "
    said += " ".join(faults) if faults else "balanced"
    said += f"; {len(moved)} cells ran in another batch slot than planned." if moved else ", every cell in its slot."
    passed = not faults and not moved and all(audit.ok for audit in intended)
    return Gate("G3", "order is balanced", _state(passed), said)


def seal_gate(registration: Registration, amended: str | None) -> Gate:
    """Return G7: what was opened is what was committed to; `Archive.registration` raises when it is not."""
    given = registration.commitments
    said = f"plan {given['plan'][:12]}, allocation {given['allocation'][:12]} and key {given['key'][:12]} are those "
    said += "committed to before the first cell; "
    said += f"analysis amended to plan {amended[:12]}" if amended else "no amendment"
    return Gate("G7", "commitments hold", "passed", said)


def leak_gate(registration: Registration, responses: pd.DataFrame, generations: pd.DataFrame) -> Gate:
    """Return G8: a guess from metadata alone is no better than chance."""
    title = "metadata do not tell arms apart"
    try:
        found = guess(registration, responses, generations)
    except DataError as error:
        return Gate("G8", title, "not run", str(error))
    return Gate("G8", title, _state(not found.leaks), str(found))


def validity_gate(plan: Plan, responses: pd.DataFrame) -> Gate:
    """Return G4: at least 95 % of raw readings of the primary kind are valid: finite, or with enough option mass."""
    kind = plan.primary_reading or STATEMENT
    rows = responses[(responses["reading"] == kind) & responses["instrument"].isin(plan.scales)]
    finite = np.isfinite(rows["keyed_ll"]) & np.isfinite(rows["antonym_ll"])
    valid, word = (finite, "finite") if kind == STATEMENT else (rows["valid"].astype(bool), "valid")
    share = float(valid.mean())
    said = f"{share:.1%} of {len(rows)} raw readings are {word}"
    return Gate("G4", "readings are valid", _state(share >= BEATEN), said)


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
        "G6", title, _state(passed), f"{said}; the shift of {active:+.2f} beats {beaten:.0%} of {len(shams)} shams"
    )


def after_unblinding(
    registration: Registration,
    *,
    plan: Plan,
    ran: Sequence[Executed],
    responses: pd.DataFrame,
    generations: pd.DataFrame,
    scores: pd.DataFrame,
    amended: str | None = None,
) -> list[Gate]:
    """Return the gates that are derived from plan and data: G3 to G8.

    plan: with the analysis as amended; amended: its hash.
    """
    return [
        balance_gate(registration, ran),
        validity_gate(plan, responses),
        control_gate(plan),
        assay_gate(plan, scores),
        seal_gate(registration, amended),
        leak_gate(registration, responses, generations),
    ]


def before_first_cell(
    room: Room, registration: Registration, placebo: Pack, fresh: str | None = None
) -> Sequence[Gate]:
    """Return the gates that are run on the model before the first cell: G1 and G2."""
    return [inert_gate(room, registration.plan, placebo), reset_gate(room, registration, fresh)]
