"""A store in a folder. A file becomes visible by an exclusive hard link, so it is there whole or not at all."""

from __future__ import annotations

import os
import secrets
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from neuromod_core.store.protocol import Entry, Put, check_key, check_prefix, is_key, missing, refusal

T = TypeVar("T")


@dataclass(frozen=True)
class LocalStore:
    """Keys are paths below `root`, which is made when first written to.

    A write is: hidden file in the same folder, fsync, link to the final name (which fails if present, where a rename
    would overwrite), fsync of the folder. Needs a file system with hard links.

    Writes that belong together wait for the disk together: the hidden files of all of them at once, then each folder
    once (see `staged`).
    """

    root: Path

    def __str__(self) -> str:
        return str(self.root)

    def get(self, key: str) -> bytes:
        """Return the bytes under `key`; `IntegrityError` if there are none."""
        with self._refusing("read", key):
            try:
                return self._path(key).read_bytes()
            except FileNotFoundError:
                raise missing(key, self) from None

    def put_new(self, key: str, data: bytes) -> bool:
        """Write `data` under `key` durably; False if the key exists."""
        with self._refusing("write", key):
            if self._path(key).exists():
                return False
        with self.staged({key: data}) as put:
            return key in put(key)

    @contextmanager
    def staged(self, items: Mapping[str, bytes]) -> Iterator[Put]:
        """Make `items` durable under hidden names, and yield the function that gives some of them their own names.

        Nothing is visible before, and what was not put is gone after the `with`.
        """
        # The operating system's randomness: two hosts that share the folder must not choose one name.
        token = secrets.token_hex(8)
        hidden = {key: (path := self._path(key)).with_name(f".{path.name}.{token}") for key in items}

        def put(*keys: str) -> frozenset[str]:
            new = frozenset(key for key in keys if self._link(hidden[key], key))
            for folder in sorted({hidden[key].parent for key in keys}):  # of older ones too: who made them may be dead
                with self._refusing("write", keys[0]):
                    _sync(folder)
            return new

        try:
            _each(self._write, [(key, hidden[key], data) for key, data in items.items()])
            yield put
        finally:
            for key, path in hidden.items():
                with self._refusing("write", key):
                    path.unlink(missing_ok=True)

    def keys(self, prefix: str) -> tuple[str, ...]:
        """Return the keys that begin with `prefix`, sorted."""
        check_prefix(prefix, self)
        with self._refusing("list", prefix):
            found = [path.relative_to(self.root).as_posix() for path in _files(self.root / prefix.rpartition("/")[0])]
        return tuple(sorted(key for key in found if key.startswith(prefix) and is_key(key)))

    def holds(self, key: str) -> bool:
        """Return whether `key` was written."""
        with self._refusing("look up", key):
            return self._path(key).is_file()

    def entries(self, prefix: str) -> dict[str, Entry]:
        """Return the keys that begin with `prefix`, with the time and the size of each."""
        found: dict[str, Entry] = {}
        for key in self.keys(prefix):
            with self._refusing("look up", key), suppress(FileNotFoundError):
                stat = self._path(key).stat()
                found[key] = Entry(stat.st_mtime, stat.st_size)
        return found

    def remove(self, key: str) -> None:
        """Remove `key`; nothing happens if it is not there."""
        with self._refusing("remove", key):
            self._path(key).unlink(missing_ok=True)

    def _write(self, item: tuple[str, Path, bytes]) -> None:
        """Write (key, hidden file, bytes), durably."""
        key, path, data = item
        with self._refusing("write", key):
            _make_folder(path.parent)
            with path.open("xb") as stream:
                stream.write(data)
                stream.flush()
                os.fsync(stream.fileno())

    def _link(self, path: Path, key: str) -> bool:
        """Give a hidden file its own name; return False if that is taken."""
        with self._refusing("write", key):
            try:
                os.link(path, self._path(key))
            except FileExistsError:
                return False
            return True

    def _path(self, key: str) -> Path:
        check_key(key, self)
        return self.root / key

    @contextmanager
    def _refusing(self, doing: str, key: str) -> Iterator[None]:
        try:
            yield
        except OSError as cause:
            raise refusal(cause, f"{doing} {key!r} in the store {self}") from cause


def _each(act: Callable[[T], None], items: Sequence[T]) -> None:
    """Do `act` for all items at once: disks wait for several as long as for one."""
    if len(items) == 1:
        act(items[0])
        return
    with ThreadPoolExecutor(len(items) or 1) as pool:
        list(pool.map(act, items))


def _make_folder(folder: Path) -> None:
    """Make `folder` and what is missing above it, each entry durable in its parent."""
    if folder.is_dir():
        return
    _make_folder(folder.parent)
    folder.mkdir(exist_ok=True)
    _sync(folder.parent)


def _sync(folder: Path) -> None:
    """Make the entries of `folder` durable."""
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _files(folder: Path) -> Iterator[Path]:
    """Yield every file below `folder`; none if it does not exist."""
    for at, _, names in os.walk(folder, onerror=_raise_unless_gone):
        yield from (Path(at, name) for name in names)


def _raise_unless_gone(cause: OSError) -> None:
    """Let no unreadable folder pass for an empty one: its commits would be run again."""
    if not isinstance(cause, FileNotFoundError):
        raise cause
