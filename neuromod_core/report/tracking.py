"""A study as runs of an experiment tracker: the study is the parent, its arms are the children.

Names are for people who compare runs. A name with a slash belongs to a group of charts: `shift/pdq_s`. Of a study that
is not closed only what its public plan says is shown, and no arm.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType

import numpy as np
import pandas as pd

from neuromod_core.kernel.types import Json, digest
from neuromod_core.report.build import build
from neuromod_core.report.data import ReportData
from neuromod_core.report.findings import findings
from neuromod_core.store.commits import committed
from neuromod_core.track import ArmRecord, StudyRecord
from neuromod_core.trial.analysis import CONTRASTS, DECISIONS, PRIMARY, SHIFTS, SIDE_EFFECTS
from neuromod_core.trial.archive import Archive
from neuromod_core.trial.harms import HARMS_FAMILY, MARGINS_FAMILY
from neuromod_core.trial.plan import Arm, Outline, Plan, PublicPlan
from neuromod_core.trial.planfile import plan_yaml

GROUPS: Mapping[str, str] = MappingProxyType(
    {
        PRIMARY: "specificity",
        DECISIONS: "decision",
        SIDE_EFFECTS: "side effect",
        SHIFTS: "shift",
        CONTRASTS: "specificity of other arms",
        MARGINS_FAMILY: "unwanted events",
        HARMS_FAMILY: "panel",
    }
)
"""Family of hypotheses -> the group of charts that its estimates are shown in."""

FORBIDDEN = re.compile(r"[^\w.\- /]")  # in the name of a metric or parameter; trackers agree on little more
ABSENT = frozenset({"", "none", "None"})


def study_record(archive: Archive, folder: Path) -> StudyRecord:
    """Return what a tracker keeps of a study.

    folder: holds the report and pictures of a closed study; plan, manifest and cards are written beside them.
    """
    return _closed(archive, folder) if archive.find("closed") is not None else _open(archive, folder)


def _open(archive: Archive, folder: Path) -> StudyRecord:
    public = archive.public()
    (folder / "plan.yaml").write_text(plan_yaml(public), encoding="utf-8")
    return StudyRecord(
        name=public.study,
        title=_title(archive, public),
        registration=_registration(archive),
        params=_params(public),
        metrics=_progress(archive, public),
        tags={"state": "open"},
        description=f"{public.title}\n\n{public.question}\n\nNot closed: what the arms are is sealed.",
        artifacts=(folder / "plan.yaml",),
        finished=False,
    )


def _closed(archive: Archive, folder: Path) -> StudyRecord:
    data, plan, public = build(archive), archive.plan(), archive.public()
    decisions = data.verdicts[data.verdicts["family"] == DECISIONS]
    metrics = {"claims supported": float((decisions["state"] == "supported").sum())}
    metrics["gates failed"] = float(len(data.failed_gates))
    facts = ("plan_hash", "root_hash", "model_sha256", "commit", "lock_sha256")
    gates = {f"gate {row['code']}": str(row["state"]) for row in data.gates.to_dict("records")}
    return StudyRecord(
        name=plan.study,
        title=_title(archive, public),
        registration=_registration(archive),
        params=_params(public),
        metrics=_progress(archive, public) | metrics,
        tags={key: data.provenance[key] for key in facts if key in data.provenance} | gates | {"state": "closed"},
        description="\n\n".join([plan.title, plan.question, *findings(data)]),
        artifacts=_files(archive, plan, public, folder),
        arms=tuple(_arm(data, plan, name, folder) for name in data.arm_names),
    )


def _registration(archive: Archive) -> str:
    return digest(dict(archive.entry("registered")))[:12]


def _title(archive: Archive, plan: Outline) -> str:
    """Return the name a run has in lists: two runs of one study differ by model, dose and registration."""
    return f"{plan.study} · {plan.model} · dose {plan.dose:g} · {_registration(archive)[:6]}"


def _progress(archive: Archive, plan: Outline) -> dict[str, float]:
    return {"shards": float(plan.shards), "shards committed": float(len(committed(archive.store)))}


def _params(plan: PublicPlan) -> dict[str, str | int | float | None]:
    """Return what was chosen, as everybody may know it."""
    return {
        "model": plan.model,
        "number format": plan.dtype,
        "arms": len(plan.handles),
        "units": len(plan.units),
        "cells": len(plan.cells),
        "order": plan.order,
        "dose": f"{plan.dose:g}",
        "scales": ", ".join(plan.scales),
        "primary scale": plan.primary_scale,
        "primary reading": plan.primary_reading,
        "minimum effect": f"{plan.min_effect:g}",
        "alpha": f"{plan.alpha:g}",
        "seed": plan.seed,
    }


def _files(archive: Archive, plan: Plan, public: PublicPlan, folder: Path) -> tuple[Path, ...]:
    """Write plan, data manifest and model card beside the report; return all that is kept of the study."""
    (folder / "plan.yaml").write_text(plan_yaml(public), encoding="utf-8")
    (folder / "data").mkdir(exist_ok=True)
    (folder / "data" / "manifest.json").write_bytes(archive.store.get("dataset/manifest.json"))
    card: dict[str, Json] = {
        "model": plan.model,
        "source": dict(plan.model_source),
        "number format": plan.dtype,
        "weights (SHA-256)": plan.weights_sha256,
        "fingerprint": plan.model_fingerprint,
        "calibration": plan.calibration,
        "vectors used although not valid": list(plan.unvalidated),
    }
    _write_card(folder / "model.json", card)
    names = ("report.html", "consort.md", "plan.yaml", "model.json", "data", "figures")
    return tuple(path for name in names if (path := folder / name).exists())


def _write_card(path: Path, card: Mapping[str, Json]) -> None:
    path.write_text(json.dumps(card, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


def _arm(data: ReportData, plan: Plan, name: str, folder: Path) -> ArmRecord:
    """Return an arm's parameters, what was measured under it, and its pack; what is missing is left out."""
    shown = data.arm_rows[name]
    (given,) = (arm for arm in plan.arms if arm.name == name)
    params = {"role": shown.role, "effects": shown.effects[:500], "target scale": shown.target}
    return ArmRecord(
        name=name,
        params={key: value for key, value in params.items() if value not in ABSENT},
        metrics=_means(data, name) | _verdicts(data.verdicts[data.verdicts["arm"] == name]),
        tags={"role": shown.role},
        artifacts=(_pack_card(given, folder),),
    )


def _pack_card(arm: Arm, folder: Path) -> Path:
    """Write what an arm received: the pack as registered, its fingerprint, the doses it was calibrated to."""
    path = folder / "packs" / arm.name / "pack.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    doses: dict[str, Json] = dict(arm.doses)
    card: dict[str, Json] = {"arm": arm.name, "role": arm.role, "fingerprint": arm.fingerprint, "doses": doses}
    _write_card(path, card | {"pack": json.loads(arm.pack)})
    return path


def _means(data: ReportData, arm: str) -> dict[str, float]:
    """Return the mean of every score, and of what was seen in text that the arm read and wrote."""
    rows = data.scores[data.scores["arm"] == arm]
    means = rows.groupby(["reading", "scale"])["value"].mean().reset_index().dropna().to_dict("records")
    found = {_name(f"score/{mean['scale']} {mean['reading']}"): float(mean["value"]) for mean in means}
    for name, table, column in (
        ("text/neutral text nats per token", data.side_effects, "neutral_nll"),
        ("text/distinct word pairs", data.generations, "distinct_2"),
        ("text/repeated fourfold share", data.generations, "repeated_4gram_share"),
    ):
        mean = float(table.loc[table["arm"] == arm, column].mean())
        found |= {name: mean} if np.isfinite(mean) else {}
    return found


def _verdicts(rows: pd.DataFrame) -> dict[str, float]:
    """Return the estimate and the adjusted p of every hypothesis that could be tested."""
    found: dict[str, float] = {}
    for row in rows[rows["p_adj"].notna() & rows["estimate"].notna()].to_dict("records"):
        group = GROUPS.get(str(row["family"]), str(row["family"]))
        about = f"{row['scale']} vs {row['comparator']}"
        found[_name(f"{group}/{about}")] = float(row["estimate"])
        found[_name(f"{group} adjusted p/{about}")] = float(row["p_adj"])
    return found


def _name(text: str) -> str:
    return FORBIDDEN.sub("-", text)
