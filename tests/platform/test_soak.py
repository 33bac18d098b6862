"""Workers of tiny studies are killed at random moments, again and again: the study that comes out is always the same.

NEUROMOD_KILLS says how often (20; `make soak`: 200).
"""

from __future__ import annotations

import os
import time
from pathlib import Path

from neuromod_core.kernel.rng import rng
from tests.platform.studies import SHARDS, Tiny, ended, worker

KILLS = int(os.environ.get("NEUROMOD_KILLS", "20"))
PAIRS = 5
SECONDS = 1.5
"""The longest life of a worker that is to be killed: about that of a study on a machine with nothing else to do."""


def test_whatever_is_killed_whenever_the_study_is_the_same(tiny: Tiny, alone: str, tmp_path: Path) -> None:
    moments, kills, studies = rng(20261124, "soak").uniform(0.0, SECONDS, size=10 * KILLS), 0, 0
    while kills < KILLS:
        at, says, done = tiny.copy(tmp_path / str(studies)), tmp_path / "says.txt", set[str]()
        studies += 1
        for life in range(PAIRS):
            pair = [worker(tiny, at, says) for _ in range(1 + life % 2)]
            time.sleep(moments[kills])
            for process in pair:
                kills += process.is_alive()
                process.kill()
                process.join()
            now = tiny.done(at)
            assert done <= now, "a committed shard was lost"
            done = now
        assert ended(worker(tiny, at, says), says) == (0, alone)
        assert len(tiny.done(at)) == SHARDS
    print(f"{kills} kills over {studies} studies, one root hash: {alone}")
