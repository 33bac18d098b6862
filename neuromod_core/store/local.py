"""A store in a folder. A file becomes visible by an exclusive hard link, so it is there whole or not at all."""

from __future__ import annotations

import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from neuromod_core.store.protocol import Entry, check_key, check_prefix, is_key, missing, refusal


@dataclass(frozen=True)
class LocalStore:
    """Keys are paths below `root`, which is made when first written to.

    A write is: hidden file in the same folder, fsync, link to the final name (which fails if present, where a rename
    would overwrite), fsync of the folder. Needs a file system with hard links.
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
        final = self._path(key)
        with self._refusing("write", key):
            if final.exists():
                return False
            _make_folder(final.parent)
            return _publish(final, data)

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

    def _path(self, key: str) -> Path:
        check_key(key, self)
        return self.root / key

    @contextmanager
    def _refusing(self, doing: str, key: str) -> Iterator[None]:
        try:
            yield
        except OSError as cause:
            raise refusal(cause, f"{doing} {key!r} in the store {self}") from cause


def _publish(final: Path, data: bytes) -> bool:
    """Write `data` beside `final`, then link it there; return whether this call made the link."""
    # The operating system's randomness: two hosts that share the folder must not choose one name.
    unfinished = final.with_name(f".{final.name}.{secrets.token_hex(8)}")
    try:
        with unfinished.open("xb") as stream:
            stream.write(data)
            stream.flush()
            os.fsync(stream.fileno())
        return _link(unfinished, final)
    finally:
        unfinished.unlink(missing_ok=True)


def _link(unfinished: Path, final: Path) -> bool:
    try:
        os.link(unfinished, final)
    except FileExistsError:
        return False
    _sync(final.parent)
    return True


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
