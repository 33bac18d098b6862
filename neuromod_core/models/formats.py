"""Number formats of weights: which may be asked for, how large they are, and what the library must be told."""

from __future__ import annotations

import importlib.util
from dataclasses import dataclass

import torch
from transformers import BitsAndBytesConfig, Mxfp4Config, PretrainedConfig
from transformers.utils.quantization_config import QuantizationConfigMixin

from neuromod_core.kernel.errors import ModelError
from neuromod_core.models.spec import ModelSpec

PLAIN = {"bfloat16": torch.bfloat16, "float16": torch.float16, "float32": torch.float32}
QUANTISED = {"int8": 8.0, "nf4": 4.5}  # bits a weight, block scales included
FORMATS = ("auto", *sorted(PLAIN), *sorted(QUANTISED))


@dataclass(frozen=True)
class Format:
    """How weights are held: computed in `dtype`, and quantised to `bits` a weight where a matrix of a block is.

    name: one of FORMATS, never "auto".

    Source: Dettmers et al. 2022 (int8), Dettmers et al. 2023 (nf4).
    """

    name: str
    dtype: torch.dtype
    bits: float | None = None

    def config(self) -> QuantizationConfigMixin | None:
        """Return what the library must be told of the quantisation, None where there is none."""
        if self.name == "int8":
            return BitsAndBytesConfig(load_in_8bit=True)
        if self.name == "nf4":
            return BitsAndBytesConfig(load_in_4bit=True, bnb_4bit_quant_type="nf4", bnb_4bit_compute_dtype=self.dtype)
        return None


def best_dtype() -> torch.dtype:
    """Return bfloat16 where the GPU, or the processor's matrix units, compute in it; else float32."""
    if torch.cuda.is_available():
        return torch.bfloat16 if torch.cuda.is_bf16_supported() else torch.float32
    return torch.bfloat16 if torch.cpu._is_amx_tile_supported() else torch.float32


def format_of(spec: ModelSpec, *, gpu: bool | None = None) -> Format:
    """Return the number format that `spec` asks for.

    gpu: whether there is a CUDA GPU; None looks.

    Raises:
        ModelError: for an unknown format, or a quantised one without a CUDA GPU or without bitsandbytes.
    """
    if spec.dtype == "auto":
        best = best_dtype()
        return Format(str(best).removeprefix("torch."), best)
    if spec.dtype in PLAIN:
        return Format(spec.dtype, PLAIN[spec.dtype])
    if spec.dtype not in QUANTISED:
        raise ModelError(f"Model {spec.name!r} asks for dtype {spec.dtype!r}. Allowed: {', '.join(FORMATS)}.")
    gpu = torch.cuda.is_available() if gpu is None else gpu
    lacking = [
        *([] if gpu else ["a CUDA GPU"]),
        *([] if importlib.util.find_spec("bitsandbytes") else ["the package bitsandbytes"]),
    ]
    if lacking:
        raise ModelError(
            f"Model {spec.name!r} asks for dtype {spec.dtype!r}, which needs {' and '.join(lacking)}: not here. "
            f"Here model.dtype may be auto, {', '.join(sorted(PLAIN))}."
        )
    return Format(spec.dtype, best_dtype(), QUANTISED[spec.dtype])


def unpacking(name: str, config: PretrainedConfig) -> QuantizationConfigMixin | None:
    """Return how a checkpoint that is quantised on disk is read: MXFP4 is unpacked, so that routers can be dosed.

    Raises:
        ModelError: for any other quantisation.
    """
    stored = getattr(config, "quantization_config", None)
    if stored is None:
        return None
    method = stored.get("quant_method") if isinstance(stored, dict) else stored.quant_method
    if method != "mxfp4":
        raise ModelError(
            f"Model {name!r} is stored quantised ({method}), which is not supported. "
            "Take the unquantised checkpoint, with model.dtype=nf4 or int8 where there is a CUDA GPU."
        )
    return Mxfp4Config(dequantize=True)
