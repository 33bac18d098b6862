"""Prefect and MLflow are views: killed in the middle of a study they take nothing with them, and the user is told."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import psutil
import pytest
from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.client.schemas.actions import WorkPoolCreate
from prefect.client.schemas.objects import FlowRun
from prefect.settings import PREFECT_API_URL, temporary_settings

from flows import deployed
from tests.conftest import ROOT
from tests.platform.studies import SHARDS, Tiny, conducted, ended, seen, worker
from tests.platform.test_services import Service


@pytest.fixture(scope="module")
def prefect(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    service = Service("prefect", tmp_path_factory.mktemp("prefect"))
    service.start()
    with temporary_settings({PREFECT_API_URL: f"{service.address}/api"}):
        yield service
    service.kill()


@pytest.fixture
def client(prefect: Service) -> Iterator[SyncPrefectClient]:
    with get_client(sync_client=True) as asked:
        yield asked


def states(client: SyncPrefectClient, registration: str) -> list[tuple[str, str]]:
    """Return flow and state of every run of a registration, the oldest first."""
    mine = [run for run in client.read_flow_runs() if registration in str(run.parameters)]
    flows = {run.flow_id: client.read_flow(run.flow_id).name for run in mine}
    return [(flows[run.flow_id], str(run.state_name)) for run in sorted(mine, key=lambda run: str(run.created))]


def test_a_killed_flow_run_is_cancelled_by_the_next_which_goes_on(
    prefect: Service, client: SyncPrefectClient, tiny: Tiny, alone: str, tmp_path: Path
) -> None:
    at, says = tiny.copy(tmp_path / "runs"), tmp_path / "says.txt"
    how = partial(seen, f"{prefect.address}/api")
    first = worker(tiny, at, says, how)
    tiny.await_shards(at, 3, first)
    first.kill()
    first.join()
    done = tiny.done(at)
    assert states(client, at) == [("study", "Running"), ("administer", "Running")], "nobody told the server"
    assert ended(worker(tiny, at, says, how), says) == (0, alone)
    assert done <= tiny.done(at)
    assert states(client, at) == [
        ("study", "Cancelled"), ("administer", "Cancelled"), ("study", "Completed"), ("administer", "Completed"),
    ]  # fmt: skip
    shown = {str(one.key).partition("-")[0]: str(one.data) for one in client.read_latest_artifacts()}
    assert shown.keys() == {"progress", "plan", "workers", "outcome", "report"}
    assert float(shown["progress"]) == 100.0
    assert alone in shown["outcome"]


def test_a_server_killed_in_the_middle_is_one_line_and_the_study_goes_on_without_it(
    prefect: Service, tiny: Tiny, alone: str, tmp_path: Path
) -> None:
    at, says = tiny.copy(tmp_path / "runs"), tmp_path / "says.txt"
    running = worker(tiny, at, says, partial(seen, f"{prefect.address}/api"))
    tiny.await_shards(at, 3, running)
    prefect.kill()
    done = tiny.done(at)
    code, words = ended(running, says)
    assert code == 2
    assert words.startswith(f"ConfigError: The Prefect server {prefect.address}/api does not answer: ")
    assert words.endswith("The same command resumes, without a server too: runtime=inprocess.")
    assert len(words.splitlines()) == 1
    assert done <= tiny.done(at)
    assert ended(worker(tiny, at, says), says) == (0, alone)
    prefect.start()


def test_the_deployed_report_and_audit_end_in_a_state_that_says_what_came_out(
    prefect: Service, client: SyncPrefectClient, tiny: Tiny, alone: str, tmp_path: Path
) -> None:
    at = tiny.copy(tmp_path / "runs")
    assert conducted(tiny, at) == alone
    folder = tiny.run(at).folder()
    made = deployed.report(folder, return_state=True)
    assert (made.name, made.message) == ("Completed", f"{folder}/report.html")
    checked = deployed.audit(studies=20, quick=True, return_state=True)
    assert (checked.name, str(checked.message)[:6]) in {("Completed", "every "), ("Failed", "AUDIT ")}
    shown = {one.key: one for one in client.read_latest_artifacts()}
    assert f"file://{folder}/report.html" in str(shown["report"].data)
    assert shown["audit"].type == "table"


def served_by(prefect: Service, log: Path) -> subprocess.Popen[bytes]:
    """Start a real worker, with its script, in a process group of its own."""
    settings = {"PREFECT_API_URL": f"{prefect.address}/api", "PREFECT_WORKER_QUERY_SECONDS": "1"}
    environment = {**prefect.environment, **settings}
    with log.open("ab") as said:
        return subprocess.Popen(
            [ROOT / "infra" / "worker.sh", "local"], env=environment, stdout=said, stderr=said, start_new_session=True
        )


def slain(worker: subprocess.Popen[bytes]) -> None:
    """Kill a worker and the flow run that it started, which would go on without it."""
    if worker.poll() is None:
        mine = psutil.Process(worker.pid)
        all_of_it = [mine, *mine.children(recursive=True)]
        for process in all_of_it:
            process.kill()
        worker.wait()
        psutil.wait_procs(all_of_it, timeout=30)


def asked_for(client: SyncPrefectClient, tiny: Tiny, at: str) -> FlowRun:
    """Ask for a run of the deployment, as `prefect deployment run` does."""
    deployment = client.read_deployment_by_name("study/tiny")
    given = {"registration": str(tiny.file), "storage": at, "cache": str(tiny.cache)}
    return client.create_flow_run_from_deployment(deployment.id, parameters=given)


def test_a_killed_worker_is_replaced_and_its_run_cancelled(
    prefect: Service, client: SyncPrefectClient, tiny: Tiny, alone: str, tmp_path: Path
) -> None:
    """A deployment, its run on a process worker; kill -9 of the worker and of the run; a new worker, a new run."""
    at, log = tiny.copy(tmp_path / "runs"), tmp_path / "worker.log"
    client.create_work_pool(WorkPoolCreate(name="local", type="process"))
    enter = [{"prefect.deployments.steps.set_working_directory": {"directory": str(ROOT)}}]
    client.create_deployment(
        client.create_flow_from_name("study"), "tiny", entrypoint="tests/platform/deployed.py:study", path=str(ROOT),
        work_pool_name="local", pull_steps=enter,
    )  # fmt: skip
    killed, first = asked_for(client, tiny, at), served_by(prefect, log)
    try:
        tiny.await_shards(at, 3)
        slain(first)
        done, again = tiny.done(at), asked_for(client, tiny, at)
        second = served_by(prefect, log)
        try:
            tiny.await_shards(at, SHARDS)
            state = awaited(client, again)
        finally:
            slain(second)
    finally:
        slain(first)
    assert state == "Completed", log.read_text("utf-8", "replace")[-3000:]
    assert done <= tiny.done(at)
    assert client.read_flow_run(killed.id).state_name == "Cancelled"
    assert f"cancelled {killed.name}: its process is gone" in log.read_text("utf-8", "replace")
    assert conducted(tiny, at) == alone


def awaited(client: SyncPrefectClient, run: FlowRun) -> str:
    """Return the state in which a run ends."""
    for _ in range(900):
        state = client.read_flow_run(run.id).state
        if state is not None and state.is_final():
            return state.name or ""
        time.sleep(1)
    raise TimeoutError(f"flow run {run.name} does not end")


def test_mlflow_killed_in_the_middle_takes_nothing_with_it(tiny: Tiny, alone: str, tmp_path: Path) -> None:
    from mlflow import MlflowClient

    at, says, mlflow = tiny.copy(tmp_path / "runs"), tmp_path / "says.txt", Service("mlflow", tmp_path / "state")
    how = partial(conducted, tracking=mlflow.address)
    mlflow.start()
    try:
        running = worker(tiny, at, says, how)
        tiny.await_shards(at, 3, running)
        mlflow.kill()
        assert ended(running, says) == (0, alone)
        mlflow.start()
        assert ended(worker(tiny, at, says, how), says) == (0, alone)
        known = MlflowClient(mlflow.address)
        (experiment,) = [one for one in known.search_experiments() if one.name == "smoke"]
        runs = known.search_runs([experiment.experiment_id])
        assert len([run for run in runs if "mlflow.parentRunId" not in run.data.tags]) == 1
    finally:
        mlflow.kill()
