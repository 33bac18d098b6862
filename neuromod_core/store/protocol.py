"""What a store is, what its keys look like, and what its refusals are called. Knows no place where bytes are kept."""

from __future__ import annotations

import errno
import re
from collections.abc import Mapping
from typing import NamedTuple, Protocol

from neuromod_core.kernel.errors import IntegrityError, StorageError, StorageFull, StorageReadOnly, StorageUnavailable

_NAME = r"[A-Za-z0-9_][A-Za-z0-9._=-]*"
_KEY = re.compile(rf"{_NAME}(/{_NAME})*")
_PREFIX = re.compile(rf"({_NAME}/)*({_NAME})?")
_RULE = "letters, digits and . _ = - in names joined by '/', no name begins with a dot"


class Store(Protocol):
    """Bytes under keys; a key is written once and never changes. `str(store)` says where it is.

    A key is relative: names joined by `/`. Every method raises `StorageError` for a key of another form, `StorageFull`,
    `StorageReadOnly` or `StorageUnavailable` when the place refuses.
    """

    def get(self, key: str) -> bytes:
        """Return the bytes under `key`.

        Raises:
            IntegrityError: nothing is kept there; readers ask only for what a marker or manifest promised.
        """
        ...

    def put_new(self, key: str, data: bytes) -> bool:
        """Write `data` under `key` durably and return True; return False, writing nothing, if the key exists.

        Of several writers exactly one gets True, and a reader sees all of the bytes or none.
        """
        ...

    def keys(self, prefix: str) -> tuple[str, ...]:
        """Return the keys that begin with `prefix`, sorted; the empty prefix lists all."""
        ...

    def holds(self, key: str) -> bool:
        """Return whether `key` was written."""
        ...


class Put(Protocol):
    """Writes some of the keys that were staged, as `put_new` does; see `store.staging`."""

    def __call__(self, *keys: str) -> frozenset[str]:
        """Write `keys` durably, each unless it exists, and return those that were written."""
        ...


class Entry(NamedTuple):
    """When a key was written, in seconds since 1970 by the clock of the place, and its size in bytes."""

    written: float
    size: int


class SweptStore(Store, Protocol):
    """A store from which a key that nothing refers to can be removed; only `store.sweep` and probes do so."""

    def entries(self, prefix: str) -> Mapping[str, Entry]:
        """Return the keys that begin with `prefix`, with the time and the size of each."""
        ...

    def remove(self, key: str) -> None:
        """Remove `key`; nothing happens if it is not there."""
        ...


def is_key(text: str) -> bool:
    """Return whether `text` has the form of a key: a writer's unfinished files never have it."""
    return _KEY.fullmatch(text) is not None


def check_key(key: str, store: Store) -> None:
    """Raise `StorageError` unless `key` has the form of a key."""
    if not is_key(key):
        raise StorageError(f"{key!r} is not a key: allowed are {_RULE}. (store {store})")


def check_prefix(prefix: str, store: Store) -> None:
    """Raise `StorageError` unless some key could begin with `prefix`."""
    if _PREFIX.fullmatch(prefix) is None:
        raise StorageError(f"{prefix!r} is not the beginning of a key: allowed are {_RULE}. (store {store})")


def missing(key: str, store: Store) -> IntegrityError:
    """Return the error for a key that was promised and is not there."""
    return IntegrityError(f"Nothing is kept under {key!r}; it was lost, or this is another store. (store {store})")


def refusal(cause: OSError, doing: str) -> StorageError:
    """Return the storage error that `cause` means; `doing` ("write 'key' in the store ...") completes "Cannot ..."."""
    said = f"Cannot {doing}: {cause.strerror or cause}"
    match cause.errno:
        case errno.ENOSPC | errno.EDQUOT | errno.EFBIG:
            return StorageFull(f"{said}. Free space, or raise the quota or the file-size limit; then run again.")
        case errno.EROFS | errno.EACCES | errno.EPERM:
            return StorageReadOnly(f"{said}. The place must be writable, and its file system must know hard links.")
        case errno.ENOTDIR | errno.EISDIR | errno.EEXIST | errno.ENAMETOOLONG | errno.ELOOP:
            return StorageError(f"{said}. A file stands where a folder is needed, or the path is too long.")
        case _:
            return StorageUnavailable(f"{said}. Trying again may help.")
