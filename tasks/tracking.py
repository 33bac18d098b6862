"""MLflow's view of studies: made from their records, and made again from them when it is lost."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory

from neuromod_core.report.tracking import study_record
from neuromod_core.store import open_store
from neuromod_core.track.mlflow_tracker import MlflowTracker
from neuromod_core.trial.archive import Archive
from tasks import progress
from tasks.lab import Places
from tasks.records import runs_at
from tasks.reporting import hand_out


def recorded(at: str, places: Places) -> str:
    """Record the study at an address, closed or not, and return MLflow's name for its run; again changes nothing.

    Raises:
        StorageUnavailable: MLflow cannot be reached, or refuses.
    """
    archive = Archive(open_store(at))
    with TemporaryDirectory(prefix="neuromod-") as folder:
        if archive.find("closed") is not None:
            hand_out(at, Path(folder), places.project)
        return _tracker(places).record_study(study_record(archive, Path(folder)))


def _tracker(places: Places) -> MlflowTracker:
    places.private.mkdir(parents=True, exist_ok=True)
    uri = places.tracking or f"sqlite:///{places.private}/mlflow.db"
    return MlflowTracker(uri, places.private / "mlartifacts")


def rebuilt(places: Places) -> list[Mapping[str, object]]:
    """Record every study at a run or below a root; return one row for each.

    Raises:
        ConfigError: there is no run.
        StorageUnavailable: MLflow cannot be reached, or refuses.
    """
    runs = runs_at(places.runs)
    at_run = list(runs.values()) == [places.runs]
    here = replace(places, runs=places.runs.rpartition("/")[0]) if at_run else places
    progress.stage("MLflow", len(runs))
    rows: list[Mapping[str, object]] = []
    for name, at in runs.items():
        closed = Archive(open_store(at)).find("closed") is not None
        rows.append({"run": name, "state": "closed" if closed else "open", "mlflow run": recorded(at, here)})
        progress.tick()
    return rows
