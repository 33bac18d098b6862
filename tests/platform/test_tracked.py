"""MLflow's view of studies: lost and made again, on SQLite and on a server with PostgreSQL and files in a bucket."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from tempfile import mkdtemp

import pytest
from mlflow import MlflowClient
from mlflow.entities import Run

from flows.settings import places_here
from neuromod_core.store import LocalStore, open_store
from neuromod_core.trial.archive import Archive
from tasks.lab import Places
from tasks.tracking import rebuilt
from tests.conftest import ROOT
from tests.flows.conftest import CONFIG
from tests.platform.server import free_block
from tests.platform.test_services import Service

# MLflow configures a relationship in a way that SQLAlchemy 2.1 deprecates.
pytestmark = pytest.mark.filterwarnings("ignore:The ``noload`` loader strategy is deprecated")
UNOPENED = ("plan.json", "data/", "commits/", "ledger/000000", "ledger/000001")


@pytest.fixture(scope="module")
def runs(closed: Archive, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A storage root with the study closed, and with the same study before unblinding under another name."""
    root = tmp_path_factory.mktemp("runs")
    for name, begins in (("tiny-closed", ("",)), ("tiny-open", UNOPENED)):
        store = LocalStore(root / name)
        for key in closed.store.keys(""):
            if key.startswith(begins):
                store.put_new(key, closed.store.get(key))
    done = LocalStore(root / "tiny-closed")
    done.put_new("report.html", b"<p>report</p>")
    done.put_new("figures/forest.png", b"png")
    return root


def shown(client: MlflowClient) -> dict[str, Run]:
    """Return every run by its name; fails if a name is there twice."""
    found = client.search_runs([one.experiment_id for one in client.search_experiments()])
    assert len({run.info.run_name for run in found}) == len(found)
    return {str(run.info.run_name): run for run in found}


def values(client: MlflowClient) -> dict[str, tuple[object, ...]]:
    """Return what MLflow shows of every run, names and times of its own left out."""
    return {
        name: (
            run.data.params,
            run.data.metrics,
            {k: v for k, v in run.data.tags.items() if not k.startswith("mlflow.")},
        )
        for name, run in shown(client).items()
    }


def only(places: Places, name: str) -> Places:
    return places_here(f"{places.runs}/{name}", places.tracking, cache=Path(places.cache))


def check(places: Places) -> dict[str, tuple[object, ...]]:
    """Record open study, then closed study, and all of it again; return what is shown."""
    client = MlflowClient(places.tracking)
    (before,) = rebuilt(only(places, "tiny-open"))
    assert before["state"] == "open"
    (alone,) = shown(client).values()
    assert alone.info.status == "RUNNING"
    said = f"{alone.to_dictionary()}"
    assert [arm for arm in CONFIG.arms if arm != "none" and arm in said] == [], "before unblinding nothing of arms"
    (after,) = rebuilt(only(places, "tiny-closed"))
    assert (after["state"], after["mlflow run"]) == ("closed", before["mlflow run"]), "one study, one run"
    first = values(client)
    assert len(first) == 1 + len(CONFIG.arms)
    assert rebuilt(only(places, "tiny-closed")) == [after]
    assert values(client) == first, "again changes nothing"
    run_id = str(after["mlflow run"])
    assert {file.path for file in client.list_artifacts(run_id)} == {
        "report.html", "plan.yaml", "model.json", "data", "figures",
    }  # fmt: skip
    assert client.get_run(run_id).info.status == "FINISHED"
    return first


def test_a_lost_database_is_made_again_from_the_records_alone(runs: Path, tmp_path: Path) -> None:
    first = check(places_here(str(runs), f"sqlite:///{tmp_path}/one.db", cache=tmp_path))
    second = check(places_here(str(runs), f"sqlite:///{tmp_path}/two.db", cache=tmp_path))
    assert first == second
    shutil.rmtree(runs / "mlartifacts")


@pytest.fixture
def server() -> Iterator[Service]:
    """MLflow on PostgreSQL with its files in a bucket, as `make up-pg` starts it."""
    if shutil.which("initdb") is None and not list(Path("/usr/lib/postgresql").glob("*/bin/initdb")):
        pytest.skip("no PostgreSQL on this machine (Debian: apt-get install postgresql)")
    for package in ("psycopg2", "boto3"):
        if find_spec(package) is None:
            pytest.skip(f"the package {package} is not installed")
    state = Path(mkdtemp(prefix="neuromod-", dir="/var/tmp"))  # PostgreSQL's own user must reach it
    state.chmod(0o755)
    ports = {"postgres": None, "s3": free_block(), "mlflow": None}
    services = [Service(name, state, port) for name, port in ports.items()]
    for service in services:
        service.environment |= {k: v for one in services for k, v in one.environment.items() if k.endswith("_PORT")}
    try:
        for service in services:
            service.start()
        yield services[-1]
    finally:
        for service in reversed(services):
            subprocess.run([ROOT / "infra" / f"{service.name}.sh", "stop"], env=service.environment, check=False)
        shutil.rmtree(state, ignore_errors=True)


def test_a_server_with_postgresql_and_a_bucket_shows_the_same(server: Service, runs: Path, tmp_path: Path) -> None:
    by_server = check(places_here(str(runs), server.address, cache=tmp_path))
    by_file = check(places_here(str(runs), f"sqlite:///{tmp_path}/one.db", cache=tmp_path))
    assert by_server == by_file
    assert not (runs / "mlartifacts").exists() or os.listdir(runs / "mlartifacts")
    assert open_store(str(runs / "tiny-closed")).holds("report.html")
