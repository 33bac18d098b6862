"""Effects of the user's own: small real files for them, what they move, and their slow twins."""

from __future__ import annotations

import atexit
import json
import shutil
import tempfile
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import save_file

from neuromod_core.effects import Subject
from neuromod_core.effects.kinds import ModuleEffect
from neuromod_core.models import LoadedModel
from neuromod_core.packs import Pack
from tests.laws import measure
from tests.laws.families.steering import along
from tests.laws.twins import Array, Spot

FOLDER = Path(tempfile.mkdtemp(prefix="neuromod-own-"))
atexit.register(shutil.rmtree, FOLDER, ignore_errors=True)
MODULE = "model.layers.0.self_attn.q_proj"  # square in every tiny model that has it
HOOK = "def lean(hidden, dose, place):\n    return hidden + 0.2 * dose[:, None, None] * hidden.roll(1, dims=-1)\n"


def drawn(*shape: int, seed: int) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


VECTORS = drawn(2, 32, seed=1)
SAE = {
    "W_dec": torch.nn.functional.normalize(drawn(6, 32, seed=2), dim=-1),
    "W_enc": torch.nn.functional.normalize(drawn(6, 32, seed=2), dim=-1).T.contiguous(),
    "b_enc": drawn(6, seed=3),
    "b_dec": drawn(32, seed=4),
}
DOWN, UP = drawn(3, 32, seed=5), 0.3 * drawn(32, 3, seed=6)
ADAPTER = {f"base_model.model.{MODULE}.lora_A.weight": DOWN, f"base_model.model.{MODULE}.lora_B.weight": UP}

np.save(FOLDER / "vectors.npy", VECTORS.numpy())
save_file(SAE, FOLDER / "sae.safetensors")
(FOLDER / "adapter").mkdir()
save_file(ADAPTER, FOLDER / "adapter" / "adapter_model.safetensors")
(FOLDER / "adapter" / "adapter_config.json").write_text(json.dumps({"peft_type": "LORA", "r": 3, "lora_alpha": 6}))
(FOLDER / "hook.py").write_text(HOOK)

EXAMPLES: dict[str, dict[str, object]] = {
    "lora_adapter": {"path": str(FOLDER / "adapter")},
    "python_hook": {"function": f"{FOLDER / 'hook.py'}:lean", "layer": 0},
    "sae_clamp": {"path": str(FOLDER / "sae.safetensors"), "layer": 1, "feature": 4},
    "sae_feature": {"path": str(FOLDER / "sae.safetensors"), "layer": 1, "feature": 2},
    "vector_file": {"path": str(FOLDER / "vectors.npy"), "layer": 1},
}


def sae_distance_to_target(model: LoadedModel, subject: Subject, pack: Pack) -> float:
    stream = measure.residual(model, subject, pack, 1)
    active = torch.relu((stream - SAE["b_dec"]) @ SAE["W_enc"] + SAE["b_enc"])[:, 4]
    return float((active - 5.0).abs().mean())


def adapter_distance(model: LoadedModel, subject: Subject, pack: Pack) -> float:
    """How far the module's output has gone along what the adapter says."""
    x, y = drawn(1, 7, 32, seed=7), drawn(1, 7, 32, seed=8)
    for effect, dose in measure.binding_of(subject, pack).of(ModuleEffect):
        y = effect(MODULE, x, y, dose)
    return float((y * (x @ DOWN.T @ UP.T)).sum())


def hook_distance(model: LoadedModel, subject: Subject, pack: Pack) -> float:
    undosed = measure.residual(model, subject, measure.NONE, 0)
    return float((measure.residual(model, subject, pack, 0) * undosed.roll(1, dims=-1)).sum())


def vector_file(effect, subject: Subject):
    v = VECTORS[effect.layer].numpy()
    return [(effect.layer, effect.relative * float(subject.stream_norms[effect.layer]) * v / np.sqrt(np.sum(v**2)))]


def sae_feature(effect, subject: Subject):
    return [(effect.layer, [effect.scale * value for value in SAE["W_dec"][effect.feature].tolist()])]


def sae_clamp(effect, h: Array, dose: float, spot: Spot) -> Array:
    f, edited = effect.feature, []
    for x in h:
        active = max(0.0, float(np.dot(x - SAE["b_dec"].numpy(), SAE["W_enc"][:, f].numpy()) + SAE["b_enc"][f]))
        edited.append(x + dose * (effect.target - active) * SAE["W_dec"][f].numpy())
    return np.stack(edited)


def lora_adapter(effect, path: str, x: Array, y: Array, dose: float) -> Array:
    assert path == MODULE
    update = 6 / 3 * UP.numpy() @ DOWN.numpy()
    return np.stack([out + dose * update @ entering for entering, out in zip(x, y, strict=True)])


def python_hook(effect, h: Array, dose: float, spot: Spot) -> Array:
    return np.array([[value + 0.2 * dose * x[i - 1] for i, value in enumerate(x)] for x in h])


OBSERVABLES = {
    "adapter_distance": adapter_distance,
    "hook_distance": hook_distance,
    "own_vector_projection": along("vector_file", EXAMPLES),
    "sae_distance_to_target": sae_distance_to_target,
    "sae_projection": along("sae_feature", EXAMPLES),
}
TWINS = {
    "lora_adapter": lora_adapter,
    "python_hook": python_hook,
    "sae_clamp": sae_clamp,
    "sae_feature": sae_feature,
    "vector_file": vector_file,
}
