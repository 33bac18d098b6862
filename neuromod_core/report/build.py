"""From the records of a closed study to the data of its report, and the report to a file."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path

import pandas as pd

from neuromod_core.packs import parse_pack
from neuromod_core.report.data import ReportData
from neuromod_core.report.page import render, write_png
from neuromod_core.store.compact import read_manifest
from neuromod_core.trial.analysis import CONTRASTS, DECISIONS, PRIMARY, SHIFTS, SIDE_EFFECTS, shams_of
from neuromod_core.trial.archive import Archive
from neuromod_core.trial.close import judge
from neuromod_core.trial.consort import consort_of
from neuromod_core.trial.crossed import CROSSED, TOLD
from neuromod_core.trial.harms import HARMS_FAMILY, MARGINS_FAMILY, harms_of
from neuromod_core.trial.hypotheses import reading_of
from neuromod_core.trial.plan import Arm, Plan, Registration
from neuromod_core.trial.readings import READINGS
from neuromod_core.trial.robust import published
from neuromod_core.trial.scoring import Labels, items_of, neutral_of

FAMILIES: Mapping[str, str] = {
    PRIMARY: "each predicted arm on its own target scale against each placebo: minimum-effect sign flips in the "
    "predicted direction, step-down max-T over arms",
    DECISIONS: "each predicted arm against every placebo of the study: the largest of its adjusted p",
    SIDE_EFFECTS: "each arm's change in nats per token on neutral text, two-sided, Benjamini-Hochberg",
    SHIFTS: "each arm's shift of each scale against the baseline, two-sided, Benjamini-Hochberg",
    MARGINS_FAMILY: "unwanted events under each arm against the baseline, the same requests under both: Tango's 95 % "
    "interval against a margin; all margins together are one claim, so that none is adjusted",
    HARMS_FAMILY: "each arm's change in everything else the panel measures, two-sided, Benjamini-Hochberg",
    CROSSED: "each arm's specificity on every scale, expressed, against its matched temperature or the baseline: "
    "minimum-effect sign flips upwards, step-down max-T over all arms and scales",
    TOLD: "positive control: the shift of its own scale in each arm that is told to be in a state, against an arm told "
    "of a plain day, or else the baseline: sign flips, step-down max-T, and g_z of at least 0.8",
    CONTRASTS: "the specificity of all other arms on the primary scale, two-sided, Benjamini-Hochberg",
}
PANELLED = (MARGINS_FAMILY, HARMS_FAMILY)
LIMITS = (
    "Self-report of a language model is a pattern of likelihoods, not an experience.",
    "Inference is to contexts like these vignettes, for this model, these items and these pack files.",
    "The items have no human validation: the scales are study-specific indices.",
    "A small model that cannot show an effect says nothing about larger models.",
)


def _arm_row(arm: Arm) -> dict[str, object]:
    pack = parse_pack(arm.pack, f"arm {arm.name}")
    effects = "; ".join(str(item) for item in pack.effects)
    if arm.role == "P1":
        effects += f" ({len(arm.members)} draws)"
    if pack.match is not None:
        effects = "temperature matched per arm: " + ", ".join(f"{name} {dose:+.2f}" for name, dose in arm.doses.items())
    elif arm.doses:
        least, most = min(arm.doses.values()), max(arm.doses.values())
        times = f"{least:.2f}" if least == most else f"{least:.2f} to {most:.2f}"
        effects += f"; doses times {times}, for {pack.kl:g} nat of KL"
    return {
        "arm": arm.name,
        "role": arm.role,
        "pack": pack.description,
        "effects": effects or ("system text" if pack.system else ""),
        "target_scale": arm.target_scale,
        "predicted_sign": arm.predicted_sign,
    }


def _gated_out(plan: Plan) -> Mapping[str, str]:
    """Return the readings that failed their positive control on the primary scale, with what was found."""
    failed: dict[str, str] = {}
    for control in plan.controls:
        if control.scale == plan.primary_scale and not control.passed:
            size = "no valid score" if control.g_z is None else f"g_z = {control.g_z:.2f}, p = {control.pvalue:.2g}"
            why = f"G5 failed: an instructed state does not move it ({size}, {control.n} pilot units; {control.note})."
            failed |= {f"{control.reading}_{kind}": why for kind in ("raw", "expressed")}
    return failed


def _design(plan: Plan) -> Mapping[str, object]:
    monitored = sum(unit.options for unit in plan.units)
    return {
        "title": plan.title,
        "question": plan.question,
        "model": f"{plan.model} ({plan.dtype})",
        "baseline": plan.baseline,
        "units": len(plan.units),
        "periods": len(plan.arms),
        "alpha": plan.alpha,
        "readings": list(READINGS),
        "families": {code: text for code, text in FAMILIES.items() if plan.panel or code not in PANELLED},
        "primary_family": PRIMARY,
        "specificity_families": [CONTRASTS],
        "foils": [scale for scale in plan.scales if scale != plan.primary_scale],
        "gated_out": dict(_gated_out(plan)),
        "details": {
            "wordings": "three of each vignette and three of each item, balanced over units",
            "option order": f"ascending and descending, balanced; option readings on {monitored} units",
            "cells": f"{len(plan.cells)} in {plan.shards} shards",
            "dose factor": f"{plan.dose:g}",
            "stories": f"{plan.story_tokens} tokens, temperature 1 before packs",
        },
        "limits": list(LIMITS),
    }


def _provenance(archive: Archive, registration: Registration) -> Mapping[str, str]:
    plan = registration.plan
    engine = next(iter(archive.done(registration).values())).provenance
    return {
        "plan_hash": registration.public.fingerprint,
        "registration_id": registration.registration_id,
        "allocation_commitment": registration.commitments["allocation"],
        "data_head": str(archive.entry("data")["head"]),
        "root_hash": read_manifest(archive.store).root,
        "model_sha256": plan.weights_sha256,
        "calibration": plan.calibration,
        "dtype": plan.dtype,
        "cpu_features": str(engine["cpu"]),
        "lock_sha256": str(engine["lock"]),
        **{key: str(value) for key, value in engine.items() if key not in ("cpu", "lock", "executed")},
        "seeds": f"plan {plan.seed}; cell codes and key drawn at registration",
        "command": f"neuromod run study={plan.study}  (this registration: neuromod run registration=FILE)",
        "check": "neuromod verify RUN",
    }


def _stories(plan: Plan, generations: pd.DataFrame, labels: Labels) -> pd.DataFrame:
    units = {cell.cell_code: cell.unit_id for cell in plan.cells}
    table = generations.assign(
        unit_id=generations["cell_code"].map(units),
        arm=generations["cell_code"].map(lambda code: labels.by_cell[code][0]),
        member=generations["cell_code"].map(lambda code: labels.by_cell[code][1]),
    )
    return table.drop(columns=["cell_code", "sample", "token_ids"])


def _order(plan: Plan, labels: Labels) -> pd.DataFrame:
    rows = [
        (cell.unit_id, cell.period + 1, labels.by_cell[cell.cell_code][0])
        for cell in plan.cells
        if cell.battery == "full"
    ]
    return pd.DataFrame(rows, columns=["unit_id", "period", "arm"])


def build(archive: Archive, written: int | None = None) -> ReportData:
    """Return the data of the report, derived from the raw rows of a closed study.

    written: how many vignettes a unit could have been drawn from, for the flow of units; without it there is no flow.
    """
    registration = archive.registration()
    plan, labels = archive.effective(registration.plan), Labels.real(registration.allocation)
    responses = archive.rows(registration, "responses")
    outcome = judge(archive, registration)
    return ReportData(
        scores=outcome.scores,
        items=items_of(plan, responses, labels),
        verdicts=pd.DataFrame([item.as_row() for item in outcome.verdicts]),
        gates=pd.DataFrame([asdict(gate) for gate in outcome.gates]),
        shams=shams_of(plan, outcome.scores),
        side_effects=neutral_of(plan, responses, labels),
        generations=_stories(plan, archive.rows(registration, "generations"), labels),
        order=_order(plan, labels),
        design=_design(plan),
        arms=pd.DataFrame([_arm_row(arm) for arm in plan.arms]),
        provenance=_provenance(archive, registration),
        primary_scale=plan.primary_scale,
        primary_reading=reading_of(plan, "raw"),
        min_effect=plan.min_effect,
        harms=harms_of(archive, registration, labels),
        sensitivity=published(archive),
        consort=None if written is None else consort_of(archive, registration, outcome, written),
    )


def write_report(data: ReportData, folder: Path, templates: Path) -> Path:
    """Write `report.html` and `figures/*.png` below `folder`; return the report's path. Complete or not at all."""
    page = render(data, templates).encode()
    handle, scratch = tempfile.mkstemp(dir=folder, prefix=".report-")
    try:
        with os.fdopen(handle, "wb") as stream:
            stream.write(page)
        Path(scratch).replace(folder / "report.html")
    finally:
        Path(scratch).unlink(missing_ok=True)
    write_png(data, folder / "figures")
    return folder / "report.html"
