"""What serves and what runs: the services of `make up`, work pools and workers of Prefect, runs and their shards.

Nothing here raises because something is down: that is what is asked.
"""

from __future__ import annotations

import http.client
from collections.abc import Mapping
from pathlib import Path

import httpx
from prefect.client.orchestration import get_client
from prefect.client.schemas.filters import FlowRunFilter, FlowRunFilterState, FlowRunFilterStateType
from prefect.client.schemas.objects import StateType
from prefect.exceptions import PrefectHTTPStatusError
from prefect.settings import PREFECT_API_URL, temporary_settings

from neuromod_core.kernel.errors import NeuromodError
from neuromod_core.store import open_store
from neuromod_core.store.commits import committed
from neuromod_core.trial.archive import Archive
from tasks import stale
from tasks.records import runs_at
from tasks.stale import LIVE, is_dead

Row = Mapping[str, object]
PROBES = {"prefect": "/api/health", "mlflow": "/health", "s3": "/healthz", "postgres": None}
SECONDS = 2.0


def _row(kind: str, name: str, state: str, detail: str = "") -> Row:
    return {"kind": kind, "name": name, "state": state, "detail": detail}


def ports(state: Path) -> dict[str, int]:
    """Return the port of every service that was started here: what infra/service.sh wrote down."""
    return {file.stem: int(file.read_text("utf-8")) for file in sorted((state / ".services").glob("*.port"))}


def _answers(port: int, path: str) -> bool:
    """Return whether a server on loopback answers 200."""
    there = http.client.HTTPConnection("127.0.0.1", port, timeout=SECONDS)
    try:
        there.request("GET", path)
        return there.getresponse().status == 200
    except (OSError, http.client.HTTPException):
        return False
    finally:
        there.close()


def services(state: Path) -> list[Row]:
    """Return the services that this machine serves; one that was started and does not answer is `down`."""
    known, rows = ports(state), []
    for name, path in PROBES.items():
        if name not in known:
            rows.append(_row("service", name, "not started", "make up starts it" if path else "make up-pg starts it"))
        else:
            up = path is None or _answers(known[name], path)
            rows.append(_row("service", name, "up" if up else "down", f"127.0.0.1:{known[name]}"))
    return rows


def scheduled(state: Path, *, cancel: bool = False) -> list[Row]:
    """Return pools, workers and live flow runs, as the Prefect server of the environment or of this machine has them.

    cancel: cancel the runs of this machine whose process is gone, first.
    """
    address = PREFECT_API_URL.value()
    if address is None and "prefect" in (known := ports(state)):
        address = f"http://127.0.0.1:{known['prefect']}/api"
    if address is None:
        return []
    try:
        with temporary_settings({PREFECT_API_URL: address}):
            cancelled = stale.cancel() if cancel else []
            return [*(_row("flow run", name, "cancelled") for name in cancelled), *_scheduled()]
    except (httpx.HTTPError, PrefectHTTPStatusError) as error:
        return [_row("server", address, "no answer", str(error) or type(error).__name__)]


def _scheduled() -> list[Row]:
    rows, live = (
        [],
        FlowRunFilter(state=FlowRunFilterState(type=FlowRunFilterStateType(any_=[*LIVE, StateType.SCHEDULED]))),
    )
    with get_client(sync_client=True) as client:
        for pool in client.read_work_pools():
            rows.append(_row("pool", pool.name, "paused" if pool.is_paused else "open", pool.type))
            for worker in client.read_workers_for_work_pool(pool.name):
                heard = worker.last_heartbeat_time
                seen = "" if heard is None else f"last heard of at {heard:%Y-%m-%d %H:%M:%S} UTC"
                rows.append(_row("worker", worker.name, str(worker.status.value).lower(), f"pool {pool.name}; {seen}"))
        for run in client.read_flow_runs(flow_run_filter=live):
            state = "process is gone" if is_dead(run) else (run.state_name or "").lower()
            rows.append(_row("flow run", run.name, state, f"pool {run.work_pool_name or 'none'}"))
    return rows


def runs(root: str) -> list[Row]:
    """Return the runs below a storage root, with the shards of each that are done."""
    try:
        return [_standing(name, at) for name, at in runs_at(root).items()]
    except NeuromodError as error:
        return [_row("runs", root, "none", str(error))]


def _standing(name: str, at: str) -> Row:
    """Return how far a run is; a run that cannot be read is listed with the reason."""
    archive = Archive(open_store(at))
    try:
        plan, closed, done = archive.public(), archive.find("closed"), len(committed(archive.store))
    except NeuromodError as error:
        return _row("run", name, "unreadable", str(error))
    state = "closed" if closed is not None else "open"
    return _row("run", name, state, f"{done} of {plan.shards} shards, {plan.model}")
