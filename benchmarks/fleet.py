"""A fleet of workers on one study, simulated event by event: how fast, how much waiting, how much money.

No time passes: the engine's time for a shard is drawn, and the store is a queue. What is simulated is what
`tasks/shards.py` does (a claim, the shard, a commit; backups at the end; killed workers that start again), and beside
it the obvious plan of asking for the list of claims first.

A request of a worker takes a round trip, and the store serves so many a second, in the order they come:

    done(t, m) = max(t + m x round trip, max(t, free) + m / rate + round trip)     for m requests one after the other
"""

from __future__ import annotations

import heapq
import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from random import Random

LISTED = 1000  # keys in one answer of a listing
CHUNK = 128  # refused claims that are one event
PLANS = ("one after the other", "from the list")


@dataclass(frozen=True)
class Fleet:
    """What is assumed.

    spread: of the log of a shard's time.  rate: requests a second that the store serves.  round_trip: seconds of one.
    killed: hours until a worker is killed, on average; it starts again after `restart` seconds.
    gpu_hour, million_requests: prices in dollars.  window: shards a worker chooses from, per worker.
    """

    workers: int
    plan: str = PLANS[0]
    cells: int = 1_000_000
    cells_per_shard: int = 24
    seconds: float = 60.0
    spread: float = 0.2
    commit_requests: int = 3
    rate: float = 3500.0
    round_trip: float = 0.015
    killed: float = 100.0
    restart: float = 60.0
    gpu_hour: float = 2.0
    million_requests: float = 5.0
    window: int = 2
    seed: int = 1

    @property
    def shards(self) -> int:
        return math.ceil(self.cells / self.cells_per_shard)


@dataclass
class Worker:
    """position: the first shard it has not tried to claim.  shard: what it works on.  ends: when it is killed."""

    number: int
    ends: float
    position: int = 0
    shard: int = -1


class Simulation:
    """The state of a fleet: who waits for what, which shards are claimed and committed, when the store is free."""

    def __init__(self, fleet: Fleet) -> None:
        self.fleet, self.random = fleet, Random(fleet.seed)
        self.free = 0.0  # when the store has nothing left to do
        self.requests = self.refused = self.commits = self.wasted = self.deaths = 0
        self.spent = {"engine": 0.0, "store": 0.0, "again": 0.0, "restart": 0.0}
        self.claimed, self.committed = bytearray(fleet.shards), bytearray(fleet.shards)
        self.next = 0  # all before it are claimed
        self.open: set[int] = set()  # claimed, not committed
        self.events: list[tuple[float, int, Callable[[float, Worker], None], Worker]] = []
        for number in range(fleet.workers):
            self.at(0.0, self.seek, Worker(number, self.life(0.0)))

    def life(self, now: float) -> float:
        return now + self.random.expovariate(1 / (3600 * self.fleet.killed))

    def at(self, time: float, act: Callable[[float, Worker], None], worker: Worker) -> None:
        heapq.heappush(self.events, (time, worker.number, act, worker))

    def ask(self, now: float, count: int) -> float:
        """Return when a worker has the answers to `count` requests, one after the other."""
        self.requests += count
        begun = max(now, self.free)
        self.free = begun + count / self.fleet.rate
        done = max(now + count * self.fleet.round_trip, self.free + self.fleet.round_trip)
        self.spent["store"] += done - now
        return done

    def run(self) -> float:
        """Return when the last shard was committed."""
        now = 0.0
        while self.commits < self.fleet.shards:
            now, _, act, worker = heapq.heappop(self.events)
            act(now, worker)
        return now

    def seek(self, now: float, worker: Worker) -> None:
        """Ask for claims until one is granted, or none is left."""
        while self.next < self.fleet.shards and self.claimed[self.next]:
            self.next += 1
        if self.next >= self.fleet.shards:
            self.back_up(now, worker)
        elif self.fleet.plan == PLANS[0]:
            count = min(max(0, self.next - worker.position) + 1, CHUNK)
            worker.position += count
            self.at(self.ask(now, count), self.answered, worker)
        else:
            worker.position = self.unclaimed() + 1
            self.at(self.ask(now, 1 + math.ceil(self.next / LISTED)), self.answered, worker)

    def unclaimed(self) -> int:
        """Return one of the next unclaimed shards, as a worker that has just read the list would choose it."""
        end = min(self.fleet.shards, self.next + self.fleet.window * self.fleet.workers + 1)
        for _ in range(CHUNK):
            if not self.claimed[chosen := self.random.randrange(self.next, end)]:
                return chosen
        return self.next

    def answered(self, now: float, worker: Worker) -> None:
        last = worker.position - 1
        if last < self.fleet.shards and not self.claimed[last]:
            self.claimed[last] = 1
            self.open.add(last)
            self.begin(now, worker, last)
        else:
            self.refused += 1
            self.seek(now, worker)

    def back_up(self, now: float, worker: Worker) -> None:
        """Take a shard that another began and did not commit."""
        if self.open:
            shard = self.random.choice(sorted(self.open))
            self.begin(self.ask(now, math.ceil(self.fleet.shards / LISTED)), worker, shard)

    def begin(self, now: float, worker: Worker, shard: int) -> None:
        fleet, worker.shard = self.fleet, shard
        taken = fleet.seconds * self.random.lognormvariate(-(fleet.spread**2) / 2, fleet.spread)
        if now + taken > worker.ends:
            self.deaths += 1
            self.spent["again"] += max(0.0, worker.ends - now)
            again = max(now, worker.ends) + fleet.restart
            self.spent["restart"] += fleet.restart
            worker.position, worker.ends = max(0, self.next - len(self.open)), self.life(again)
            self.at(again, self.seek, worker)
        else:
            self.spent["engine"] += taken
            self.at(now + taken, self.commit, worker)

    def commit(self, now: float, worker: Worker) -> None:
        self.at(self.ask(now, self.fleet.commit_requests), self.counted, worker)

    def counted(self, now: float, worker: Worker) -> None:
        if self.committed[worker.shard]:
            self.wasted += 1
        else:
            self.committed[worker.shard] = 1
            self.open.discard(worker.shard)
            self.commits += 1
        self.seek(now, worker)


Figures = dict[str, float | int | str]


def simulate(fleet: Fleet) -> Figures:
    """Return what a fleet does."""
    state = Simulation(fleet)
    wall = state.run()
    ideal = fleet.shards * fleet.seconds / fleet.workers
    money = fleet.workers * wall / 3600 * fleet.gpu_hour
    return {
        "workers": fleet.workers,
        "plan": fleet.plan,
        "hours": wall / 3600,
        "cells per second": fleet.cells / wall,
        "efficiency": ideal / wall,
        "waiting for the store": state.spent["store"] / (wall * fleet.workers),
        "requests": state.requests,
        "requests per second": state.requests / wall,
        "store busy": state.requests / wall / fleet.rate,
        "shards done twice": state.wasted,
        "workers killed": state.deaths,
        "dollars, GPUs": money,
        "dollars, requests": state.requests / 1e6 * fleet.million_requests,
    }


def curve(base: Fleet, workers: Iterable[int]) -> list[Figures]:
    """Return the figures of both plans for fleets of several sizes."""
    return [simulate(replace(base, workers=count, plan=plan)) for plan in PLANS for count in workers]


def draw(rows: list[Figures], base: Fleet, path: Path) -> None:
    """Write the picture: throughput, waiting and money over the size of the fleet."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot as plt

    colours = dict(zip(PLANS, ("#d55e00", "#0b66a8"), strict=True))
    figure, (left, middle, right) = plt.subplots(1, 3, figsize=(11.5, 3.9), dpi=140)
    for plan in PLANS:
        own = [row for row in rows if row["plan"] == plan]
        sizes, colour = [row["workers"] for row in own], colours[plan]
        left.plot(sizes, [row["cells per second"] for row in own], "o-", ms=4, color=colour, label=f"claims {plan}")
        middle.plot(sizes, [100 * float(row["waiting for the store"]) for row in own], "o-", ms=4, color=colour)
        cost = [float(row["dollars, GPUs"]) + float(row["dollars, requests"]) for row in own]
        right.plot(sizes, cost, "o-", ms=4, color=colour)
    sizes = sorted({int(row["workers"]) for row in rows})
    left.plot(
        sizes, [base.cells_per_shard / base.seconds * size for size in sizes], ":", color="#7f8790", label="ideal"
    )
    left.set(ylabel="cells per second", title="throughput", xscale="log", yscale="log")
    middle.set(ylabel="% of a worker's time", title="waiting for the store", xscale="log")
    right.set(ylabel="dollars", title=f"{base.cells:,} cells: GPUs and requests", xscale="log")
    for axes in (middle, right):
        axes.set_ylim(bottom=0)
    for axes in (left, middle, right):
        axes.set_xticks(sizes, [str(size) for size in sizes])
        axes.minorticks_off()
        axes.set_xlabel("workers")
        axes.spines[["top", "right"]].set_visible(False)
        axes.grid(axis="y", color="#e5e8ec")
    left.legend(frameon=False, loc="upper left")
    figure.tight_layout()
    figure.savefig(path)
    plt.close(figure)
