"""Steering vectors as a control-vector file that llama.cpp and the programs built on it read.

A GGUF file of architecture "controlvector": `controlvector.model_hint` (the model's architecture as llama.cpp names
it), `controlvector.layer_count` (how many directions follow), and one float32 tensor `direction.N` (width,) a layer.
N counts blocks from 0, as everywhere here, and the direction is added to the output of block N, which is where a vector
is calibrated; block 0 cannot be steered there and is refused.

llama.cpp adds  scale x direction  at every token, and all directions of a file at once. A direction written with its
shift is therefore  unit vector x shift,  with

    shift = KL unit (share of the residual norm) x median residual norm at the layer

so that a scale of 1 is one KL unit. That holds for a file of one layer; several layers, each at its own unit, add up to
more. Without shifts the directions have norm 1, and the scale is the length of the push itself.
Sources: llama.cpp (`common_control_vector_load`, `llama_adapter_cvec`); repeng (`ControlVector.export_gguf`).
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from gguf import GGUFWriter

from neuromod_core.calibrate.methods import Array, unit
from neuromod_core.calibrate.vectors import Card, Direction
from neuromod_core.kernel.errors import CalibrationError, NoSuchLayer, OutOfRange

ARCHITECTURE = "controlvector"


def directions(vectors: Array, shifts: Mapping[int, float] | None = None) -> dict[int, Array]:
    """Return block -> direction (width,), float32, as it is written.

    vectors: (layers, width), any length but zero, of every block from 0 on.  shifts: block -> length of the push in
    units of the residual stream; only these blocks are given. Without it all but block 0 are, with norm 1.

    Raises:
        CalibrationError: for vectors of another shape, that are not finite or zero, or no block to write.
        NoSuchLayer: for a block that is not among the vectors, or block 0.
        OutOfRange: for a shift that is not above zero.
    """
    if vectors.ndim != 2 or not np.isfinite(vectors).all():
        raise CalibrationError(f"Vectors to export are (layers, width) and finite; given shape {vectors.shape}.")
    chosen = dict.fromkeys(range(1, len(vectors)), 1.0) if shifts is None else dict(sorted(shifts.items()))
    if not chosen:
        raise CalibrationError("There is no direction to export: a control vector has at least one, above block 0.")
    for layer, length in chosen.items():
        if not 1 <= layer < len(vectors):
            raise NoSuchLayer(f"A control vector steers blocks 1 to {len(vectors) - 1}; asked for block {layer}.")
        if not (np.isfinite(length) and length > 0):
            raise OutOfRange(f"The shift of block {layer} is {length}; it must be finite and above 0.")
        if not vectors[layer].any():
            raise CalibrationError(f"The vector of block {layer} is zero: it has no direction.")
    return {layer: (unit(vectors[layer]) * length).astype(np.float32) for layer, length in chosen.items()}


def write_gguf(
    path: Path, vectors: Array, model_hint: str, *, shifts: Mapping[int, float] | None = None, name: str | None = None
) -> None:
    """Write a control-vector file, complete or not at all; equal vectors give equal bytes.

    vectors, shifts: see `directions`.  model_hint: architecture, such as "llama" or "qwen2".  name: of the concept.

    Raises:
        CalibrationError, NoSuchLayer, OutOfRange: see `directions`.
    """
    found = directions(vectors, shifts)
    handle, scratch = tempfile.mkstemp(dir=path.parent, prefix=".writing-")
    os.close(handle)
    try:
        writer = GGUFWriter(scratch, ARCHITECTURE)
        writer.add_string(f"{ARCHITECTURE}.model_hint", model_hint)
        writer.add_uint32(f"{ARCHITECTURE}.layer_count", len(found))
        if name is not None:
            writer.add_name(name)
        writer.add_description(
            "unit vectors; the scale is the length of the push"
            if shifts is None
            else "unit vectors times their shifts; at a scale of 1 a layer is pushed by its calibrated unit"
        )
        for layer, direction in found.items():
            writer.add_tensor(f"direction.{layer}", direction)
        writer.write_header_to_file()
        writer.write_kv_data_to_file()
        writer.write_tensors_to_file()
        writer.close()
        Path(scratch).replace(path)
    finally:
        Path(scratch).unlink(missing_ok=True)


def export(path: Path, card: Card, found: Direction, stream_norm: float, model_hint: str) -> None:
    """Write a calibrated vector at its own layer, so that a scale of 1 is its KL unit.

    stream_norm: median residual norm at the card's layer.

    Raises:
        CalibrationError: for a vector that is not valid, or whose KL unit was not measured.
        NoSuchLayer, OutOfRange: see `directions`.
    """
    if not card.valid:
        raise CalibrationError(f"Vector {card.concept!r} is not exported: {'; '.join(card.failures)}.")
    if card.causal is None or card.causal.relative is None:
        raise CalibrationError(f"Vector {card.concept!r} has no measured KL unit; `write_gguf` writes it without.")
    shifts = {card.layer: card.causal.relative * stream_norm}
    write_gguf(path, found.vectors, model_hint, shifts=shifts, name=card.concept)
