"""Forgetting keys altogether. What is forgotten once stays forgotten, so hiding equals physical eviction."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from neuromod_core.effects.base import EFFECTS, Stage, in_range
from neuromod_core.effects.kinds import ScoreEffect
from neuromod_core.effects.subject import Place


@EFFECTS.add("stride_compression_kv")
@dataclass(frozen=True, kw_only=True)
class StrideCompression(ScoreEffect):
    """Keep every s-th key of the past,  s = 1 + ceil(reach d),  besides the first `sinks` and the last `recent` keys.

    Source: strided sparse attention, Child et al. 2019; sinks: Xiao et al. 2024.
    """

    reach: float = 4.0
    sinks: int = 4
    recent: int = 16
    doses = (0.0, 2.0)
    stage = Stage.TRUNCATE
    observable, moves = "visible_keys", -1

    def __post_init__(self) -> None:
        in_range(self.reach, 0.1, 100.0, "stride_compression_kv: reach")
        in_range(self.sinks, 0, 10_000, "stride_compression_kv: sinks (tokens)")
        in_range(self.recent, 1, 1_000_000, "stride_compression_kv: recent (tokens)")

    def edit(self, scores: Tensor, dose: Tensor, place: Place) -> Tensor:
        """See `ScoreEffect.edit`."""
        stride = 1 + torch.ceil(self.reach * dose).long()[:, None, None, None]
        keys = place.keys[:, None, None, :]
        kept = (keys % stride == 0) | (keys < self.sinks) | (place.distance < self.recent)
        return scores.masked_fill(~kept, float("-inf"))


@EFFECTS.add("truncation_kv")
@dataclass(frozen=True, kw_only=True)
class Truncation(ScoreEffect):
    """See only the last  w = ceil(reach / d)  keys, and the first `sinks`.

    Source: sliding-window attention with attention sinks, Xiao et al. 2024 (StreamingLLM).
    """

    reach: float = 16.0
    sinks: int = 4
    doses = (0.0, 2.0)
    stage = Stage.TRUNCATE
    observable, moves = "visible_keys", -1

    def __post_init__(self) -> None:
        in_range(self.reach, 1.0, 1e6, "truncation_kv: reach (tokens)")
        in_range(self.sinks, 0, 10_000, "truncation_kv: sinks (tokens)")

    def edit(self, scores: Tensor, dose: Tensor, place: Place) -> Tensor:
        """See `ScoreEffect.edit`."""
        window = torch.ceil(self.reach / dose)[:, None, None, None]
        kept = (place.distance < window) | (place.keys[:, None, None, :] < self.sinks)
        return scores.masked_fill(~kept, float("-inf"))
