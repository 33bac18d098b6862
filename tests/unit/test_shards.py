"""Who takes which shard: all are taken, nearly none twice, whoever joins, dies or lags."""

from __future__ import annotations

import os
import platform
from collections import Counter
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from uuid import uuid4

import psutil
import pytest
from prefect.client.schemas.objects import FlowRun

from neuromod_core.kernel.rng import rng
from neuromod_core.store import MemoryStore
from tasks import shards
from tasks.lab import Run
from tasks.stale import LABEL, is_dead

SHARDS = 24


@dataclass
class Study:
    """A study of nothing but shards and their markers, in the place of a run."""

    store: MemoryStore = field(default_factory=MemoryStore)
    shards: int = SHARDS

    def archive(self) -> Study:
        return self

    def registration(self) -> Study:
        return self

    @property
    def plan(self) -> Study:
        return self

    def shard_id(self, _registration: object, number: int) -> str:
        return f"shard-{number:03d}"

    def commit(self, number: int) -> None:
        self.store.put_new(f"commits/{self.shard_id(self, number)}.json", b"{}")


def turns(study: Study, worker: str) -> object:
    run: Run = study  # type: ignore[assignment]
    return shards.turns(run, shards.missing(run), worker)


def test_one_worker_keeps_the_registered_order_and_resumes() -> None:
    study, taken = Study(), []
    for number in turns(study, "a"):  # type: ignore[attr-defined]
        taken.append(number)
        study.commit(number)
        if number == 9:
            break
    assert taken == list(range(10))
    for number in turns(study, "b"):  # type: ignore[attr-defined]
        taken.append(number)
        study.commit(number)
    assert sorted(taken) == list(range(SHARDS))


@pytest.mark.parametrize("count", [2, 3, 8])
@pytest.mark.parametrize("seed", range(5))
def test_whoever_dies_or_lags_every_shard_is_committed_and_few_are_done_twice(count: int, seed: int) -> None:
    """Workers advance in a random order; one in eight steps, the worker dies with its shard and another replaces it."""
    study, generator, taken = Study(), rng(seed, "who is next"), Counter[int]()
    workers = {f"{place}-0": turns(study, f"{place}-0") for place in range(count)}
    busy: dict[str, int] = {}
    deaths = 0
    for step in range(10_000):
        if not workers:
            break
        name = sorted(workers)[int(generator.integers(len(workers)))]
        if name in busy and deaths < 6 and generator.uniform() < 0.125:
            deaths += 1
            del workers[name], busy[name]
            workers[f"{name}-{step}"] = turns(study, f"{name}-{step}")
            continue
        if name in busy:
            study.commit(busy.pop(name))
        if (number := next(workers[name], None)) is None:  # type: ignore[call-overload]
            del workers[name]
            assert shards.missing(study) == [], "a worker ends when nothing is missing"  # type: ignore[arg-type]
        else:
            taken[number] += 1
            busy[name] = number
    assert not workers
    assert sorted(taken) == list(range(SHARDS))
    assert taken.total() <= SHARDS + deaths + count * count, "only what was begun and not committed is begun again"


def test_without_deaths_no_shard_is_begun_twice_while_others_are_free() -> None:
    study, taken = Study(), list[int]()
    pair = [turns(study, "a"), turns(study, "b")]
    while len(taken) < SHARDS:
        number = next(pair[len(taken) % 2])  # type: ignore[call-overload]
        taken.append(number)
        if len(taken) > 2:
            study.commit(taken[-3])
    assert sorted(taken) == list(range(SHARDS))


def flow_run(node: str, number: int, started: datetime) -> FlowRun:
    return FlowRun(flow_id=uuid4(), start_time=started, labels={LABEL: f"{node}:{number}"})


def test_a_run_is_dead_when_its_process_here_is_gone_or_younger_than_itself() -> None:
    here, mine = platform.node(), os.getpid()
    born = datetime.fromtimestamp(psutil.Process(mine).create_time(), UTC)
    free = next(number for number in range(2**22 - 1, 1, -1) if not psutil.pid_exists(number))
    assert not is_dead(flow_run(here, mine, born + timedelta(seconds=5)))
    assert is_dead(flow_run(here, mine, born - timedelta(hours=1))), "the number was given again"
    assert is_dead(flow_run(here, free, born))
    assert not is_dead(flow_run("elsewhere", free, born)), "not ours to say"
    assert not is_dead(FlowRun(flow_id=uuid4())), "a run that does not say where it is"
