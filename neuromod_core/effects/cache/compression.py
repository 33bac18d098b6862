"""Forgetting the prompt keys that matter least, judged by the keys alone, or by chance. `observed` asks the queries."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from neuromod_core.effects.base import EFFECTS, in_range
from neuromod_core.effects.kinds import EvictionEffect
from neuromod_core.effects.subject import Place, uniforms


@dataclass(frozen=True, kw_only=True)
class Compression(EvictionEffect):
    """What all compressions share: how much of the prompt a dose of 1 forgets, and which keys are spared."""

    reach: float = 0.5
    sinks: int = 4
    recent: int = 8
    observable, moves = "kept_keys", -1

    def __post_init__(self) -> None:
        name = next(name for name, kind in EFFECTS.items() if kind is type(self))
        in_range(self.reach, 0.01, 1.0, f"{name}: reach")
        in_range(self.sinks, 0, 10_000, f"{name}: sinks (tokens)")
        in_range(self.recent, 0, 1_000_000, f"{name}: recent (tokens)")


def in_prompt(place: Place) -> Tensor:
    """Return which keys belong to the prompt, (n, 1, keys) bool."""
    return ((place.keys >= 0) & (place.keys < place.start[:, None]))[:, None, :]


@EFFECTS.add("kv_compression")
@dataclass(frozen=True, kw_only=True)
class NormCompression(Compression):
    """Forget the share reach d of the prompt's keys with the largest norm:  importance = -|k|.

    Keys of small norm draw attention on average, whatever the query. Norms that differ by less than a thousandth count
    as equal, and of equals the oldest goes first: where a model normalises its keys, this forgets the oldest.
    Source: Devoto et al. 2024 (L2 norm).
    """

    def importance(self, query: Tensor, key: Tensor, value: Tensor, place: Place) -> Tensor:
        """See `EvictionEffect.importance`."""
        size: Tensor = torch.linalg.vector_norm(key, dim=-1)
        return -(1000 * size.log()).round()


@EFFECTS.add("keydiff_compression")
@dataclass(frozen=True, kw_only=True)
class KeyDiffCompression(Compression):
    """Forget the share reach d of the prompt's keys that are most like the others:  importance = -cos(k, m).

    m is the mean of the prompt's keys after scaling each to length 1: what is unlike the rest is worth keeping.
    Source: Park et al. 2025 (KeyDiff).
    """

    def importance(self, query: Tensor, key: Tensor, value: Tensor, place: Place) -> Tensor:
        """See `EvictionEffect.importance`."""
        unit = torch.nn.functional.normalize(key, dim=-1)
        mean = (unit * in_prompt(place)[..., None]).sum(-2, keepdim=True)
        return -torch.cosine_similarity(unit, mean, dim=-1)


@EFFECTS.add("random_eviction_kv")
@dataclass(frozen=True, kw_only=True)
class RandomEviction(Compression):
    """Forget the share reach d of the prompt's keys by lot:  importance = u ~ U(0, 1).

    Drawn per row, layer, kv head and key; what a smaller dose forgets, a larger one forgets too. The floor that every
    other compression has to beat.
    Source: this project.
    """

    stochastic = True

    def importance(self, query: Tensor, key: Tensor, value: Tensor, place: Place) -> Tensor:
        """See `EvictionEffect.importance`."""
        return uniforms(place.streams, f"random_eviction/{place.layer}", place.keys, key.shape[1]).transpose(1, 2)
