"""A table as a file of a store: written once, named with its hash, read only if the hash still holds."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import pyarrow as pa

from neuromod_core.kernel.errors import IntegrityError
from neuromod_core.kernel.types import digest
from neuromod_core.store.protocol import Store
from neuromod_core.store.tables import SORT_KEYS, conform, decode, encode, schema_of

_AT_A_TIME = 8
_SHA256 = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True)
class File:
    """What is promised of a file: its SHA-256 (64 hex digits) and its number of rows."""

    sha256: str
    rows: int

    def __str__(self) -> str:
        return f"{self.sha256} ({self.rows} rows)"


def packed(tables: Mapping[str, pa.Table]) -> dict[str, tuple[File, bytes]]:
    """Return each table's promise and bytes, in the order of their names; `DataError` if one breaks its schema."""
    coded = {name: encode(conform(name, tables[name]), SORT_KEYS[name]) for name in sorted(tables)}
    return {name: (File(digest(data), tables[name].num_rows), data) for name, data in coded.items()}


def write_once(store: Store, key: str, *, data: bytes) -> bool:
    """Write `data` under `key` and return True; False if it is there already with these bytes.

    Raises:
        IntegrityError: the key holds other bytes.
    """
    if store.put_new(key, data):
        return True
    check_held(store, key, data=data)
    return False


def check_held(store: Store, key: str, *, data: bytes) -> None:
    """Raise IntegrityError unless the store holds `data` under `key`."""
    if (held := digest(store.get(key))) != digest(data):
        raise IntegrityError(f"File {key!r} has the SHA-256 {held}; {digest(data)} was to be written. (store {store})")


def fetched(store: Store, keys: Sequence[str]) -> list[bytes]:
    """Return the bytes under `keys`, in their order; a place far away is asked for several at a time."""
    with ThreadPoolExecutor(_AT_A_TIME) as pool:
        return list(pool.map(store.get, keys))


def read_file(store: Store, key: str, *, name: str, file: File) -> pa.Table:
    """Return the table `name` that `file` promises under `key`.

    Raises:
        IntegrityError: the file is missing, has another hash, another number of rows or another schema.
    """
    return checked(store, key, data=store.get(key), name=name, file=file)


def checked(store: Store, key: str, *, data: bytes, name: str, file: File) -> pa.Table:
    """Return the table `name` in `data`, the bytes under `key`, if they are what `file` promises.

    Raises:
        IntegrityError: another hash, another number of rows or another schema.
    """
    if (held := digest(data)) != file.sha256:
        raise IntegrityError(f"File {key!r} has the SHA-256 {held}; {file.sha256} was committed. (store {store})")
    rows = decode(data)
    if rows.num_rows != file.rows:
        raise IntegrityError(f"File {key!r} has {rows.num_rows} rows; {file.rows} were committed. (store {store})")
    if not rows.schema.equals(schema_of(name)):
        raise IntegrityError(f"File {key!r} does not follow the schema of the table {name!r}. (store {store})")
    return rows


def disagreement(before: Mapping[str, File], now: Mapping[str, File]) -> str | None:
    """Return the first table whose promise differs, with both promises; None if all are the same."""
    for name in sorted({*before, *now}):
        was, is_now = (str(files[name]) if name in files else "no such table" for files in (before, now))
        if was != is_now:
            return f"table {name!r} was written as {was}, and is now {is_now}"
    return None


def parse_files(body: Mapping[str, object], where: str) -> dict[str, File]:
    """Return the promises written in a marker or manifest as {table: {sha256, rows}}; `where` names its key."""
    return {name: _parse_file(item, f"{where}: {name}") for name, item in body.items()}


def _parse_file(item: object, where: str) -> File:
    match item:
        case {"sha256": str(sha256), "rows": int(rows), **rest} if not rest and _SHA256.fullmatch(sha256):
            return File(sha256, rows)
        case _:
            raise IntegrityError(f"{item!r} is not a file's record; expected are sha256 and rows. ({where})")
