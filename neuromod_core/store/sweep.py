"""Files of rows that no marker names: what a crash between a file and its marker leaves behind.

They are invisible to readers and cost only space. Removing one is safe beside running workers: a worker that reuses
such a file looks for it again after its marker is there (see `commit`), and the sweep puts back what a marker names by
the time it is gone.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from neuromod_core.kernel.errors import OutOfRange
from neuromod_core.store.commits import Marker, commits, data_key
from neuromod_core.store.protocol import SweptStore

DAY = 86_400.0
_DATA, _AT_A_TIME = "data/", 32


@dataclass(frozen=True)
class Orphan:
    """A file of rows that no marker names: its key, its age in seconds and its size in bytes."""

    key: str
    seconds: float
    size: int


def orphans(store: SweptStore, *, now: float, grace: float = DAY) -> tuple[Orphan, ...]:
    """Return the files that no marker names and that were written more than `grace` seconds before `now`.

    `now` is in seconds since 1970. The files are listed before the markers are read: a shard that is committed in
    between is not taken for an orphan.

    Raises:
        OutOfRange: a negative grace.
        IntegrityError: a marker that cannot be read; then nothing is known to be unreferenced.
    """
    if not grace >= 0:
        raise OutOfRange(f"The grace period is {grace:g} seconds; allowed is 0 or more.")
    files = store.entries(_DATA)
    named = _named(commits(store))
    aged = [Orphan(key, now - entry.written, entry.size) for key, entry in files.items() if key not in named]
    return tuple(sorted((found for found in aged if found.seconds > grace), key=lambda found: found.key))


def sweep(store: SweptStore, found: Sequence[Orphan]) -> tuple[Orphan, ...]:
    """Remove orphans and return those that are gone; one that a marker names meanwhile is put back."""
    gone: list[Orphan] = []
    for start in range(0, len(found), _AT_A_TIME):
        some = found[start : start + _AT_A_TIME]
        held = {orphan.key: store.get(orphan.key) for orphan in some}
        for key in held:
            store.remove(key)
        named = _named(commits(store))
        for orphan in some:
            if orphan.key in named:
                store.put_new(orphan.key, held[orphan.key])
            else:
                gone.append(orphan)
    return tuple(gone)


def _named(markers: Mapping[str, Marker]) -> set[str]:
    return {data_key(file) for marker in markers.values() for file in marker.files.values()}
