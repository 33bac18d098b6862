"""The commit log: a shard counts when its marker exists, and only then. Knows nothing of who runs the shards.

`data/<sha256>.parquet` holds rows and nothing that depends on the worker; `commits/<shard_id>.json` is the marker,
created exclusively. A crash between the two leaves a file that no marker names, which no reader sees; running the shard
again gives the same bytes, and so the same name.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass

import pyarrow as pa

from neuromod_core.kernel.errors import IntegrityError, NonDeterminism
from neuromod_core.kernel.types import Json, canonical
from neuromod_core.store.files import File, check_held, checked, disagreement, fetched, packed, parse_files, write_once
from neuromod_core.store.protocol import Store
from neuromod_core.store.staging import staged
from neuromod_core.store.tables import SORT_KEYS, ordered, schema_of

_FOLDER, _SUFFIX = "commits/", ".json"


@dataclass(frozen=True)
class Marker:
    """One committed shard: its files by table, and who made them, when and on what (this may differ between runs)."""

    shard_id: str
    files: Mapping[str, File]
    provenance: Mapping[str, Json]


def commit(store: Store, shard_id: str, *, tables: Mapping[str, pa.Table], provenance: Mapping[str, Json]) -> Marker:
    """Publish the rows of a shard, and return its marker: the one already there if the shard was committed before.

    Raises:
        NonDeterminism: the shard was committed before with other rows.
        DataError: a table that does not follow its schema.
    """
    files = packed(tables)
    named = {data_key(file): data for file, data in files.values()}
    marker = Marker(shard_id, {name: file for name, (file, _) in files.items()}, provenance)
    won, older = (False, list(named)) if store.holds(_key(shard_id)) else _publish(store, marker, named=named)
    believed = marker if won else _agreed(store, marker)
    for key in older:
        if not store.holds(key):  # an orphan swept away before the marker named it, or a file lost since
            write_once(store, key, data=named[key])
    return believed


def _publish(store: Store, marker: Marker, *, named: Mapping[str, bytes]) -> tuple[bool, list[str]]:
    """Write files and then their marker; return whether this call made the marker, and the files that were there."""
    key = _key(marker.shard_id)
    with staged(store, {**named, key: canonical(marker)}) as put:
        new = put(*named)
        older = [name for name in named if name not in new]
        for name in older:
            check_held(store, name, data=named[name])
        return key in put(key), older


def commits(store: Store) -> Mapping[str, Marker]:
    """Return every marker of the store by its shard, in the order of the shards."""
    shards = committed(store)
    bodies = fetched(store, [_key(shard_id) for shard_id in shards])
    return {shard_id: _parse_marker(store, shard_id, body) for shard_id, body in zip(shards, bodies, strict=True)}


def committed(store: Store) -> tuple[str, ...]:
    """Return the shards that have a marker, sorted; no marker is read."""
    keys = store.keys(_FOLDER)
    return tuple(sorted(key.removeprefix(_FOLDER).removesuffix(_SUFFIX) for key in keys if key.endswith(_SUFFIX)))


def read_table(store: Store, name: str, *, markers: Mapping[str, Marker]) -> pa.Table:
    """Return all committed rows of the table called `name`, sorted: the same however they were divided into shards.

    Raises:
        IntegrityError: a file is missing or is not what its marker promised.
        DataError: two shards hold one and the same row.
    """
    files = [marker.files[name] for marker in markers.values() if name in marker.files]
    keys = [data_key(file) for file in files]
    read = zip(keys, files, fetched(store, keys), strict=True)
    parts = [checked(store, key, data=data, name=name, file=file) for key, file, data in read]
    return ordered(pa.concat_tables([schema_of(name).empty_table(), *parts]), SORT_KEYS[name])


def _key(shard_id: str) -> str:
    return f"{_FOLDER}{shard_id}{_SUFFIX}"


def data_key(file: File) -> str:
    """Return the key of a file of rows: its name is its hash."""
    return f"data/{file.sha256}.parquet"


def _read_marker(store: Store, shard_id: str) -> Marker:
    return _parse_marker(store, shard_id, store.get(_key(shard_id)))


def _parse_marker(store: Store, shard_id: str, data: bytes) -> Marker:
    where = f"{_key(shard_id)}, store {store}"
    try:
        body = json.loads(data)
    except ValueError as cause:
        raise IntegrityError(f"The marker of shard {shard_id!r} is not JSON: {cause}. ({where})") from cause
    match body:
        case {"shard_id": str(named), "files": dict(files), "provenance": dict(provenance), **rest} if not rest:
            if named == shard_id:
                return Marker(shard_id, parse_files(files, where), provenance)
            raise IntegrityError(f"The marker of shard {shard_id!r} names the shard {named!r}. ({where})")
        case _:
            raise IntegrityError(f"The marker of shard {shard_id!r} must hold shard_id, files, provenance. ({where})")


def _agreed(store: Store, marker: Marker) -> Marker:
    """Return the marker that won, if it promises the same files."""
    won = _read_marker(store, marker.shard_id)
    if differs := disagreement(won.files, marker.files):
        raise NonDeterminism(f"Shard {marker.shard_id!r} gave two results: {differs}. (store {store})")
    return won
