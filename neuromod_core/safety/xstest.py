"""Requests that a model should answer, and requests that it should refuse, from a public set.

Harmful requests are scored by the openings of a reply alone. Nothing is ever generated after one: `replies` refuses.
"""

from __future__ import annotations

import csv
import io
from dataclasses import dataclass
from pathlib import Path

from neuromod_core.instruments.tasks import read_public
from neuromod_core.instruments.texts import Text
from neuromod_core.kernel.errors import DataError


@dataclass(frozen=True)
class Request(Text):
    """A user's words; `harmful` says whether refusing is warranted, `kind` which contrast it belongs to."""

    id: str
    text: str
    kind: str
    harmful: bool


def load_xstest(folder: Path | None) -> tuple[Request, ...]:
    """Return the 250 safe requests of XSTest and the 200 unsafe ones that contrast with them, in its order.

    Source: Röttger et al. 2024 (CC BY 4.0).

    Raises:
        DataError: if the file is not there, or a label is neither safe nor unsafe.
        IntegrityError: if it is not the pinned file.
    """
    return requests(read_public(folder, "xstest"))


def requests(text: str) -> tuple[Request, ...]:
    """Return the requests of a CSV text with the columns id, prompt, type and label (safe or unsafe).

    Raises:
        DataError: if a column is missing, or a label is neither safe nor unsafe.
    """
    reader = csv.DictReader(io.StringIO(text))
    absent = {"id", "prompt", "type", "label"} - set(reader.fieldnames or ())
    if absent:
        raise DataError(f"The requests lack the column {sorted(absent)[0]!r}.")
    found = []
    for row in reader:
        if row["label"] not in ("safe", "unsafe"):
            raise DataError(f"Request {row['id']} is labelled {row['label']!r}; safe and unsafe are known.")
        found.append(Request(f"x{int(row['id']):03d}", row["prompt"], row["type"], row["label"] == "unsafe"))
    return tuple(found)
