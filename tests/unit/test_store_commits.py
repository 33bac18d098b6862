"""Commits and datasets: exactly once, whatever fails and wherever, and nothing changed goes unnoticed."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from threading import Barrier, Thread

import pyarrow as pa
import pytest

from neuromod_core.kernel.errors import (
    DataError,
    IntegrityError,
    NeuromodError,
    NonDeterminism,
    StorageFull,
    StorageReadOnly,
    StorageUnavailable,
    UnknownName,
)
from neuromod_core.kernel.types import digest
from neuromod_core.store import LocalStore, MemoryStore, Store
from neuromod_core.store.commits import commit, commits, read_table
from neuromod_core.store.compact import compact, read_manifest, verify_manifest
from neuromod_core.store.tables import SORT_KEYS, ordered, table

KINDS: dict[str, Callable[[Path], Store]] = {"local": LocalStore, "memory": lambda _: MemoryStore()}


@pytest.fixture(params=KINDS)
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Store:
    return KINDS[request.param](tmp_path / "run")


@dataclass(frozen=True)
class FailingStore:
    """A store that refuses every call for which `fail_on(method, key)` holds; `after` lets a write happen first."""

    inner: Store
    fail_on: Callable[[str, str], bool]
    error: NeuromodError
    after: bool = False

    def __str__(self) -> str:
        return f"failing {self.inner}"

    def get(self, key: str) -> bytes:
        self._check("get", key)
        return self.inner.get(key)

    def put_new(self, key: str, data: bytes) -> bool:
        if self.after:
            self.inner.put_new(key, data)
        self._check("put_new", key)
        return self.inner.put_new(key, data)

    def keys(self, prefix: str) -> tuple[str, ...]:
        self._check("keys", prefix)
        return self.inner.keys(prefix)

    def holds(self, key: str) -> bool:
        self._check("holds", key)
        return self.inner.holds(key)

    def _check(self, method: str, key: str) -> None:
        if self.fail_on(method, key):
            raise self.error


def gates(*codes: int, state: str = "pass") -> pa.Table:
    rows = [{"code": f"G{code}", "title": "t", "state": state, "evidence": "e"} for code in codes]
    return table("gates", rows)


def codes(rows: pa.Table) -> list[str]:
    return [str(code) for code in rows.column("code").to_pylist()]


def tampered(store: Store, key: str, data: bytes) -> MemoryStore:
    """Return a copy of `store` in which `key` holds `data`."""
    copy = MemoryStore()
    for other in store.keys(""):
        copy.put_new(other, data if other == key else store.get(other))
    return copy


def flipped(data: bytes, at: int) -> bytes:
    return data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :]


def test_committed_rows_are_read_back_with_their_provenance(store: Store) -> None:
    marker = commit(store, "s1", tables={"gates": gates(2, 1)}, provenance={"worker": "a", "seconds": 1.5})
    assert commits(store) == {"s1": marker}
    assert marker.provenance == {"worker": "a", "seconds": 1.5}
    assert marker.files["gates"].rows == 2
    assert codes(read_table(store, "gates", markers=commits(store))) == ["G1", "G2"]


def test_a_table_nobody_committed_is_empty(store: Store) -> None:
    rows = read_table(store, "cells", markers=commits(store))
    assert rows.equals(table("cells", []))
    with pytest.raises(UnknownName):
        read_table(store, "cell", markers={})


def test_rows_do_not_depend_on_how_they_were_divided(store: Store) -> None:
    for shard, part in {"b": gates(1, 4), "a": gates(3), "c": gates(2)}.items():
        commit(store, shard, tables={"gates": part}, provenance={})
    assert list(commits(store)) == ["a", "b", "c"]
    assert read_table(store, "gates", markers=commits(store)).equals(ordered(gates(4, 3, 2, 1), SORT_KEYS["gates"]))


def test_a_second_commit_of_the_same_rows_is_the_first(store: Store) -> None:
    first = commit(store, "s1", tables={"gates": gates(1, 2)}, provenance={"worker": "a"})
    keys = store.keys("")
    assert commit(store, "s1", tables={"gates": gates(2, 1)}, provenance={"worker": "b"}) == first
    assert store.keys("") == keys


def test_a_second_commit_of_other_rows_is_an_alarm(store: Store) -> None:
    first = commit(store, "s1", tables={"gates": gates(1)}, provenance={})
    keys = store.keys("")
    other = commit(MemoryStore(), "s1", tables={"gates": gates(1, state="fail")}, provenance={})
    with pytest.raises(NonDeterminism) as caught:
        commit(store, "s1", tables={"gates": gates(1, state="fail")}, provenance={})
    assert str(caught.value) == (
        f"Shard 's1' gave two results: table 'gates' was written as {first.files['gates'].sha256} (1 rows), "
        f"and is now {other.files['gates'].sha256} (1 rows). (store {store})"
    )
    assert store.keys("") == keys
    with pytest.raises(NonDeterminism, match="table 'cells' was written as no such table, and is now"):
        commit(store, "s1", tables={"gates": gates(1), "cells": table("cells", [])}, provenance={})


@pytest.mark.parametrize("agree", [True, False])
def test_of_eight_committers_one_is_believed_by_all(store: Store, agree: bool) -> None:
    start, believed, alarms = Barrier(8), [], []

    def run(worker: int) -> None:
        rows = gates(1, state="pass" if agree else f"worker {worker}")
        start.wait()
        try:
            believed.append(commit(store, "s1", tables={"gates": rows}, provenance={"worker": worker}))
        except NonDeterminism as alarm:
            alarms.append(alarm)

    workers = [Thread(target=run, args=(worker,)) for worker in range(8)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert (len(believed), len(alarms)) == ((8, 0) if agree else (1, 7))
    assert all(marker == commits(store)["s1"] for marker in believed)
    assert read_table(store, "gates", markers=commits(store)).num_rows == 1


@pytest.mark.parametrize("error", [StorageFull("full"), StorageReadOnly("read only"), StorageUnavailable("gone")])
@pytest.mark.parametrize("after", [False, True])
@pytest.mark.parametrize("folder", ["data/", "commits/"])
def test_whatever_fails_a_shard_counts_once_or_not_at_all(
    store: Store, folder: str, after: bool, error: NeuromodError
) -> None:
    failing = FailingStore(
        store, lambda method, key: method == "put_new" and key.startswith(folder), error, after=after
    )
    with pytest.raises(type(error)):
        commit(failing, "s1", tables={"gates": gates(1), "cells": table("cells", [])}, provenance={"try": 1})
    counted = after and folder == "commits/"
    assert list(commits(store)) == (["s1"] if counted else [])
    again = commit(store, "s1", tables={"gates": gates(1), "cells": table("cells", [])}, provenance={"try": 2})
    assert again.provenance == {"try": 1 if counted else 2}
    assert read_table(store, "gates", markers=commits(store)).equals(gates(1))


def test_an_unreadable_store_is_not_an_empty_one(store: Store) -> None:
    commit(store, "s1", tables={"gates": gates(1)}, provenance={})
    failing = FailingStore(store, lambda method, _: method == "keys", StorageUnavailable("gone"))
    with pytest.raises(StorageUnavailable):
        commits(failing)


def test_a_shard_that_breaks_a_schema_writes_nothing(store: Store) -> None:
    with pytest.raises(DataError, match=r"Table 'cells' has the columns \(code string given"):
        commit(store, "s1", tables={"cells": gates(1)}, provenance={})
    with pytest.raises(DataError, match="2 rows have the key"):
        commit(store, "s1", tables={"gates": gates(1, 1)}, provenance={})
    assert store.keys("") == ()


def test_one_row_in_two_shards_is_refused(store: Store) -> None:
    for shard in ("a", "b"):
        commit(store, shard, tables={"gates": gates(1)}, provenance={})
    with pytest.raises(DataError, match=r"2 rows have the key \(code = 'G1'\)"):
        read_table(store, "gates", markers=commits(store))


def test_any_flipped_byte_of_a_data_file_is_detected() -> None:
    store = MemoryStore()
    commit(store, "s1", tables={"gates": gates(1)}, provenance={})
    (key,) = store.keys("data/")
    data = store.get(key)
    for at in range(0, len(data), 37):
        with pytest.raises(IntegrityError) as caught:
            read_table(tampered(store, key, flipped(data, at)), "gates", markers=commits(store))
        assert str(caught.value) == (
            f"File {key!r} has the SHA-256 {digest(flipped(data, at))}; {digest(data)} was committed. (store in memory)"
        )


def test_a_data_file_spoiled_before_its_commit_is_detected() -> None:
    store = MemoryStore()
    commit(store, "s1", tables={"gates": gates(1)}, provenance={})
    (key,) = store.keys("data/")
    spoiled = MemoryStore()
    spoiled.put_new(key, b"spoiled")
    with pytest.raises(IntegrityError, match=f"File '{key}' has the SHA-256 {digest(b'spoiled')}; "):
        commit(spoiled, "s1", tables={"gates": gates(1)}, provenance={})
    assert commits(spoiled) == {}


def test_a_missing_data_file_is_detected() -> None:
    store, copy = MemoryStore(), MemoryStore()
    commit(store, "s1", tables={"gates": gates(1)}, provenance={})
    copy.put_new("commits/s1.json", store.get("commits/s1.json"))
    with pytest.raises(IntegrityError, match="Nothing is kept under 'data/"):
        read_table(copy, "gates", markers=commits(copy))


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"shard_id": "s2"}, "names the shard 's2'"),
        ({"extra": 1}, "must hold shard_id, files, provenance"),
        ({"files": {"gates": {"sha256": "../../x", "rows": 1}}}, "is not a file's record"),
        ({"files": {"gates": {"sha256": "0" * 64}}}, "is not a file's record"),
        ({"files": [], "provenance": None}, "must hold"),
    ],
)
def test_a_marker_of_another_form_is_refused(change: dict[str, object], says: str) -> None:
    store = MemoryStore()
    commit(store, "s1", tables={"gates": gates(1)}, provenance={})
    body = {**json.loads(store.get("commits/s1.json")), **change}
    with pytest.raises(IntegrityError, match=says) as caught:
        commits(tampered(store, "commits/s1.json", json.dumps(body).encode()))
    assert "commits/s1.json, store in memory" in str(caught.value)


@pytest.mark.parametrize("data", [b"", b"{", b"\xff", b"[]"])
def test_a_marker_that_is_not_an_object_is_refused(data: bytes) -> None:
    store = MemoryStore()
    store.put_new("commits/s1.json", data)
    with pytest.raises(IntegrityError, match="The marker of shard 's1' "):
        commits(store)


def test_a_marker_may_not_promise_other_rows_than_its_file() -> None:
    store = MemoryStore()
    commit(store, "s1", tables={"gates": gates(1)}, provenance={})
    body = store.get("commits/s1.json")
    fewer = tampered(store, "commits/s1.json", body.replace(b'"rows":1', b'"rows":2'))
    with pytest.raises(IntegrityError, match="has 1 rows; 2 were committed"):
        read_table(fewer, "gates", markers=commits(fewer))
    renamed = tampered(store, "commits/s1.json", body.replace(b'"gates"', b'"cells"'))
    with pytest.raises(IntegrityError, match="does not follow the schema of the table 'cells'"):
        read_table(renamed, "cells", markers=commits(renamed))


def test_a_dataset_is_the_same_whatever_the_shards(store: Store) -> None:
    other = MemoryStore()
    for shard, part in {"a": gates(3, 1), "b": gates(2)}.items():
        commit(store, shard, tables={"gates": part}, provenance={})
    commit(other, "c", tables={"gates": gates(2, 3, 1)}, provenance={})
    made = [compact(at, {"gates": read_table(at, "gates", markers=commits(at))}) for at in (store, other)]
    assert made[0] == made[1]
    assert len(made[0].root) == 64
    assert store.get("dataset/gates.parquet") == other.get("dataset/gates.parquet")
    assert store.get("dataset/manifest.json") == other.get("dataset/manifest.json")


def test_compacting_again_changes_nothing(store: Store) -> None:
    first = compact(store, {"gates": gates(1, 2), "cells": table("cells", [])})
    keys = store.keys("")
    assert compact(store, {"cells": table("cells", []), "gates": gates(2, 1)}) == first
    assert store.keys("") == keys == ("dataset/cells.parquet", "dataset/gates.parquet", "dataset/manifest.json")
    assert verify_manifest(store) == read_manifest(store) == first


def test_a_closed_dataset_takes_no_other_rows(store: Store) -> None:
    held = compact(store, {"gates": gates(1)}).files["gates"]
    now = compact(MemoryStore(), {"gates": gates(2)}).files["gates"]
    with pytest.raises(IntegrityError) as caught:
        compact(store, {"gates": gates(2)})
    assert str(caught.value) == (
        f"The dataset is closed: table 'gates' was written as {held}, and is now {now}. (store {store})"
    )
    with pytest.raises(IntegrityError, match="table 'cells' was written as no such table"):
        compact(store, {"gates": gates(1), "cells": table("cells", [])})
    assert verify_manifest(store).files == {"gates": held}


@pytest.mark.parametrize("key", ["dataset/cells.parquet", "dataset/gates.parquet", "dataset/manifest.json"])
def test_an_interrupted_compaction_is_finished_by_the_next(store: Store, key: str) -> None:
    tables = {"gates": gates(1), "cells": table("cells", [])}
    failing = FailingStore(store, lambda method, at: (method, at) == ("put_new", key), StorageFull("full"))
    with pytest.raises(StorageFull):
        compact(failing, tables)
    with pytest.raises(IntegrityError, match=r"Nothing is kept under 'dataset/manifest\.json'"):
        verify_manifest(store)
    assert compact(store, tables) == verify_manifest(store)


def test_any_flipped_byte_of_a_dataset_is_detected() -> None:
    store = MemoryStore()
    compact(store, {"gates": gates(1, 2)})
    for key in store.keys("dataset/"):
        data = store.get(key)
        for at in range(0, len(data), 11):
            with pytest.raises(IntegrityError, match=r"manifest|SHA-256|record"):
                verify_manifest(tampered(store, key, flipped(data, at)))


def test_a_changed_dataset_file_is_named_with_both_hashes() -> None:
    store = MemoryStore()
    promised = compact(store, {"gates": gates(1)}).files["gates"].sha256
    with pytest.raises(IntegrityError) as caught:
        verify_manifest(tampered(store, "dataset/gates.parquet", b"other"))
    assert str(caught.value) == (
        f"File 'dataset/gates.parquet' has the SHA-256 {digest(b'other')}; {promised} was committed. (store in memory)"
    )


def test_an_unlisted_table_in_the_dataset_is_detected(store: Store) -> None:
    compact(store, {"gates": gates(1)})
    store.put_new("dataset/scores.parquet", b"slipped in")
    with pytest.raises(
        IntegrityError, match=r"File 'dataset/scores\.parquet' is in the dataset, but not in its manifest"
    ):
        verify_manifest(store)


@pytest.mark.parametrize("body", [{"files": {}}, {"files": {}, "root": "0" * 64}, {"files": {}, "root": 1}, []])
def test_a_manifest_of_another_form_is_refused(body: object) -> None:
    store = MemoryStore()
    store.put_new("dataset/manifest.json", json.dumps(body).encode())
    with pytest.raises(IntegrityError, match=r"The manifest .*\(dataset/manifest\.json, store in memory\)"):
        read_manifest(store)
