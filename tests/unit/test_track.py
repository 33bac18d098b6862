"""Records of a study in a real MLflow on SQLite: nested, complete, and not doubled by recording again."""

from __future__ import annotations

import io
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from neuromod_core import track as package
from neuromod_core.kernel.errors import DataError, DuplicateName, StorageUnavailable
from neuromod_core.track import ArmRecord, StudyRecord

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Run

    from neuromod_core.track.mlflow_tracker import MlflowTracker

# MLflow configures a relationship in a way that SQLAlchemy 2.1 deprecates.
pytestmark = pytest.mark.filterwarnings("ignore:The ``noload`` loader strategy is deprecated")


@pytest.fixture(scope="module")
def opened(tmp_path_factory: pytest.TempPathFactory) -> tuple[MlflowTracker, str]:
    """Return a tracker with a new database, and what was printed while the database was made."""
    from neuromod_core.track.mlflow_tracker import MlflowTracker

    folder, heard = tmp_path_factory.mktemp("mlflow"), io.StringIO()
    tracker = MlflowTracker(f"sqlite:///{folder}/mlflow.db", folder / "artifacts")
    with redirect_stderr(heard), redirect_stdout(heard):
        tracker.record_study(StudyRecord(name="first", registration="ef" * 32))
    return tracker, heard.getvalue()


@pytest.fixture
def tracker(opened: tuple[MlflowTracker, str]) -> MlflowTracker:
    return opened[0]


@pytest.fixture
def client(tracker: MlflowTracker) -> MlflowClient:
    from mlflow import MlflowClient

    return MlflowClient(tracker.uri)


@pytest.fixture
def study(tmp_path: Path) -> StudyRecord:
    (tmp_path / "report.html").write_text("<p>report</p>")
    (tmp_path / "figures").mkdir()
    (tmp_path / "figures" / "forest.svg").write_text("<svg/>")
    return StudyRecord(
        name=f"study of {tmp_path.name}",
        registration="ab" * 32,
        params={"model": "tiny", "units": 12},
        metrics={"verdicts/informative": 3.0},
        tags={"gate.G1": "pass"},
        artifacts=(tmp_path / "report.html", tmp_path / "figures"),
        arms=(
            ArmRecord(name="stimulant", params={"pack": "stimulant"}, metrics={"arousal/estimate": 0.5, "kl": 1.0}),
            ArmRecord(name="placebo", metrics={"arousal/estimate": 0.0}),
        ),
    )


def runs(client: MlflowClient, study: StudyRecord) -> dict[str, Run]:
    """Return everything MLflow shows of a study, by the run's name; fails if a name is there twice."""
    experiment = client.get_experiment_by_name(study.name).experiment_id
    found = client.search_runs([experiment])
    assert len({run.info.run_name for run in found}) == len(found)
    return {run.info.run_name: run for run in found}


def test_a_study_is_a_run_and_its_arms_are_nested(
    tracker: MlflowTracker, client: MlflowClient, study: StudyRecord
) -> None:
    run_id = tracker.record_study(study)
    found = runs(client, study)
    assert found.keys() == {study.name, "stimulant", "placebo"}
    parent, arm = client.get_run(run_id), found["stimulant"]
    assert parent.info.run_name == study.name
    assert parent.data.params == {"model": "tiny", "units": "12"}
    assert parent.data.metrics == study.metrics
    assert parent.data.tags["gate.G1"] == "pass"
    assert parent.data.tags["neuromod.registration"] == study.registration
    assert {file.path for file in client.list_artifacts(run_id)} == {"report.html", "figures"}
    assert [file.path for file in client.list_artifacts(run_id, "figures")] == ["figures/forest.svg"]
    assert arm.data.params == {"pack": "stimulant"}
    assert arm.data.metrics == study.arms[0].metrics
    assert arm.data.tags["mlflow.parentRunId"] == run_id
    assert arm.data.tags["neuromod.arm"] == "stimulant"
    assert {run.info.status for run in found.values()} == {"FINISHED"}


def test_recording_again_changes_nothing(tracker: MlflowTracker, client: MlflowClient, study: StudyRecord) -> None:
    first = tracker.record_study(study)
    before = {name: run.to_dictionary() for name, run in runs(client, study).items()}
    assert tracker.record_study(study) == first
    assert {name: run.to_dictionary() for name, run in runs(client, study).items()} == before
    assert len(client.get_metric_history(first, "verdicts/informative")) == 1


def test_a_changed_metric_is_shown_and_a_new_arm_joins(
    tracker: MlflowTracker, client: MlflowClient, study: StudyRecord
) -> None:
    first = tracker.record_study(replace(study, arms=study.arms[:1]))
    for value in (2.0, 5.0, 1.0):
        assert tracker.record_study(replace(study, metrics={"verdicts/informative": value})) == first
        assert client.get_run(first).data.metrics == {"verdicts/informative": value}
    assert [metric.value for metric in client.get_metric_history(first, "verdicts/informative")] == [3.0, 2.0, 5.0, 1.0]
    assert runs(client, study).keys() == {study.name, "stimulant", "placebo"}


def test_a_record_cut_short_is_completed_by_the_next(
    tracker: MlflowTracker, client: MlflowClient, study: StudyRecord, tmp_path: Path
) -> None:
    late = tmp_path / "late.svg"
    cut = replace(study, arms=(study.arms[0], replace(study.arms[1], artifacts=(late,))))
    with pytest.raises(StorageUnavailable, match=r"No such file or directory: .*late\.svg"):
        tracker.record_study(cut)
    assert {run.info.status for run in runs(client, study).values()} == {"FINISHED", "RUNNING"}
    late.write_text("<svg/>")
    assert client.get_run(tracker.record_study(cut)).data.metrics == study.metrics
    assert {run.info.status for run in runs(client, study).values()} == {"FINISHED"}


def test_another_registration_is_another_run(tracker: MlflowTracker, client: MlflowClient, study: StudyRecord) -> None:
    again = replace(study, registration="cd" * 32)
    assert tracker.record_study(study) != tracker.record_study(again)
    experiment = client.get_experiment_by_name(study.name).experiment_id
    assert len(client.search_runs([experiment])) == 6


def test_more_entries_than_one_call_takes(tracker: MlflowTracker, client: MlflowClient, study: StudyRecord) -> None:
    many = replace(
        study,
        params={f"p{k}": k for k in range(205)},
        metrics={f"m{k}": float(k) for k in range(1601)},
        tags={f"t{k}": str(k) for k in range(101)},
        arms=(),
    )
    run = client.get_run(tracker.record_study(many))
    assert run.data.params == {name: str(value) for name, value in many.params.items()}
    assert run.data.metrics == many.metrics
    assert many.tags.items() <= run.data.tags.items()


def test_a_new_database_is_made_in_silence(opened: tuple[MlflowTracker, str]) -> None:
    tracker, heard = opened
    assert Path(tracker.uri.removeprefix("sqlite:///")).is_file()
    assert heard == ""


def test_a_changed_parameter_is_refused_in_one_line(tracker: MlflowTracker, study: StudyRecord) -> None:
    tracker.record_study(study)
    with pytest.raises(StorageUnavailable) as caught:
        tracker.record_study(replace(study, params={"model": "other"}))
    assert str(caught.value).startswith(f"MLflow did not record the study {study.name!r}: ")
    assert str(caught.value).endswith(f"The study itself is whole. (at {tracker.uri})")
    assert "\n" not in str(caught.value)


def test_a_database_that_cannot_be_made_is_unavailable(
    tracker: MlflowTracker, study: StudyRecord, tmp_path: Path
) -> None:
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(StorageUnavailable, match=f"MLflow did not record .*at sqlite:///{tmp_path}/file/sub/m.db"):
        replace(tracker, uri=f"sqlite:///{tmp_path}/file/sub/m.db").record_study(study)


def test_an_error_does_not_tell_the_password(tracker: MlflowTracker, study: StudyRecord) -> None:
    with pytest.raises(StorageUnavailable) as caught:
        replace(tracker, uri="nosuchscheme://me:secret@host/db").record_study(study)
    assert "secret" not in str(caught.value)
    assert "nosuchscheme://host/db" in str(caught.value)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a_metric_is_finite(value: float) -> None:
    with pytest.raises(DataError, match=r"Metric 'm' is (nan|inf); .*arm 'placebo'"):
        ArmRecord(name="placebo", metrics={"m": value})
    with pytest.raises(DataError, match="study 's'"):
        StudyRecord(name="s", registration="", metrics={"m": value})


def test_two_arms_of_one_name_are_refused() -> None:
    with pytest.raises(DuplicateName, match="Two arms of the study 's' are called 'a'"):
        StudyRecord(name="s", registration="", arms=(ArmRecord(name="a"), ArmRecord(name="a")))


def test_public_names_are_sorted_and_there() -> None:
    assert package.__all__ == sorted(package.__all__)
    assert all(hasattr(package, name) for name in package.__all__)
