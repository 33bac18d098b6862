"""A closed study as one dataset: a sorted file per table, and a manifest whose root hash stands for all of it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass

import pyarrow as pa

from neuromod_core.kernel.errors import IntegrityError
from neuromod_core.kernel.types import canonical, digest
from neuromod_core.store.files import File, disagreement, packed, parse_files, read_file, write_once
from neuromod_core.store.protocol import Store

_FOLDER = "dataset/"
_MANIFEST = f"{_FOLDER}manifest.json"


@dataclass(frozen=True)
class Manifest:
    """The files of a dataset by table."""

    files: Mapping[str, File]

    @property
    def root(self) -> str:
        """The SHA-256 of the canonical {table: {sha256, rows}}: 64 hex digits that change if any row does."""
        return digest(self.files)


def compact(store: Store, tables: Mapping[str, pa.Table]) -> Manifest:
    """Write `tables` as the store's dataset and return its manifest; doing it again changes nothing.

    Raises:
        IntegrityError: the store already has a dataset of other rows.
        DataError: a table that does not follow its schema.
    """
    files = packed(tables)
    manifest = Manifest({name: file for name, (file, _) in files.items()})
    if store.holds(_MANIFEST) and (differs := disagreement(read_manifest(store).files, manifest.files)):
        raise IntegrityError(f"The dataset is closed: {differs}. (store {store})")
    for name, (_, data) in files.items():
        write_once(store, _key(name), data=data)
    write_once(store, _MANIFEST, data=canonical({"files": manifest.files, "root": manifest.root}))
    return manifest


def read_manifest(store: Store) -> Manifest:
    """Return the manifest of the store's dataset; `IntegrityError` if its root is not the hash of its body."""
    where = f"{_MANIFEST}, store {store}"
    try:
        body = json.loads(store.get(_MANIFEST))
    except ValueError as cause:
        raise IntegrityError(f"The manifest is not JSON: {cause}. ({where})") from cause
    match body:
        case {"files": dict(files), "root": str(root), **rest} if not rest:
            manifest = Manifest(parse_files(files, where))
        case _:
            raise IntegrityError(f"The manifest must hold files and root, and nothing else. ({where})")
    if manifest.root != root:
        raise IntegrityError(f"The manifest gives the root {root}; its files give {manifest.root}. ({where})")
    return manifest


def verify_manifest(store: Store) -> Manifest:
    """Read every file of the dataset again and return the manifest.

    Raises:
        IntegrityError: a file is missing, is not what the manifest promises, or lies in the dataset unlisted.
    """
    manifest = read_manifest(store)
    listed = {_key(name) for name in manifest.files}
    for key in store.keys(_FOLDER):
        if key.endswith(".parquet") and key not in listed:
            raise IntegrityError(f"File {key!r} is in the dataset, but not in its manifest. (store {store})")
    for name, file in manifest.files.items():
        read_file(store, _key(name), name=name, file=file)
    return manifest


def _key(name: str) -> str:
    return f"{_FOLDER}{name}.parquet"
