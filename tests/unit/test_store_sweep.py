"""Files that no marker names: found, spared while young, removed, and put back if somebody came to need them."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from neuromod_core.kernel.errors import IntegrityError, OutOfRange, StorageUnavailable
from neuromod_core.store import LocalStore
from neuromod_core.store.commits import commit, commits, data_key, read_table
from neuromod_core.store.files import packed
from neuromod_core.store.protocol import Entry
from neuromod_core.store.sweep import DAY, Orphan, orphans, sweep
from tests.unit.test_store_commits import FailingStore, codes, gates

NOW = 1_000_000.0


@dataclass(frozen=True)
class WatchedStore:
    """A store in which something happens right before or after a key is removed."""

    inner: LocalStore
    before: Callable[[], object] = lambda: None
    after: Callable[[], object] = lambda: None
    removed: list[str] = field(default_factory=list)

    def get(self, key: str) -> bytes:
        return self.inner.get(key)

    def put_new(self, key: str, data: bytes) -> bool:
        return self.inner.put_new(key, data)

    def keys(self, prefix: str) -> tuple[str, ...]:
        return self.inner.keys(prefix)

    def holds(self, key: str) -> bool:
        return self.inner.holds(key)

    def entries(self, prefix: str) -> Mapping[str, Entry]:
        return self.inner.entries(prefix)

    def remove(self, key: str) -> None:
        self.before()
        self.inner.remove(key)
        self.removed.append(key)
        self.after()


@pytest.fixture
def store(tmp_path: Path) -> LocalStore:
    return LocalStore(tmp_path)


def abandoned(store: LocalStore, code: int) -> str:
    """Leave what a worker leaves that dies between file and marker; return its key."""
    dying = FailingStore(
        store, lambda method, key: key.startswith("commits/") and method == "put_new", StorageUnavailable("x")
    )
    with pytest.raises(StorageUnavailable):
        commit(dying, f"s{code}", tables={"gates": gates(code)}, provenance={})
    return data_key(packed({"gates": gates(code)})["gates"][0])


def aged(store: LocalStore, seconds: float) -> None:
    for key in store.keys(""):
        os.utime(store.root / key, (NOW - seconds, NOW - seconds))


def test_only_old_files_without_a_marker_are_orphans(store: LocalStore) -> None:
    commit(store, "s1", tables={"gates": gates(1)}, provenance={})
    key = abandoned(store, 2)
    size = len(store.get(key))
    aged(store, DAY + 1)
    young = abandoned(store, 3)
    os.utime(store.root / young, (NOW - DAY + 1, NOW - DAY + 1))
    assert orphans(store, now=NOW) == (Orphan(key, DAY + 1, size),)
    assert {orphan.key for orphan in orphans(store, now=NOW, grace=0)} == {key, young}
    assert store.holds(key), "looking removes nothing"


def test_a_sweep_removes_them_and_nothing_else(store: LocalStore) -> None:
    commit(store, "s1", tables={"gates": gates(1)}, provenance={})
    keys = store.keys("")
    for code in range(2, 80):
        abandoned(store, code)
    aged(store, 2 * DAY)
    found = orphans(store, now=NOW)
    assert len(found) == 78
    assert sweep(store, found) == found
    assert store.keys("") == keys
    assert orphans(store, now=NOW) == sweep(store, ()) == ()


def test_a_shard_that_needs_the_file_again_gets_it(store: LocalStore) -> None:
    abandoned(store, 2)
    aged(store, 2 * DAY)
    sweep(store, orphans(store, now=NOW))
    commit(store, "s2", tables={"gates": gates(2)}, provenance={})
    assert codes(read_table(store, "gates", markers=commits(store))) == ["G2"]


def test_a_marker_that_comes_just_before_the_removal_gets_its_file_back(store: LocalStore) -> None:
    abandoned(store, 2)
    aged(store, 2 * DAY)
    watched = WatchedStore(store, before=lambda: commit(store, "s2", tables={"gates": gates(2)}, provenance={}))
    assert sweep(watched, orphans(store, now=NOW)) == ()
    assert watched.removed
    assert codes(read_table(store, "gates", markers=commits(store))) == ["G2"]


def test_a_worker_whose_file_is_swept_under_its_hands_writes_it_again(store: LocalStore) -> None:
    key = abandoned(store, 2)
    sweeping = FailingStore(
        store, lambda method, at: bool(method == "holds" and at == key and store.remove(key)), OutOfRange()
    )
    commit(sweeping, "s2", tables={"gates": gates(2)}, provenance={})
    assert codes(read_table(store, "gates", markers=commits(store))) == ["G2"]


def test_a_lost_file_of_a_committed_shard_comes_back_with_the_shard(store: LocalStore) -> None:
    first = commit(store, "s1", tables={"gates": gates(1)}, provenance={"worker": 1})
    store.remove(data_key(first.files["gates"]))
    assert commit(store, "s1", tables={"gates": gates(1)}, provenance={"worker": 2}) == first
    assert codes(read_table(store, "gates", markers=commits(store))) == ["G1"]


def test_with_an_unreadable_marker_nothing_is_an_orphan(store: LocalStore) -> None:
    abandoned(store, 2)
    store.put_new("commits/s1.json", b"{")
    with pytest.raises(IntegrityError, match="The marker of shard 's1' is not JSON"):
        orphans(store, now=NOW, grace=0)


@pytest.mark.parametrize("grace", [-1.0, float("nan")])
def test_a_grace_period_is_not_negative(store: LocalStore, grace: float) -> None:
    with pytest.raises(OutOfRange, match="allowed is 0 or more"):
        orphans(store, now=NOW, grace=grace)


def test_entries_tell_time_and_size(store: LocalStore) -> None:
    store.put_new("data/a", b"123")
    store.put_new("other/b", b"")
    aged(store, 5)
    assert store.entries("data/") == {"data/a": Entry(NOW - 5, 3)}
    store.remove("data/a")
    store.remove("data/a")
    assert store.entries("data/") == {}
