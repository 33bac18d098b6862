"""Reading what the user brings. A file is read once per state of the file; every error is one clear line."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from neuromod_core.kernel.errors import IntegrityError, MissingVector, NoSuchLayer, NotOnThisModel
from neuromod_core.kernel.types import file_digest


def stamp(path: str | Path, who: str) -> int:
    """Return when a file was last changed (ns); raise MissingVector when there is none."""
    try:
        return Path(path).stat().st_mtime_ns
    except OSError as cause:
        raise MissingVector(f"{who}: there is no file {str(path)!r} to read.") from cause


@lru_cache(maxsize=16)
def _tensors(path: str, changed: int, who: str) -> dict[str, Tensor]:
    try:
        if path.endswith(".npy"):
            return {"array": torch.from_numpy(np.load(path, allow_pickle=False).astype(np.float32))}
        if path.endswith(".safetensors"):
            return {name: tensor.float() for name, tensor in load_file(path).items()}
    except (OSError, ValueError, TypeError, SafetensorError) as cause:
        raise MissingVector(f"{who}: {path!r} cannot be read ({str(cause).splitlines()[0]}).") from cause
    raise MissingVector(f"{who}: {path!r} is neither a .npy nor a .safetensors file.")


@lru_cache(maxsize=64)
def _digest(path: str, changed: int) -> str:
    return file_digest(Path(path))


def tensors(path: str, who: str) -> dict[str, Tensor]:
    """Return the tensors of a file by name, float32; a .npy file has one, called "array".

    Raises:
        MissingVector: when the file is not there or cannot be read.
    """
    return _tensors(path, stamp(path, who), who)


def verify(path: str, sha256: str, who: str) -> None:
    """Raise IntegrityError unless a file has the digest that was promised ("" for none)."""
    if sha256 and (found := _digest(path, stamp(path, who))) != sha256:
        raise IntegrityError(f"{who}: {path!r} has sha256 {found}; the pack says {sha256}.")


def named(path: str, key: str, who: str) -> Tensor:
    """Return the tensor called `key` of a file, or its only one when `key` is empty."""
    found = tensors(path, who)
    if not key and len(found) == 1:
        return next(iter(found.values()))
    if key not in found:
        asked = f"has no tensor {key!r}" if key else "has several tensors, and no key says which"
        raise MissingVector(f"{who}: {path!r} {asked}. It has: {', '.join(sorted(found))}.")
    return found[key]


def fits(width: int, expected: int, what: str, model: str) -> None:
    """Raise NotOnThisModel unless a width is that of the model."""
    if width != expected:
        raise NotOnThisModel(f"{what} has width {width}; the residual stream of {model} has {expected}.")


def has_layer(layer: int, depth: int, who: str, model: str, first: int = 0) -> None:
    """Raise NoSuchLayer unless the model has the layer."""
    if not first <= layer < depth:
        raise NoSuchLayer(f"{who} asks for layer {layer}; {model} has {first} to {depth - 1}.")
