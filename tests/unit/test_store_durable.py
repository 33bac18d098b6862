"""What a power cut may leave: every wait for the disk is there, in order, and there is none too many."""

from __future__ import annotations

import os
from pathlib import Path

import pyarrow as pa
import pytest

from neuromod_core.kernel.errors import IntegrityError, StorageError
from neuromod_core.store import LocalStore, MemoryStore
from neuromod_core.store.commits import commit
from neuromod_core.store.staging import staged
from neuromod_core.store.tables import SCHEMAS, table
from neuromod_core.store.views import copy_to, show, show_folder
from tests.platform.worker import responses

Event = tuple[str, str]


@pytest.fixture
def events(monkeypatch: pytest.MonkeyPatch) -> list[Event]:
    """What is asked of the disk: (what, path), in order."""
    seen: list[Event] = []
    fsync, link = os.fsync, os.link

    def synced(handle: int) -> None:
        fsync(handle)
        seen.append(("sync", os.readlink(f"/proc/self/fd/{handle}")))

    def linked(source: Path, final: Path) -> None:
        link(source, final)
        seen.append(("link", str(final)))

    monkeypatch.setattr(os, "fsync", synced)
    monkeypatch.setattr(os, "link", linked)
    return seen


def tables() -> dict[str, pa.Table]:
    assert "generations" in SCHEMAS
    return {"responses": responses(0), "generations": table("generations", [])}


@pytest.fixture
def store(tmp_path: Path) -> LocalStore:
    found = LocalStore(tmp_path)
    for folder in ("data", "commits"):  # a study's first commit makes them; that is not counted here
        (tmp_path / folder).mkdir()
    return found


def test_a_commit_waits_for_each_file_and_each_folder_once(store: LocalStore, events: list[Event]) -> None:
    commit(store, "s", tables=tables(), provenance={})
    syncs = [Path(path) for what, path in events if what == "sync"]
    assert len(syncs) == 5, "two files, their marker, and two folders"
    assert [path.relative_to(store.root).as_posix() for path in syncs[3:]] == ["data", "commits"]


def test_nothing_is_named_before_it_is_on_the_disk_and_the_marker_comes_last(
    store: LocalStore, events: list[Event]
) -> None:
    commit(store, "s", tables=tables(), provenance={})
    links = [number for number, (what, _) in enumerate(events) if what == "link"]
    contents, (folder, marker) = events[: links[0]], (events[links[-1] - 1], events[links[-1]])
    assert len(contents) == 3, "what the files and the marker hold is durable before any of them has its name"
    assert [Path(path).parent.name for what, path in contents].count("data") == 2
    assert folder == ("sync", str(store.root / "data")), "the names of the files are durable before"
    assert marker == ("link", str(store.root / "commits" / "s.json"))
    assert events[-1] == ("sync", str(store.root / "commits"))


def test_a_file_of_a_dead_writer_is_made_durable_before_a_marker_names_it(
    store: LocalStore, events: list[Event]
) -> None:
    commit(store, "s", tables=tables(), provenance={})
    store.remove("commits/s.json")
    events.clear()
    commit(store, "s", tables=tables(), provenance={})
    names = [Path(path).name for what, path in events if what == "sync"]
    assert names[-2:] == ["data", "commits"]


def test_what_is_staged_is_invisible_until_it_is_put_and_leaves_nothing(store: LocalStore) -> None:
    with staged(store, {"data/a": b"1", "data/b": b"2", "commits/c": b"3"}) as put:
        assert store.keys("") == ()
        assert put("data/a") == {"data/a"}
        assert store.keys("") == ("data/a",)
        assert put("data/a", "commits/c") == {"commits/c"}
    assert store.keys("") == ("commits/c", "data/a")
    assert not list(store.root.rglob(".*"))


@pytest.mark.parametrize("kind", ["local", "memory"])
def test_a_key_that_exists_is_not_overwritten_by_staging(kind: str, store: LocalStore) -> None:
    place = store if kind == "local" else MemoryStore()
    place.put_new("a", b"first")
    with staged(place, {"a": b"second", "b": b"new"}) as put:
        assert put("a", "b") == {"b"}
    assert place.get("a") == b"first"


def test_an_orphan_with_other_bytes_stops_the_commit_before_its_marker(store: LocalStore) -> None:
    made = commit(store, "s", tables=tables(), provenance={})
    key = f"data/{made.files['responses'].sha256}.parquet"
    for gone in (key, "commits/s.json"):
        store.remove(gone)
    store.put_new(key, b"torn")
    with pytest.raises(IntegrityError, match="was to be written"):
        commit(store, "s", tables=tables(), provenance={})
    assert not store.holds("commits/s.json")


def test_an_error_while_staging_leaves_nothing(store: LocalStore) -> None:
    (store.root / "file").write_bytes(b"")
    with pytest.raises(StorageError, match="A file stands where a folder is needed"):  # noqa: SIM117
        with staged(store, {"data/a": b"1", "file/b": b"2"}):
            pass
    assert store.keys("") == ("file",)
    assert not list(store.root.rglob(".*"))


# ----------------------------------------------------------------------------------------------------------- the views


def test_a_view_takes_the_place_of_an_older_one(store: LocalStore) -> None:
    assert show(store, "report.html", b"old")
    assert not show(store, "report.html", b"old"), "nothing is written again"
    assert show(store, "report.html", b"new")
    assert store.get("report.html") == b"new"


@pytest.mark.parametrize("key", ["plan.json", "ledger/000000.json", "data/x.parquet", "opened/allocation.json"])
def test_a_record_is_never_shown_over(store: LocalStore, key: str) -> None:
    store.put_new(key, b"record")
    with pytest.raises(StorageError, match="is a record, which is never replaced"):
        show(store, key, b"other")
    assert store.get(key) == b"record"


def test_a_folder_is_shown_and_copied_back_and_the_last_comes_last(store: LocalStore, tmp_path: Path) -> None:
    made = tmp_path / "made"
    (made / "figures").mkdir(parents=True)
    (made / "figures" / "a.png").write_bytes(b"1")
    (made / "report.html").write_bytes(b"2")
    (made / "z.md").write_bytes(b"3")
    order: list[str] = []

    class Watched(LocalStore):
        def put_new(self, key: str, data: bytes) -> bool:
            order.append(key)
            return super().put_new(key, data)

    place = Watched(tmp_path / "store")
    show_folder(place, made, last="report.html")
    assert order == ["figures/a.png", "z.md", "report.html"]
    copy_to(place, tmp_path / "back", keys=place.keys(""))
    assert (tmp_path / "back" / "figures" / "a.png").read_bytes() == b"1"
