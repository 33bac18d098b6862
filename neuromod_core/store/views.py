"""Views kept beside records: a report, its pictures. They follow from the records, so a newer one takes their place.

A record is created once and never replaced; nothing here touches one that a marker, a ledger or a manifest names.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from neuromod_core.kernel.errors import StorageError
from neuromod_core.store.files import fetched
from neuromod_core.store.protocol import SweptStore

_RECORDS = ("plan.json", "ledger/", "data/", "commits/", "dataset/", "opened/", "analysis/")


def show(store: SweptStore, key: str, data: bytes) -> bool:
    """Keep `data` under `key`, in place of what is there; return False if these bytes were there already.

    Raises:
        StorageError: a key of the records.
    """
    if key.startswith(_RECORDS):
        raise StorageError(f"{key!r} is a record, which is never replaced. (store {store})")
    if store.put_new(key, data):
        return True
    if store.get(key) == data:
        return False
    store.remove(key)
    store.put_new(key, data)
    return True


def show_folder(store: SweptStore, folder: Path, *, last: str) -> None:
    """Keep every file below `folder` under its path; `last` after all others, so that whoever sees it sees them too."""
    paths = sorted(path for path in folder.rglob("*") if path.is_file())
    keys = [path.relative_to(folder).as_posix() for path in paths]
    for key in sorted(keys, key=lambda key: (key == last, key)):
        show(store, key, (folder / key).read_bytes())


def copy_to(store: SweptStore, folder: Path, *, keys: Sequence[str]) -> None:
    """Write what is kept under `keys` below a folder, at the same paths."""
    for key, data in zip(keys, fetched(store, keys), strict=True):
        path = folder / key
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
