"""What happens to a study when processes are killed, servers die, networks misbehave, disks fill and files rot.

The same shards are committed every time; whatever happened on the way, what was acknowledged is there, no row counts
twice, and the root hash is that of a run to which nothing happened.
"""

from __future__ import annotations

import os
import re
import resource
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from neuromod_core.kernel.errors import IntegrityError
from neuromod_core.store import LocalStore, open_store
from neuromod_core.store.commits import commit, commits, read_table
from neuromod_core.store.s3 import S3Store
from tests.conftest import ROOT
from tests.platform import studies
from tests.platform.proxy import Fault, Proxy
from tests.platform.server import BUCKET, Server
from tests.platform.studies import Tiny
from tests.platform.worker import ROWS, name, responses, root, undisturbed

SHARDS = 40


@pytest.fixture(scope="module")
def expected() -> str:
    return undisturbed(SHARDS)


@pytest.fixture(params=["local", "s3"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """A folder, and a bucket where there is a server."""
    return str(tmp_path / "run") if request.param == "local" else str(request.getfixturevalue("uri"))


def worker(at: str, *more: str, limit: int | None = None) -> subprocess.Popen[str]:
    """Start a worker; `limit` is the largest file it may write, in bytes."""
    words = [sys.executable, "-m", "tests.platform.worker", at, str(SHARDS), *more]

    def limited() -> None:
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit or resource.RLIM_INFINITY,) * 2)

    pipe = subprocess.PIPE
    return subprocess.Popen(words, cwd=ROOT, stdout=pipe, stderr=pipe, text=True, preexec_fn=limited if limit else None)


def heard(process: subprocess.Popen[str], lines: int) -> list[str]:
    """Return the next shards that a worker says it committed."""
    assert process.stdout is not None
    return [line.strip() for line in (process.stdout.readline() for _ in range(lines)) if line]


def finished(process: subprocess.Popen[str]) -> tuple[int, list[str], str]:
    """Return how a worker ended, what it committed since, and its last words."""
    out, err = process.communicate(timeout=120)
    return process.returncode, out.split(), err.strip()


def complete(at: str) -> None:
    """Let one more worker commit what is missing."""
    code, _, words = finished(worker(at))
    assert (code, words) == (0, "")


def test_workers_killed_again_and_again_lose_and_double_nothing(place: str, expected: str) -> None:
    said: set[str] = set()
    for steps in (1, 5, 3, 8):
        process = worker(place)
        said |= set(heard(process, steps))
        process.kill()
        said |= set(finished(process)[1])
        assert said <= set(commits(open_store(place)))
    complete(place)
    assert root(open_store(place), SHARDS) == expected


def test_two_workers_that_race_for_every_shard_agree(place: str, expected: str) -> None:
    racers = [worker(place, "race") for _ in range(2)]
    ends = [finished(process) for process in racers]
    assert [(code, words) for code, _, words in ends] == [(0, "")] * 2
    assert [len(shards) for _, shards, _ in ends] == [SHARDS, SHARDS], "each believed in every shard"
    store = open_store(place)
    assert len(store.keys("commits/")) == len(store.keys("data/")) == SHARDS
    assert root(store, SHARDS) == expected


@pytest.fixture
def mortal(tmp_path: Path, server: Server, aws: pytest.MonkeyPatch) -> Iterator[Server]:
    """A server of this test's own, to be killed."""
    running = Server(tmp_path / "mortal")
    running.start()
    aws.setenv("AWS_ENDPOINT_URL", running.address)
    yield running
    running.kill()


def test_a_worker_outlives_a_server_that_is_killed_and_restarted(mortal: Server, expected: str) -> None:
    at = f"s3://{BUCKET}/outlived"
    process = worker(at)
    said = heard(process, 10)
    mortal.kill()
    mortal.start(wait=False)
    code, more, words = finished(process)
    assert (code, words) == (0, "")
    assert sorted(said + more) == [name(shard) for shard in range(SHARDS)]
    assert root(open_store(at), SHARDS) == expected


def test_a_server_that_stays_away_is_one_line_and_nothing_is_lost(mortal: Server, expected: str) -> None:
    at = f"s3://{BUCKET}/stayed-away"
    process = worker(at)
    said = heard(process, 10)
    mortal.kill()
    code, more, words = finished(process)
    assert code == 2
    assert words.startswith("StorageUnavailable: Cannot ")
    assert len(words.splitlines()) == 1
    mortal.start()
    assert set(said + more) <= set(commits(open_store(at)))
    complete(at)
    assert root(open_store(at), SHARDS) == expected


@pytest.mark.parametrize(
    "fault",
    [Fault(500, "InternalError"), Fault(503, "SlowDown"), Fault(slow=0.2), Fault(lost=True), Fault(short=10)],
    ids=str,
)
def test_every_fourth_request_fails_and_the_study_is_the_same(
    proxy: Proxy, uri: str, fault: Fault, expected: str
) -> None:
    proxy.faults = lambda method, path, number: fault if number % 4 == 0 else None
    complete(uri)
    proxy.faults = lambda *_: None
    assert len(open_store(uri).keys("data/")) == SHARDS
    assert root(open_store(uri), SHARDS) == expected


def test_a_refusal_in_the_middle_is_one_line_and_the_rest_follows_later(proxy: Proxy, uri: str, expected: str) -> None:
    proxy.faults = lambda method, path, number: Fault(403, "AccessDenied") if number > 50 else None
    code, said, words = finished(worker(uri))
    assert code == 2
    assert re.fullmatch(
        rf"StorageReadOnly: Cannot (write|look up) '\S+' in the store {uri}: (AccessDenied|refused) \(status 403\)\. "
        r"The access keys must permit reading, writing and listing there\.",
        words,
    )
    proxy.faults = lambda *_: None
    assert set(said) <= set(commits(open_store(uri)))
    complete(uri)
    assert root(open_store(uri), SHARDS) == expected


def test_a_file_size_limit_is_one_line_and_the_rest_follows_later(tmp_path: Path, expected: str) -> None:
    at = str(tmp_path / "run")
    code, said, words = finished(worker(at, limit=500))
    assert (code, said) == (2, [])
    assert words.startswith("StorageFull: Cannot write 'data/")
    assert len(words.splitlines()) == 1
    complete(at)
    assert root(open_store(at), SHARDS) == expected


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 64 KiB."""
    folder = tmp_path / "disk"
    folder.mkdir()
    words = ["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", str(folder)]
    try:
        made = subprocess.run(words, capture_output=True, text=True, check=False)
    except FileNotFoundError:
        pytest.skip("this machine has no mount")
    if made.returncode:
        pytest.skip(f"this user may not mount a small file system: {made.stderr.strip()}")
    yield folder
    subprocess.run(["umount", str(folder)], check=True)


def test_a_full_disk_is_one_line_and_the_rest_follows_when_there_is_room(small_disk: Path, expected: str) -> None:
    at = str(small_disk / "run")
    code, said, words = finished(worker(at))
    assert code == 2
    assert said
    assert words.startswith("StorageFull: Cannot write ")
    assert "No space left on device" in words
    assert len(words.splitlines()) == 1
    assert set(said) <= set(commits(open_store(at)))
    subprocess.run(["mount", "-o", "remount,size=16m", str(small_disk)], check=True)
    complete(at)
    assert root(open_store(at), SHARDS) == expected


def overwrite(store: LocalStore | S3Store, key: str, data: bytes) -> None:
    """Do to a key what no store does: change it."""
    if isinstance(store, LocalStore):
        (store.root / key).write_bytes(data)
    else:
        store._client.put_object(Bucket=store.bucket, Key=f"{store.prefix}/{key}", Body=data)


@pytest.fixture
def damaged(place: str) -> LocalStore | S3Store:
    """A complete run, about to be damaged."""
    complete(place)
    store = open_store(place)
    assert isinstance(store, LocalStore | S3Store)
    return store


def test_a_truncated_data_file_is_named_and_the_others_stay_readable(damaged: LocalStore | S3Store) -> None:
    markers = commits(damaged)
    key = f"data/{markers[name(7)].files['responses'].sha256}.parquet"
    overwrite(damaged, key, damaged.get(key)[:-200])
    with pytest.raises(IntegrityError) as caught:
        read_table(damaged, "responses", markers=markers)
    assert str(caught.value).startswith(f"File '{key}' has the SHA-256 ")
    assert str(caught.value).endswith(f" was committed. (store {damaged})")
    assert "\n" not in str(caught.value)
    others = {shard: marker for shard, marker in markers.items() if shard != name(7)}
    assert read_table(damaged, "responses", markers=others).num_rows == (SHARDS - 1) * ROWS


def test_a_damaged_file_that_is_removed_comes_back_with_its_shard(damaged: LocalStore | S3Store, expected: str) -> None:
    markers = commits(damaged)
    key = f"data/{markers[name(7)].files['responses'].sha256}.parquet"
    damaged.remove(key)
    commit(damaged, name(7), tables={"responses": responses(7)}, provenance={"again": True})
    assert commits(damaged) == markers
    assert root(damaged, SHARDS) == expected


@pytest.mark.parametrize("body", [b"", b"{", b'{"shard_id": "shard-007"}', b"\x00" * 64])
def test_a_corrupted_marker_is_named_and_never_taken_for_a_missing_shard(
    damaged: LocalStore | S3Store, body: bytes
) -> None:
    overwrite(damaged, f"commits/{name(7)}.json", body)
    with pytest.raises(IntegrityError) as caught:
        commits(damaged)
    assert str(caught.value).startswith(f"The marker of shard '{name(7)}' ")
    assert str(caught.value).endswith(f"(commits/{name(7)}.json, store {damaged})")
    assert "\n" not in str(caught.value)


def test_an_interrupted_study_says_so_and_the_same_command_resumes(tiny: Tiny, alone: str, tmp_path: Path) -> None:
    at, says = tiny.copy(tmp_path / "runs"), tmp_path / "says.txt"
    interrupted = studies.worker(tiny, at, says, studies.commanded)
    tiny.await_shards(at, 1, interrupted)
    os.kill(interrupted.pid or 0, signal.SIGINT)
    assert studies.ended(interrupted, says) == (0, "130 neuromod: interrupted; the same command resumes.")
    done = tiny.done(at)
    assert len(done) < studies.SHARDS
    assert studies.ended(studies.worker(tiny, at, says), says) == (0, alone)
    assert done <= tiny.done(at)


def test_a_clock_that_jumps_by_years_changes_nothing(tiny: Tiny, alone: str, tmp_path: Path) -> None:
    at, says = tiny.copy(tmp_path / "runs"), tmp_path / "says.txt"
    assert studies.ended(studies.worker(tiny, at, says, studies.jumping), says) == (0, alone)
