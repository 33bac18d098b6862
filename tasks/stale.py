"""Flow runs whose process died without a word: a scheduler that was not told calls them running for ever.

Each of our flow runs records the machine and the process it runs in. Whoever starts next on that machine looks whether
the process is still there. Runs of other machines are left to those.
"""

from __future__ import annotations

import os
import platform
from collections.abc import Sequence

import psutil
from prefect import runtime
from prefect.client.orchestration import get_client
from prefect.client.schemas.filters import FlowRunFilter, FlowRunFilterState, FlowRunFilterStateType
from prefect.client.schemas.objects import FlowRun, StateType
from prefect.states import Cancelled

LABEL = "neuromod.process"
LIVE = [StateType.RUNNING, StateType.PENDING, StateType.CANCELLING]


def begin() -> None:
    """Cancel the runs of dead processes, and record in the current flow run in which process it runs."""
    cancel()
    sign()


def sign() -> None:
    """Record in the current flow run in which process it runs."""
    with get_client(sync_client=True) as client:
        client.update_flow_run_labels(runtime.flow_run.id, {LABEL: f"{platform.node()}:{os.getpid()}"})


def is_dead(run: FlowRun) -> bool:
    """Return whether a run that is called live was in a process of this machine that is gone.

    A process that is younger than the run is another one, to which the system gave the number again; one that ended and
    that its parent did not take note of is gone too.
    """
    node, _, number = str(run.labels.get(LABEL, "")).rpartition(":")
    if node != platform.node() or not number.isdecimal():
        return False
    try:
        process = psutil.Process(int(number))
        if process.status() == psutil.STATUS_ZOMBIE:
            return True
        began = process.create_time()
    except psutil.NoSuchProcess:
        return True
    return run.start_time is not None and began > run.start_time.timestamp() + 1.0


def cancel() -> Sequence[str]:
    """Cancel the runs of dead processes of this machine, and return their names."""
    wanted = FlowRunFilter(state=FlowRunFilterState(type=FlowRunFilterStateType(any_=LIVE)))
    with get_client(sync_client=True) as client:
        dead = [run for run in client.read_flow_runs(flow_run_filter=wanted) if is_dead(run)]
        for run in dead:
            why = f"The process of this run ({run.labels[LABEL]}) ended without a word; the same command resumes."
            client.set_flow_run_state(run.id, Cancelled(message=why), force=True)
    return [run.name for run in dead]


if __name__ == "__main__":
    for name in cancel():
        print(f"cancelled {name}: its process is gone")
