"""Closed studies beside human studies, and beside each other."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pandas as pd
from scipy.special import stdtrit

from neuromod_core.store.compact import read_manifest
from neuromod_core.store.files import read_file
from neuromod_core.trial import signature
from neuromod_core.trial.analysis import PRIMARY
from neuromod_core.trial.archive import Archive, frame

DIRECTIONS = Path("datasets") / "signatures" / "directions.yaml"


def matched(archive: Archive, file: str | None, project: str) -> list[dict[str, object]]:
    """Return what a study says to the predictions of a file, or to those that ship."""
    plan = archive.effective(archive.registration().plan)
    predictions = signature.load(Path(project) / DIRECTIONS if file is None else Path(file))
    return signature.match(plan, _table(archive, "scores"), predictions).as_rows()


def pooled(archives: Sequence[Archive]) -> list[dict[str, object]]:
    """Return the primary estimates of every study, and their mean over models where there are enough of them."""
    tables = []
    for archive in archives:
        verdicts = _table(archive, "verdicts")
        rows = verdicts[(verdicts["family"] == PRIMARY) & verdicts["ci_low"].notna()]
        tables.append(rows.assign(model=archive.public().model))
    found: list[dict[str, object]] = []
    for (hypothesis, against), rows in pd.concat(tables).groupby(["hypothesis", "comparator"], sort=False):
        named = {"hypothesis": str(hypothesis), "against": str(against)}
        ends = rows[["ci_low", "ci_high"]].to_numpy(dtype=float).tolist()
        found += [
            {**named, "model": str(model), "estimate": round(float(estimate), 3), "95 %": _ends(*pair)}
            for model, estimate, pair in zip(rows["model"], rows["estimate"].tolist(), ends, strict=True)
        ]
        found.append({**named, **_mean(rows)})
    return found


def _mean(rows: pd.DataFrame) -> dict[str, object]:
    """Return the mean over models; a study's standard error is half its interval in units of t."""
    half = (rows["ci_high"] - rows["ci_low"]).to_numpy() / 2
    errors = half / stdtrit(rows["n"].to_numpy(dtype=float) - 1, 0.975)
    found = signature.pooled(rows["estimate"].tolist(), errors.tolist()) if rows["model"].is_unique else None
    if found is None or found.ci is None:
        why = f"no mean over {rows['model'].nunique()} models: it takes {signature.FAMILIES}"
        return {"model": why, "estimate": "", "95 %": ""}
    return {"model": str(found), "estimate": round(found.estimate, 3), "95 %": _ends(found.ci.low, found.ci.high)}


def _ends(low: float, high: float) -> str:
    return f"{low:.3f} to {high:.3f}"


def _table(archive: Archive, name: str) -> pd.DataFrame:
    file = read_manifest(archive.store).files[name]
    return frame(read_file(archive.store, f"dataset/{name}.parquet", name=name, file=file))
