"""Verification: every published number derived again from raw rows, every hash and commitment checked."""

from __future__ import annotations

from neuromod_core.kernel.errors import IntegrityError
from neuromod_core.store.compact import Manifest, verify_manifest
from neuromod_core.store.tables import SORT_KEYS, decode, encode
from neuromod_core.trial import robust
from neuromod_core.trial.archive import Archive
from neuromod_core.trial.close import judge, order_of, tables_of
from neuromod_core.trial.executed import ORDER


def verify(archive: Archive) -> Manifest:
    """Return the manifest of a closed study after checking everything that can be checked.

    In order: the ledger's chain; the plan and the allocation against their commitments; every raw file against its
    marker, and all of them against the recorded head; every file of the dataset against the manifest, and the manifest
    against the ledger; then scores, gates and verdicts are computed again from the raw rows and compared, byte by byte,
    and so is the audit of the executed order; the sensitivity analyses are compared number by number.

    Raises:
        IntegrityError: with one line that names the first thing that is not as it was committed or does not follow.
    """
    registration = archive.registration()
    head, recorded = archive.data_head(registration), archive.entry("data")["head"]
    if head != recorded:
        raise IntegrityError(f"The raw data are not those recorded: the ledger has {recorded}, the shards give {head}.")
    archive.unblind()
    manifest = verify_manifest(archive.store)
    if manifest.root != (closed := archive.entry("closed")["root"]):
        raise IntegrityError(f"The dataset's root is {manifest.root}; the ledger closed the study with {closed}.")
    outcome = judge(archive, registration)
    for name, derived in tables_of(archive, registration, outcome).items():
        published = archive.store.get(f"dataset/{name}.parquet")
        if encode(derived, SORT_KEYS[name]) != published:
            raise IntegrityError(f"Table {name!r} does not follow from the raw rows{_where(name, published, derived)}.")
    if archive.store.get(ORDER) != order_of(archive, registration, outcome):
        raise IntegrityError(f"{ORDER} does not follow from the commit markers.")
    robust.check(archive, robust.sensitivity_of(archive, registration, outcome.scores))
    return manifest


def _where(name: str, published: bytes, derived: object) -> str:
    """Return the first difference between a published table and the derived one, as a clause."""
    rows, again = decode(published).to_pylist(), derived.to_pylist()  # type: ignore[attr-defined]
    again.sort(key=lambda row: tuple(str(row[key]) for key in SORT_KEYS[name]))
    rows.sort(key=lambda row: tuple(str(row[key]) for key in SORT_KEYS[name]))
    for one, other in zip(rows, again, strict=False):
        for column, value in one.items():
            if value != other[column]:
                key = ", ".join(str(one[part]) for part in SORT_KEYS[name])
                return f": {column} of ({key}) is published as {value}, and is {other[column]}"
    return f": {len(rows)} rows are published, {len(again)} follow"
