"""Records of studies in MLflow: the study is a run, each arm a run nested in it. Import it only to record.

MLflow has no idempotency key. The tag `neuromod.registration` (with `neuromod.arm` on an arm) is ours: a run that
carries it is filled again, not doubled.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Iterator
from dataclasses import dataclass
from math import ceil
from pathlib import Path

from mlflow import MlflowClient
from mlflow.entities import Metric, Param, Run, RunTag
from mlflow.exceptions import MlflowException
from sqlalchemy.exc import SQLAlchemyError

from neuromod_core.kernel.errors import StorageUnavailable
from neuromod_core.track.protocol import ArmRecord, StudyRecord

REGISTRATION, ARM = "neuromod.registration", "neuromod.arm"
_PARENT, _NOTE = "mlflow.parentRunId", "mlflow.note.content"

# MLflow takes at most 100 params, 100 tags and 1000 entries of all kinds in one call, and 50000 runs in one answer.
_METRICS, _PARAMS, _TAGS, _RUNS = 800, 100, 100, 50_000

# A new database tells of every table it makes.
logging.getLogger("mlflow").setLevel(logging.WARNING)


@dataclass(frozen=True)
class MlflowTracker:
    """Records in the MLflow at `uri` (a server, or a database such as `sqlite:////path/mlflow.db`).

    The experiment has the study's name. Artifacts of a new experiment go to `artifact_folder`, or where the server
    puts them (without a server: `mlruns` in the working directory). Recording again adds a further step to each metric
    whose value has changed, and fails if a parameter has.
    """

    uri: str
    artifact_folder: Path | None = None

    def record_study(self, study: StudyRecord) -> str:
        """Keep `study` as a run with its arms nested in it, and return its id; `StorageUnavailable` if MLflow fails."""
        try:
            client = MlflowClient(self.uri)
            return _record(client, study, experiment=_experiment(client, study.name, folder=self.artifact_folder))
        except (MlflowException, SQLAlchemyError, OSError) as cause:
            why = next(iter(str(cause).splitlines()), type(cause).__name__).rstrip(".")
            said = f"MLflow did not record the study {study.name!r}: {why}. The study itself is whole. (at {self.uri})"
            raise StorageUnavailable(re.sub(r"://[^/\s]*@", "://", said)) from cause  # no password is told


def _experiment(client: MlflowClient, name: str, *, folder: Path | None) -> str:
    """Return the id of the experiment called `name`, made if there is none."""
    if found := client.get_experiment_by_name(name):
        return str(found.experiment_id)
    return str(client.create_experiment(name, artifact_location=folder and folder.absolute().as_uri()))


def _record(client: MlflowClient, study: StudyRecord, *, experiment: str) -> str:
    known = _known(client, study.registration, experiment=experiment)
    tags, title = {REGISTRATION: study.registration}, study.title or study.name
    parent = known[None] if None in known else client.create_run(experiment, tags=tags, run_name=title)
    for arm in study.arms:
        nested = {**tags, ARM: arm.name, _PARENT: parent.info.run_id}
        child = known[arm.name] if arm.name in known else client.create_run(experiment, tags=nested, run_name=arm.name)
        _fill(client, child, record=arm)
    _fill(client, parent, record=study)
    return str(parent.info.run_id)


def _known(client: MlflowClient, registration: str, *, experiment: str) -> dict[str | None, Run]:
    """Return the runs of a registration by arm (None is the study itself), the oldest if there are several."""
    carries = f"tags.`{REGISTRATION}` = '{registration}'"
    runs = client.search_runs([experiment], carries, max_results=_RUNS, order_by=["attributes.start_time DESC"])
    return {run.data.tags.get(ARM): run for run in runs}


def _fill(client: MlflowClient, run: Run, *, record: StudyRecord | ArmRecord) -> None:
    """Give `run` what the record holds, and end it."""
    params = [Param(name, str(value)) for name, value in record.params.items()]
    told = {_NOTE: record.description} if isinstance(record, StudyRecord) and record.description else {}
    tags = [RunTag(name, value) for name, value in {**record.tags, **told}.items()]
    for part in _batches(_news(client, run, record=record), params, tags):
        client.log_batch(run.info.run_id, *part)
    for path in record.artifacts:
        client.log_artifact(run.info.run_id, str(path))
    finished = isinstance(record, ArmRecord) or record.finished
    if finished and run.info.status != "FINISHED":
        client.set_terminated(run.info.run_id)


def _news(client: MlflowClient, run: Run, *, record: StudyRecord | ArmRecord) -> list[Metric]:
    """Return the metrics whose value the run does not show yet; a changed one as the step after its last."""
    shown, run_id, start = run.data.metrics, run.info.run_id, run.info.start_time
    return [
        Metric(name, value, start, len(client.get_metric_history(run_id, name)) if name in shown else 0)
        for name, value in record.metrics.items()
        if name not in shown or shown[name] != value
    ]


def _batches(
    metrics: list[Metric], params: list[Param], tags: list[RunTag]
) -> Iterator[tuple[list[Metric], list[Param], list[RunTag]]]:
    """Yield the entries in parts that one call takes; nearly always there is one part."""
    parts = max(ceil(len(metrics) / _METRICS), ceil(len(params) / _PARAMS), ceil(len(tags) / _TAGS))
    for i in range(parts):
        yield (
            metrics[_METRICS * i : _METRICS * (i + 1)],
            params[_PARAMS * i : _PARAMS * (i + 1)],
            tags[_TAGS * i : _TAGS * (i + 1)],
        )
