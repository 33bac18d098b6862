"""The ledger: an append-only chain of entries, each of which holds the hash of the one before.

Changing, dropping or reordering an entry breaks the chain after it. Dropping the last entries does not: publish `head`.
This module keeps no file and knows no time; entries go in and come out.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from neuromod_core.kernel.errors import IntegrityError
from neuromod_core.kernel.types import Json, canonical, digest, plain

GENESIS = "0" * 64


@dataclass(frozen=True)
class Entry:
    """One link:  hash = SHA-256(canonical JSON of the other four);  previous = hash of the entry before."""

    index: int
    previous: str
    kind: str
    payload: Mapping[str, Json]
    hash: str


def head(entries: Sequence[Entry]) -> str:
    """Return the hash of the last entry: whoever knows it can tell whether the ledger was changed or cut short.

    >>> head([]) == "0" * 64
    True
    """
    return entries[-1].hash if entries else GENESIS


def append(entries: Sequence[Entry], kind: str, payload: Mapping[str, Json]) -> Entry:
    """Return the entry that continues `entries`, which stay as they are.

    Raises:
        TypeError: for a payload without a canonical form (NaN, a tensor).

    >>> first = append([], "plan", {"units": 48})
    >>> second = append([first], "seal", {"commitment": "bfba"})
    >>> second.index, second.previous == first.hash
    (1, True)
    """
    copied = {key: plain(value) for key, value in payload.items()}
    index, previous = len(entries), head(entries)
    return Entry(index, previous, kind, copied, _link(index, previous, kind, copied))


def verify(entries: Sequence[Entry]) -> None:
    """Check every link of the chain.

    Raises:
        IntegrityError: for the first entry that is out of place, does not follow the one before, or was changed.

    >>> verify([append([], "plan", {"units": 48})])
    """
    previous = GENESIS
    for place, entry in enumerate(entries):
        content = _link(entry.index, entry.previous, entry.kind, entry.payload)
        for what, given, expected in (
            ("index", entry.index, place),
            ("previous", entry.previous, previous),
            ("hash", entry.hash, content),
        ):
            if given != expected:
                raise IntegrityError(
                    f"Ledger entry {place} ({entry.kind!r}) is not what was recorded: "
                    f"its {what} is {given}, {expected} was expected."
                )
        previous = entry.hash


def dump(entries: Sequence[Entry]) -> str:
    """Return the entries as JSON lines, each in canonical form.

    >>> dump([append([], "plan", {"units": 48})])[75:132]
    '"index":0,"kind":"plan","payload":{"units":48},"previous"'
    """
    return "".join(canonical(entry).decode() + "\n" for entry in entries)


def load(text: str) -> tuple[Entry, ...]:
    """Return the entries of JSON lines written by `dump`, with their chain verified.

    Raises:
        IntegrityError: for a line that is cut short or is not an entry in canonical form, and for a broken chain.

    >>> entry = append([], "plan", {"units": 48})
    >>> load(dump([entry])) == (entry,)
    True
    """
    *lines, rest = text.split("\n")
    if rest:
        raise IntegrityError(f"Ledger line {len(lines) + 1} is cut short: it does not end in a line feed.")
    entries = tuple(_parsed(line, number) for number, line in enumerate(lines, start=1))
    verify(entries)
    return entries


def _link(index: int, previous: str, kind: str, payload: Mapping[str, Json]) -> str:
    """Return the hash that binds an entry's content to its place."""
    return digest({"index": index, "previous": previous, "kind": kind, "payload": payload})


def _parsed(line: str, number: int) -> Entry:
    """Return the entry that `line` encodes, when encoding it again gives the same line."""
    try:
        match json.loads(line):
            case {
                "index": int() as index,
                "previous": str() as previous,
                "kind": str() as kind,
                "payload": dict() as payload,
                "hash": str() as link,
            }:
                entry = Entry(index, previous, kind, payload, link)
                if canonical(entry).decode() == line:
                    return entry
    except (ValueError, TypeError) as cause:
        raise IntegrityError(f"Ledger line {number} is not JSON: {cause}.") from cause
    raise IntegrityError(f"Ledger line {number} is not an entry in canonical form.")
