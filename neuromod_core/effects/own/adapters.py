"""Low-rank adapters from files, blended into the model by dose and never merged into its weights."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

from torch import Tensor

from neuromod_core.effects.base import EFFECTS, in_range
from neuromod_core.effects.kinds import ModuleEffect
from neuromod_core.effects.own.files import stamp, tensors, verify
from neuromod_core.effects.subject import Subject
from neuromod_core.kernel.errors import MissingVector, NotOnThisModel

PREFIX = "base_model.model."
WHO = "lora_adapter"
UNKNOWN = ("alpha_pattern", "rank_pattern", "use_dora", "layer_replication")  # what would make y' mean something else


class Pair(NamedTuple):
    """down (rank, inputs), up (outputs, rank), and the factor of their product."""

    down: Tensor
    up: Tensor
    scale: float


def _settings(folder: Path) -> tuple[float | None, bool]:
    """Return (alpha, whether it is divided by sqrt(rank) instead of rank) of an adapter's folder."""
    file = folder / "adapter_config.json"
    stamp(file, WHO)
    try:
        config = json.loads(file.read_text())
    except ValueError as cause:
        raise MissingVector(f"{WHO}: {str(file)!r} is not JSON ({cause}).") from cause
    strange = [key for key in UNKNOWN if config.get(key)]
    if config.get("peft_type", "LORA") != "LORA" or strange:
        raise MissingVector(f"{WHO}: {str(file)!r} is not a plain LoRA ({', '.join(strange) or config['peft_type']}).")
    return config.get("lora_alpha"), bool(config.get("use_rslora"))


@lru_cache(maxsize=8)
def _adapter(path: str, changed: int, alpha: float) -> Mapping[str, Pair]:
    folder, weights = Path(path), _weights(path)
    told, rooted = _settings(folder) if folder.is_dir() else (None, False)
    found = {key.removeprefix(PREFIX): tensor for key, tensor in tensors(weights, WHO).items()}
    downs = {key.removesuffix(".lora_A.weight") for key in found if key.endswith(".lora_A.weight")}
    needed = {f"{module}.{half}.weight" for module in downs for half in ("lora_A", "lora_B")}
    if not downs or needed != set(found):
        strange = sorted(needed ^ set(found)) or ["no lora_A"]
        raise MissingVector(f"{WHO}: {weights!r} is not pairs of lora_A and lora_B: {', '.join(strange[:3])}.")
    pairs = {}
    for module in sorted(downs):
        down, up = found[f"{module}.lora_A.weight"], found[f"{module}.lora_B.weight"]
        rank = len(down)
        if (down.dim(), up.dim()) != (2, 2) or up.shape[1] != rank:
            shapes = f"{tuple(down.shape)} and {tuple(up.shape)}"
            raise MissingVector(f"{WHO}: {module!r} of {weights!r} has shapes {shapes}; allowed is (r, in), (out, r).")
        given = alpha or (rank if told is None else told)
        pairs[module] = Pair(down, up, given / (rank**0.5 if rooted else rank))
    return pairs


def _weights(path: str) -> str:
    return str(Path(path) / "adapter_model.safetensors") if Path(path).is_dir() else path


@EFFECTS.add("lora_adapter")
@dataclass(frozen=True, kw_only=True)
class LoRAAdapter(ModuleEffect):
    """Blend in a low-rank adapter (d > 0) or its opposite (d < 0):  y' = y + d (alpha / r) B A x  in the
    linear modules it was made for.

    `path` is a PEFT folder, or a .safetensors file of `<module>.lora_A.weight` (r, inputs) and `lora_B` (outputs, r).
    `alpha` 0 takes the folder's, or r where there is none. `sha256`, if given, is that of the weights file.
    Source: Hu et al. 2022.
    """

    path: str
    alpha: float = 0.0
    sha256: str = ""
    observable, moves = "adapter_distance", 1

    def __post_init__(self) -> None:
        in_range(self.alpha, 0.0, 10_000.0, "lora_adapter: alpha")

    @property
    def pairs(self) -> Mapping[str, Pair]:
        """Module path -> its pair of matrices."""
        return _adapter(self.path, stamp(_weights(self.path), WHO), self.alpha)

    def check(self, subject: Subject) -> None:
        """Raise one clear error when files, modules or shapes do not fit the model."""
        verify(_weights(self.path), self.sha256, WHO)
        for module, pair in self.pairs.items():
            expected, given = subject.reading().linear_shape(module), (pair.up.shape[0], pair.down.shape[1])
            if given != expected:
                raise NotOnThisModel(f"{WHO}: {module!r} is {expected} on {subject.name}; the adapter is for {given}.")

    def paths(self, subject: Subject) -> Sequence[str]:
        """See `ModuleEffect.paths`."""
        return tuple(self.pairs)

    def edit(self, path: str, entering: Tensor, output: Tensor, dose: Tensor) -> Tensor:
        """See `ModuleEffect.edit`."""
        pair = self.pairs[path]
        down, up = (half.to(entering.device) for half in (pair.down, pair.up))
        return output.float() + pair.scale * dose[:, None, None] * (entering.float() @ down.T @ up.T)
