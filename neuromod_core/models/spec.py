"""A model as a configuration names it."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class ModelSpec:
    """A model as a configuration names it.

    source: "embedded" (the package model), "tiny" (random weights, for tests), or "transformers" (hub id or folder).
    path: what the source needs: an architecture for tiny models, a hub id or a folder for transformers.
    revision: commit, tag or branch on the hub; None is its main branch.
    sha256: expected digest of the safetensors weights; None accepts any and records what was found.
    dtype: a number format, see `formats.FORMATS`. "auto" takes bfloat16 where the processor or GPU has matrix units for
    it, else float32.
    device_map: where the weights go, see `placing.place`: "auto", a device, or a JSON object from module to device.
    """

    name: str
    source: str
    path: str | None = None
    revision: str | None = None
    sha256: str | None = None
    dtype: str = "auto"
    device_map: str = "auto"
