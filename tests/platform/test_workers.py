"""Several workers share a registration: each does its part, no row counts twice, and the root hash is that of one."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest

from neuromod_core.store import open_store
from neuromod_core.store.commits import commits
from tests.platform.studies import SHARDS, Tiny, worker


def by_process(tiny: Tiny, at: str) -> Counter[str]:
    """Return how many shards each process committed."""
    markers = commits(open_store(tiny.run(at).folder())).values()
    return Counter(str(dict(marker.provenance["executed"])["process"]) for marker in markers)  # type: ignore[arg-type,call-overload]


@pytest.mark.parametrize("count", [2, 3])
def test_workers_share_a_registration(tiny: Tiny, alone: str, count: int, tmp_path: Path) -> None:
    at = tiny.copy(tmp_path / "runs")
    racers = [worker(tiny, at, tmp_path / f"{number}.txt") for number in range(count)]
    for process in racers:
        process.join(900)
    assert [process.exitcode for process in racers] == [0] * count
    assert [(tmp_path / f"{number}.txt").read_text("utf-8") for number in range(count)] == [alone] * count
    shares = by_process(tiny, at)
    assert sum(shares.values()) == SHARDS
    assert len(shares) == count
    assert min(shares.values()) >= SHARDS / (2 * count), f"a fair part, by half: {shares}"
