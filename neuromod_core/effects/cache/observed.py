"""Forgetting the prompt keys that the prompt's own queries have least use for. Queries of the response never count.

Scores are q k / sqrt(head size), without a model's score cap, sinks or sliding window: they rank keys, no more.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from neuromod_core.effects.base import EFFECTS, in_range
from neuromod_core.effects.cache.compression import Compression, in_prompt
from neuromod_core.effects.subject import Place
from neuromod_core.kernel.errors import OutOfRange

HIDDEN = -1e30


def raw_scores(query: Tensor, key: Tensor) -> Tensor:
    """Return q k / sqrt(size) by group of heads, (n, kv heads, heads of the group, q, k)."""
    rows, count, tokens, size = query.shape
    grouped = query.reshape(rows, key.shape[1], count // key.shape[1], tokens, size)
    return grouped.float() @ key[:, :, None].float().transpose(-1, -2) / math.sqrt(size)


def reading(place: Place, last: int | None = None) -> Tensor:
    """Return (n, 1, 1, q, 1) bool: which queries belong to the prompt, or to the `last` tokens of it."""
    inside = (place.queries >= 0) & ~place.written
    if last is not None:
        inside = inside & (place.queries >= place.start[:, None] - last)
    return inside[:, None, None, :, None]


def attention_paid(query: Tensor, key: Tensor, place: Place, last: int | None = None) -> Tensor:
    """Return the attention (n, kv heads, k) that a key gets from prompt queries, averaged over the heads of its group.

    last: how many of the prompt's last queries count; all of them when None.
    """
    seen = (place.distance >= 0) & (place.keys >= 0)[:, None, None, :]
    weights = raw_scores(query, key).masked_fill(~seen[:, None], HIDDEN).softmax(-1)
    return (weights * reading(place, last)).sum(-2).mean(2)


@EFFECTS.add("h2o_compression")
@dataclass(frozen=True, kw_only=True)
class HeavyHitters(Compression):
    """Forget the share reach d of the prompt's keys that got least attention in all:  importance = sum_q A(q, k).

    The sum runs over the prompt's queries and the heads of a group; older keys had more time to be looked at, which is
    part of the rule.  Source: Zhang et al. 2023 (H2O).
    """

    def importance(self, query: Tensor, key: Tensor, value: Tensor, place: Place) -> Tensor:
        """See `EvictionEffect.importance`."""
        return attention_paid(query, key, place)


@EFFECTS.add("snapkv_compression")
@dataclass(frozen=True, kw_only=True)
class SnapCompression(Compression):
    """Forget the share reach d of the prompt's keys that its end has least use for:  importance = pool(sum_q A(q, k)).

    The sum runs over the last `window` queries of the prompt and the heads of a group; pool is the mean over the `pool`
    keys around a key, so that what is kept is kept with its neighbours.  Source: Li et al. 2024 (SnapKV).
    """

    window: int = 8
    pool: int = 5

    def __post_init__(self) -> None:
        super().__post_init__()
        in_range(self.window, 1, 100_000, "snapkv_compression: window (tokens)")
        in_range(self.pool, 1, 1001, "snapkv_compression: pool (tokens)")
        if self.pool % 2 == 0:
            raise OutOfRange(f"snapkv_compression: pool (tokens) is {self.pool}; allowed are odd numbers.")

    def importance(self, query: Tensor, key: Tensor, value: Tensor, place: Place) -> Tensor:
        """See `EvictionEffect.importance`."""
        paid = attention_paid(query, key, place, self.window)
        return torch.nn.functional.avg_pool1d(paid, self.pool, stride=1, padding=self.pool // 2)


@EFFECTS.add("expected_attention_compression")
@dataclass(frozen=True, kw_only=True)
class ExpectedAttention(Compression):
    """Forget the share reach d of the prompt's keys that future queries would use least:  importance = |v| E(k).

    E is the mean over the heads of a group of softmax_k(m(k) + s(k) / 2), with m and s the mean and the variance of the
    key's scores over the prompt's queries: the expected exp(score) under the Gaussian fitted to them.
    Source: Devoto et al. 2025 (Expected Attention), without averaging over future rotary angles.
    """

    def importance(self, query: Tensor, key: Tensor, value: Tensor, place: Place) -> Tensor:
        """See `EvictionEffect.importance`."""
        scores, asked = raw_scores(query, key), reading(place)
        count = asked.sum(-2, keepdim=True).clamp(min=1)
        mean = (scores * asked).sum(-2, keepdim=True) / count
        variance = ((scores - mean).square() * asked).sum(-2, keepdim=True) / count
        expected = (mean + variance / 2)[..., 0, :].masked_fill(~in_prompt(place)[:, None], HIDDEN)
        size: Tensor = torch.linalg.vector_norm(value, dim=-1)
        return expected.softmax(-1).mean(2) * size
