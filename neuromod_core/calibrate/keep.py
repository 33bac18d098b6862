"""Keeping what was calibrated, under the fingerprint of all it depends on. Complete or absent, never half-written.

A kept part is a safetensors file whose metadata hold its facts and a seal: the digest of facts and arrays.
"""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save

from neuromod_core.kernel.errors import IntegrityError
from neuromod_core.kernel.types import Json, canonical, digest

Arrays = Mapping[str, NDArray[np.float32] | NDArray[np.float64]]
SHOWN = 16  # hex digits of a fingerprint in a file name


def _seal(arrays: Arrays, facts: str) -> str:
    return digest([facts, digest(save(dict(arrays)))])


@dataclass(frozen=True)
class Cache:
    """A folder of calibrations, and one that ships with the project and is only read.

    used: the files that were read.
    """

    folder: Path
    shipped: Path | None = None
    used: set[Path] = field(default_factory=set, compare=False, repr=False)

    def find(self, label: str, fingerprint: str) -> Path | None:
        """Return the file kept under a fingerprint, None when there is none."""
        name = f"{label}.{fingerprint[:SHOWN]}.safetensors"
        places = [self.folder, *([] if self.shipped is None else [self.shipped])]
        return next((folder / name for folder in places if (folder / name).is_file()), None)

    def read(self, label: str, fingerprint: str) -> tuple[Arrays, Mapping[str, Json]] | None:
        """Return what is kept under `fingerprint`, or None; raise IntegrityError when it was altered.

        label: what it is, for people who look into the folder.
        """
        path = self.find(label, fingerprint)
        if path is None:
            return None
        self.used.add(path)
        try:
            with safe_open(path, framework="numpy") as file:
                metadata = file.metadata() or {}
                arrays = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - not a mapping
        except (SafetensorError, OSError) as cause:
            raise IntegrityError(f"{path} cannot be read ({cause}); delete it to calibrate anew.") from None
        facts = metadata.get("facts", "")
        if metadata.get("seal") != _seal(arrays, facts) or metadata.get("fingerprint") != fingerprint:
            raise IntegrityError(f"{path} was altered after it was written; delete it to calibrate anew.")
        return arrays, json.loads(facts)

    def write(self, label: str, fingerprint: str, arrays: Arrays, facts: Mapping[str, Json]) -> None:
        """Keep arrays and facts under `fingerprint`; the same content is written once."""
        self.folder.mkdir(parents=True, exist_ok=True)
        text = canonical(facts).decode()
        metadata = {"facts": text, "seal": _seal(arrays, text), "fingerprint": fingerprint}
        handle, scratch = tempfile.mkstemp(dir=self.folder, prefix=".writing-")
        try:
            with os.fdopen(handle, "wb") as stream:
                stream.write(save(dict(arrays), metadata))
            Path(scratch).replace(self.folder / f"{label}.{fingerprint[:SHOWN]}.safetensors")
        finally:
            Path(scratch).unlink(missing_ok=True)
