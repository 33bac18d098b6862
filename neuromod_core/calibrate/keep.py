"""Keeping what was calibrated, under the fingerprint of all it depends on. Complete or absent, never half-written."""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from safetensors.numpy import load, save

from neuromod_core.kernel.errors import IntegrityError
from neuromod_core.kernel.types import Json, canonical, digest

Arrays = Mapping[str, NDArray[np.float32]]


@dataclass(frozen=True)
class Cache:
    """A folder of calibrations; each file carries its facts and their digest beside its arrays."""

    folder: Path

    def read(self, fingerprint: str) -> tuple[Arrays, Mapping[str, Json]] | None:
        """Return what is kept under `fingerprint`, or None; raise IntegrityError when it was altered."""
        path = self.folder / f"{fingerprint}.calibration"
        if not path.is_file():
            return None
        seal, _, body = path.read_bytes().partition(b"\n")
        if digest(body).encode() != seal:
            raise IntegrityError(f"{path} was altered after it was written; delete it to calibrate anew.")
        facts, _, arrays = body.partition(b"\n")
        return load(arrays), json.loads(facts)

    def write(self, fingerprint: str, arrays: Arrays, facts: Mapping[str, Json]) -> None:
        """Keep arrays and facts under `fingerprint`; the same content is written once."""
        self.folder.mkdir(parents=True, exist_ok=True)
        body = canonical(facts) + b"\n" + save(dict(arrays))
        handle, scratch = tempfile.mkstemp(dir=self.folder, prefix=".writing-")
        try:
            with os.fdopen(handle, "wb") as stream:
                stream.write(digest(body).encode() + b"\n" + body)
            Path(scratch).replace(self.folder / f"{fingerprint}.calibration")
        finally:
            Path(scratch).unlink(missing_ok=True)
