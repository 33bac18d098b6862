"""A whole study in a bucket: the same root hash as in memory and in a folder, and every command that looks after it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from flows import cli
from neuromod_core.models import LoadedModel
from neuromod_core.store import LocalStore, open_store
from neuromod_core.store.compact import read_manifest
from neuromod_core.store.s3 import S3Store
from neuromod_core.trial.archive import Archive
from neuromod_core.trial.close import record_gates
from neuromod_core.trial.gates import before_first_cell
from neuromod_core.trial.library import Library
from neuromod_core.trial.plan import Registration
from tests.flows.conftest import finish, open_room, run_shard
from tests.platform.proxy import Fault, Proxy

UNCLOSED = ("plan.json", "sealed/", "data/", "commits/", "ledger/000000", "ledger/000001")  # all shards, no more


def copied(archive: Archive, store: LocalStore | S3Store) -> str:
    """Copy every record of a study to another place; return the address."""
    for key in archive.store.keys(""):
        store.put_new(key, archive.store.get(key))
    return str(store)


@pytest.mark.parametrize("kind", ["local", "s3"])
def test_a_study_has_one_root_hash_wherever_it_is_kept(
    kind: str, request: pytest.FixtureRequest, tmp_path: Path, registration: Registration, library: Library,
    llama: LoadedModel, closed: Archive,
) -> None:  # fmt: skip
    at = str(tmp_path / "run") if kind == "local" else str(request.getfixturevalue("uri"))
    archive = Archive(open_store(at))
    archive.publish(registration)
    with open_room(registration, library, llama) as room:
        record_gates(archive, before_first_cell(room, registration, library.pack("placebo")))
        for shard in reversed(range(registration.plan.shards)):
            run_shard(archive, registration, room, shard)
    assert finish(archive, registration) == read_manifest(closed.store).root
    for key in closed.store.keys("dataset/"):
        assert archive.store.get(key) == closed.store.get(key)


def test_a_study_is_closed_through_a_network_that_loses_every_fifth_answer(
    proxy: Proxy, store: S3Store, closed: Archive, registration: Registration
) -> None:
    for key in closed.store.keys(""):
        if key.startswith(UNCLOSED):
            store.put_new(key, closed.store.get(key))
    proxy.faults = lambda method, path, number: Fault(lost=True) if number % 5 == 0 else None
    assert finish(Archive(store), registration) == read_manifest(closed.store).root
    proxy.faults = lambda *_: None
    assert store.keys("") == closed.store.keys("")


@pytest.fixture(params=["local", "s3"])
def run(request: pytest.FixtureRequest, tmp_path: Path, closed: Archive) -> str:
    """The address of a closed study."""
    if request.param == "local":
        return copied(closed, LocalStore(tmp_path / "root" / "tiny-1"))
    root: S3Store = request.getfixturevalue("store")
    return copied(closed, S3Store(root.bucket, f"{root.prefix}/tiny-1"))


def told(capsys: pytest.CaptureFixture[str], *words: str) -> str:
    assert cli.main(list(words)) == 0, capsys.readouterr().err
    return capsys.readouterr().out


def test_verify_prints_the_root_hash(run: str, closed: Archive, capsys: pytest.CaptureFixture[str]) -> None:
    assert told(capsys, "verify", run).strip() == read_manifest(closed.store).root


def test_compact_prints_the_same_root_and_changes_nothing(
    run: str, closed: Archive, capsys: pytest.CaptureFixture[str]
) -> None:
    body = json.loads(told(capsys, "compact", run, "--json"))
    assert body["root"] == read_manifest(closed.store).root
    assert {item["table"]: item["rows"] for item in body["files"]}["cells"] > 0
    assert open_store(run).keys("") == closed.store.keys("")


def test_query_answers_for_a_run_and_for_all_below_a_root(run: str, capsys: pytest.CaptureFixture[str]) -> None:
    sql = "select run, count(*) as n, count(distinct arm) as arms from scores group by run"
    (row,) = json.loads(told(capsys, "query", run, sql, "--json"))
    assert row["run"] == "tiny-1"
    assert row["arms"] >= 6
    assert json.loads(told(capsys, "query", run.rpartition("/")[0], sql, "--json")) == [row]
    assert told(capsys, "query", run, sql, "--csv") == f"run,n,arms\ntiny-1,{row['n']},{row['arms']}\n"
    (about,) = json.loads(told(capsys, "query", run, "from runs", "--json"))
    assert about["root"] == json.loads(told(capsys, "compact", run, "--json"))["root"]
    assert about["done"] == about["shards"]
    (shards,) = json.loads(told(capsys, "query", run, "select count(distinct shard_id) n from shards", "--json"))
    assert shards["n"] == about["shards"]


def test_query_sees_the_raw_rows_of_a_run_that_is_not_closed(
    tmp_path: Path, closed: Archive, capsys: pytest.CaptureFixture[str]
) -> None:
    store = LocalStore(tmp_path / "open")
    for key in closed.store.keys(""):
        if key.startswith(UNCLOSED):
            store.put_new(key, closed.store.get(key))
    (row,) = json.loads(told(capsys, "query", str(store), "select count(*) n from responses", "--json"))
    assert row["n"] == read_manifest(closed.store).files["responses"].rows
    (scores,) = json.loads(told(capsys, "query", str(store), "select count(*) n from scores", "--json"))
    assert scores["n"] == 0
    assert json.loads(told(capsys, "query", str(store), "select root from runs", "--json")) == [{"root": None}]


def test_gc_lists_then_removes_what_a_dead_worker_left(run: str, capsys: pytest.CaptureFixture[str]) -> None:
    store = open_store(run)
    keys = store.keys("")
    assert json.loads(told(capsys, "gc", run, "--json", "--grace", "0")) == []
    key = f"data/{'0' * 64}.parquet"
    store.put_new(key, b"what a crash between file and marker leaves")
    assert "0 unreferenced files" in told(capsys, "gc", run), "it is younger than a day"
    assert "1 unreferenced files" in told(capsys, "gc", run, "--grace", "0")
    assert store.holds(key)
    (row,) = json.loads(told(capsys, "gc", run, "--grace", "0", "--delete", "--json"))
    assert (row["file"], row["removed"]) == (key, True)
    assert store.keys("") == keys


@pytest.mark.parametrize("form", ["hf", "csv"])
def test_export_writes_a_folder_of_files(
    run: str, form: str, tmp_path: Path, closed: Archive, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    assert read_manifest(closed.store).root in told(capsys, "export", run, str(out), "--format", form)
    if form == "hf":
        for key in closed.store.keys("dataset/"):
            if key.endswith(".parquet"):
                assert (out / key.replace("dataset/", "data/")).read_bytes() == closed.store.get(key)
        assert closed.plan().title in (out / "README.md").read_text("utf-8")
    else:
        assert len(list(out.glob("*.csv"))) == len(read_manifest(closed.store).files)
    assert cli.main(["export", run, str(out), "--format", form]) == 2
    assert "an export overwrites nothing" in capsys.readouterr().err


@pytest.mark.parametrize(
    "words", [["verify"], ["gc"], ["compact"], ["export", "{}", "out"], ["query", "{}", "select 1"]]
)
@pytest.mark.parametrize("at", ["{uri}/nothing-here", "s3://nobody-made-this/x", "absent"])
def test_no_run_is_one_line(
    words: list[str], at: str, uri: str, capsys: pytest.CaptureFixture[str], tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    monkeypatch.chdir(tmp_path)
    name = at.format(uri=uri)
    given = [word.format(name) for word in words] if len(words) > 1 else [*words, name]
    assert cli.main(given) == 2
    line = capsys.readouterr().err.strip()
    assert line.startswith("neuromod: ")
    assert name.removesuffix("/x") in line
    assert len(line.splitlines()) == 1
    assert not list(tmp_path.iterdir())


def test_a_truncated_file_of_a_closed_study_fails_verification(run: str, capsys: pytest.CaptureFixture[str]) -> None:
    store = open_store(run)
    key = store.keys("data/")[0]
    data = store.get(key)
    store.remove(key)
    store.put_new(key, data[:-100])
    assert cli.main(["verify", run]) == 2
    line = capsys.readouterr().err.strip()
    assert f"File '{key}' has the SHA-256" in line
    assert len(line.splitlines()) == 1
