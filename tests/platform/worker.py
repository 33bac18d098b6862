"""A worker as a process of its own: `python -m tests.platform.worker STORE SHARDS [race]` says which shards it commits.

The rows of a shard follow from its number alone, as those of a real one follow from its registration.
"""

from __future__ import annotations

import os
import sys

import pyarrow as pa

from neuromod_core.kernel.errors import NeuromodError
from neuromod_core.store import MemoryStore, Store, open_store
from neuromod_core.store.commits import commit, commits, committed, read_table
from neuromod_core.store.compact import compact
from neuromod_core.store.tables import table

ROWS = 60


def name(shard: int) -> str:
    return f"shard-{shard:03d}"


def responses(shard: int) -> pa.Table:
    rows = [
        {
            "cell_code": f"{shard:03d}-{row:03d}", "instrument": "own", "item": f"i{row % 15}", "reading": "raw",
            "keyed_ll": -1.5 * row - shard, "antonym_ll": -2.0, "keyed_expressed_ll": None,
            "antonym_expressed_ll": None, "keyed_tokens": row, "antonym_tokens": 3,
            "options_raw": [0.5, float(row)], "options_expressed": None, "option_mass": 0.25,
            "option": None, "answer": None, "valid": True,
            "reason": None, "unvalidated": False,
        }
        for row in range(ROWS)
    ]  # fmt: skip
    return table("responses", rows)


def work(uri: str, shards: int, *, race: bool) -> None:
    """Commit what is missing; when racing, every shard, whoever has it."""
    store = open_store(uri)
    done = set() if race else set(committed(store))
    for shard in range(shards):
        if name(shard) not in done:
            commit(store, name(shard), tables={"responses": responses(shard)}, provenance={"worker": os.getpid()})
            print(name(shard), flush=True)


def root(store: Store, shards: int) -> str:
    """Close the dataset of a store in which every shard is committed; return its root hash."""
    markers = commits(store)
    assert sorted(markers) == [name(shard) for shard in range(shards)]
    rows = read_table(store, "responses", markers=markers)
    assert rows.num_rows == shards * ROWS
    return compact(store, {"responses": rows}).root


def undisturbed(shards: int) -> str:
    """Return the root hash of the same shards in a store to which nothing happens."""
    store = MemoryStore()
    for shard in range(shards):
        commit(store, name(shard), tables={"responses": responses(shard)}, provenance={})
    return root(store, shards)


if __name__ == "__main__":
    try:
        work(sys.argv[1], int(sys.argv[2]), race="race" in sys.argv[3:])
    except NeuromodError as error:
        print(f"{type(error).__name__}: {error}", file=sys.stderr)
        sys.exit(2)
