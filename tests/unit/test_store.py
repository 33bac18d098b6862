"""The laws of every store, and how the folder store behaves when the machine refuses or dies."""

from __future__ import annotations

import errno
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from threading import Barrier, Thread

import pytest

import neuromod_core
from neuromod_core import store as package
from neuromod_core.kernel.errors import (
    ConfigError,
    IntegrityError,
    StorageError,
    StorageFull,
    StorageReadOnly,
    StorageUnavailable,
)
from neuromod_core.store import LocalStore, MemoryStore, Store, open_store
from neuromod_core.store.protocol import refusal

SOURCE = Path(neuromod_core.__file__).parents[1]
KINDS: dict[str, Callable[[Path], Store]] = {"local": LocalStore, "memory": lambda _: MemoryStore()}


@pytest.fixture(params=KINDS)
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Store:
    return KINDS[request.param](tmp_path / "made" / "when needed")


def test_what_is_put_is_got(store: Store) -> None:
    assert store.put_new("data/a.parquet", b"\x00rows")
    assert store.get("data/a.parquet") == b"\x00rows"
    assert store.holds("data/a.parquet")
    assert not store.holds("data/b.parquet")


def test_a_key_is_written_once(store: Store) -> None:
    assert store.put_new("a", b"first") is True
    assert store.put_new("a", b"second") is False
    assert store.get("a") == b"first"


def test_keys_are_sorted_and_begin_with_the_prefix(store: Store) -> None:
    assert store.keys("") == ()
    for key in ("commits/b.json", "commits/a.json", "commits-old/a.json", "data/x", "z"):
        store.put_new(key, b"")
    assert store.keys("commits/") == ("commits/a.json", "commits/b.json")
    assert store.keys("commits/b") == ("commits/b.json",)
    assert store.keys("nothing/here") == ()
    assert store.keys("") == ("commits-old/a.json", "commits/a.json", "commits/b.json", "data/x", "z")


@pytest.mark.parametrize(
    "key", ["", "/etc/passwd", "../a", "a/../b", "a//b", "a/", ".hidden", "a/.hidden", "a b", "a\n"]
)
def test_a_key_cannot_leave_the_store_or_hide_in_it(store: Store, key: str) -> None:
    for use in (store.get, store.holds, lambda key: store.put_new(key, b"")):
        with pytest.raises(StorageError, match="is not a key") as caught:
            use(key)
        assert str(store) in str(caught.value)
    assert store.keys("") == ()


def test_a_prefix_cannot_leave_the_store(store: Store) -> None:
    with pytest.raises(StorageError, match="beginning of a key"):
        store.keys("../")


def test_a_missing_key_is_named_with_its_store(store: Store) -> None:
    with pytest.raises(IntegrityError) as caught:
        store.get("data/lost.parquet")
    assert str(caught.value) == (
        f"Nothing is kept under 'data/lost.parquet'; it was lost, or this is another store. (store {store})"
    )


@pytest.mark.parametrize("race", range(5))
def test_of_eight_racers_one_wins_and_its_bytes_are_kept(store: Store, race: int) -> None:
    start, won = Barrier(8), Counter[bool]()
    kept: list[bytes] = []

    def run(data: bytes) -> None:
        start.wait()
        mine = store.put_new(f"race/{race}", data)
        won[mine] += 1
        if mine:
            kept.append(data)

    racers = [Thread(target=run, args=(bytes([racer]) * 100_000,)) for racer in range(8)]
    for racer in racers:
        racer.start()
    for racer in racers:
        racer.join()
    assert won == {True: 1, False: 7}
    assert store.get(f"race/{race}") == kept[0]
    assert store.keys("") == (f"race/{race}",)


def test_an_exception_inside_the_write_leaves_nothing(store: Store) -> None:
    with pytest.raises(TypeError):
        store.put_new("a", "not bytes")  # type: ignore[arg-type]
    assert not store.holds("a")
    assert store.put_new("a", b"bytes")


def test_a_local_write_leaves_only_its_file(tmp_path: Path) -> None:
    store = LocalStore(tmp_path)
    store.put_new("a/b", b"1")
    store.put_new("a/b", b"2")
    with pytest.raises(TypeError):
        store.put_new("a/c", "not bytes")  # type: ignore[arg-type]
    assert [path.name for path in tmp_path.rglob("*") if path.is_file()] == ["b"]


def run_python(code: str, at: Path) -> subprocess.CompletedProcess[str]:
    """Run `code` in its own process, with `at` as `sys.argv[1]`."""
    words = [sys.executable, "-c", code, str(at)]
    return subprocess.run(words, capture_output=True, text=True, cwd=SOURCE, timeout=60)


LIMITED = """
import resource, signal, sys
from pathlib import Path
from neuromod_core.store import LocalStore
store = LocalStore(Path(sys.argv[1]))
resource.setrlimit(resource.RLIMIT_FSIZE, (1000, resource.RLIM_INFINITY))
signal.signal(signal.SIGXFSZ, signal.{action})
try:
    store.put_new("data/a", bytes(100_000))
except Exception as error:
    print(type(error).__name__, error)
"""


def test_a_file_size_limit_is_a_full_store_and_leaves_no_file(tmp_path: Path) -> None:
    done = run_python(LIMITED.format(action="SIG_IGN"), tmp_path)
    assert done.stdout.startswith(f"StorageFull Cannot write 'data/a' in the store {tmp_path}: File too large."), done
    assert list((tmp_path / "data").iterdir()) == []


def test_a_process_killed_while_writing_leaves_nothing_visible(tmp_path: Path) -> None:
    done = run_python(LIMITED.format(action="SIG_DFL"), tmp_path)
    assert done.returncode == -signal.SIGXFSZ
    assert [path.stat().st_size for path in (tmp_path / "data").iterdir()] == [1000], (
        "killed in the middle of the write"
    )
    store = LocalStore(tmp_path)
    assert store.keys("") == ()
    assert not store.holds("data/a")
    assert store.put_new("data/a", b"again")


UNPRIVILEGED = """
import os, sys
from pathlib import Path
from neuromod_core.store import LocalStore
os.chdir(sys.argv[1])
if os.geteuid() == 0:
    os.setuid(65534)
store = LocalStore(Path("."))
print(store.put_new("there", b"2"), store.get("there"))
try:
    store.put_new("a", b"1")
except Exception as error:
    print(type(error).__name__, error)
"""


def test_a_folder_without_permission_can_be_read_and_says_so_when_written(tmp_path: Path) -> None:
    LocalStore(tmp_path).put_new("there", b"1")
    tmp_path.chmod(0o555)
    done = run_python(UNPRIVILEGED, tmp_path)
    tmp_path.chmod(0o755)
    first, second = done.stdout.splitlines()
    assert first == "False b'1'"
    assert second.startswith("StorageReadOnly Cannot write 'a' in the store .: Permission denied.")


def test_a_file_in_place_of_the_folder_is_no_passing_trouble(tmp_path: Path) -> None:
    (tmp_path / "runs").write_bytes(b"")
    with pytest.raises(StorageError, match="A file stands where a folder is needed") as caught:
        LocalStore(tmp_path / "runs").put_new("a", b"1")
    assert not isinstance(caught.value, StorageUnavailable), "retrying cannot help"
    with pytest.raises(StorageError):
        LocalStore(tmp_path / "runs").keys("")


@pytest.mark.parametrize(
    ("code", "kind"),
    [
        *((code, StorageFull) for code in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)),
        *((code, StorageReadOnly) for code in (errno.EROFS, errno.EACCES, errno.EPERM)),
        *((code, StorageError) for code in (errno.ENOTDIR, errno.EEXIST, errno.ENAMETOOLONG)),
        *((code, StorageUnavailable) for code in (errno.EIO, errno.ESTALE, errno.ETIMEDOUT)),
    ],
)
def test_every_refusal_has_its_name(code: int, kind: type[StorageError]) -> None:
    error = refusal(OSError(code, "why"), "write 'a' in the store /s")
    assert type(error) is kind
    assert str(error).startswith("Cannot write 'a' in the store /s: why. ")
    assert "\n" not in str(error)


def test_a_path_and_a_file_uri_open_one_store(tmp_path: Path) -> None:
    folder = tmp_path / "two words"
    opened = {
        open_store(text) for text in (str(folder), folder.as_uri(), f"file://localhost{folder}", f"file:{folder}")
    }
    assert opened == {LocalStore(folder)}
    assert open_store("runs/x:1") == LocalStore(Path.cwd() / "runs" / "x:1")


@pytest.mark.parametrize("uri", ["gs://bucket/prefix", "https://host/a", "file://host/a", "file:a", "file:", ""])
def test_another_uri_is_refused_and_the_known_ones_are_listed(uri: str) -> None:
    with pytest.raises(ConfigError, match=r"store .*allowed: .*path, file://"):
        open_store(uri)


def test_the_error_for_an_unknown_scheme_in_full() -> None:
    with pytest.raises(ConfigError) as caught:
        open_store("gs://bucket/prefix")
    assert str(caught.value) == (
        "Cannot open the store 'gs://bucket/prefix': scheme 'gs' is not known; "
        "allowed: a local path, file://, s3://, s3+path://."
    )


def test_public_names_are_sorted_and_there() -> None:
    assert package.__all__ == sorted(package.__all__)
    assert all(hasattr(package, name) for name in package.__all__)
