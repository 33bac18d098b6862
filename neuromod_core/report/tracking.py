"""A closed study as runs of an experiment tracker: the study is the parent, its arms are the children."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from neuromod_core.report.build import build
from neuromod_core.report.data import ReportData
from neuromod_core.track import ArmRecord, StudyRecord
from neuromod_core.trial.analysis import DECISIONS
from neuromod_core.trial.archive import Archive


def _arm(data: ReportData, arm: str) -> ArmRecord:
    """Return an arm's parameters, and the means that were measured; what is missing is left out."""
    row = data.arms.set_index("arm").loc[arm]
    rows = data.scores[data.scores["arm"] == arm]
    means = rows.groupby(["reading", "scale"])["value"].mean().reset_index()
    measured = means.dropna().to_dict("records")
    metrics = {f"{mean['reading']}.{mean['scale']}": float(mean["value"]) for mean in measured}
    for name, table, column in (
        ("neutral_nll", data.side_effects, "neutral_nll"),
        ("distinct_2", data.generations, "distinct_2"),
        ("repeated_4gram_share", data.generations, "repeated_4gram_share"),
    ):
        mean = float(table.loc[table["arm"] == arm, column].mean())
        metrics |= {name: mean} if np.isfinite(mean) else {}
    tested = data.verdicts[(data.verdicts["arm"] == arm) & data.verdicts["p_adj"].notna()]
    for verdict in tested.to_dict("records"):
        key = f"{verdict['family']}.{verdict['scale']}.{verdict['comparator']}".replace(" ", "_")
        metrics |= {f"{key}.estimate": float(verdict["estimate"]), f"{key}.p_adj": float(verdict["p_adj"])}
    params = {"role": str(row["role"]), "effects": str(row["effects"])[:500]}
    return ArmRecord(name=arm, params=params, metrics=metrics, tags={"role": str(row["role"])}, artifacts=())


def study_record(archive: Archive, folder: Path) -> StudyRecord:
    """Return what a tracker keeps of a closed study, with its report and pictures as artifacts."""
    data = build(archive)
    plan = archive.plan()
    pictures = sorted((folder / "figures").glob("*.png"))
    decisions = data.verdicts[data.verdicts["family"] == DECISIONS]
    states = data.gates.set_index("code")["state"]
    return StudyRecord(
        name=plan.study,
        registration=data.provenance["registration_id"],
        params={
            "model": plan.model,
            "units": str(len(plan.units)),
            "arms": str(len(plan.arms)),
            "dose": f"{plan.dose:g}",
            "min_effect": f"{plan.min_effect:g}",
            "primary_reading": str(plan.primary_reading),
        },
        metrics={
            "gates_failed": float((states == "failed").sum()),
            "supported": float((decisions["state"] == "supported").sum()),
        },
        tags={key: data.provenance[key] for key in ("plan_hash", "root_hash", "model_sha256", "commit")},
        artifacts=(folder / "report.html", *pictures),
        arms=tuple(_arm(data, arm) for arm in data.arm_names),
    )
