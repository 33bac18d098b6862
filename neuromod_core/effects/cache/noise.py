"""Imprecise memory: cached keys and values are read with an error that stays the same at every reading."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from neuromod_core.effects.base import EFFECTS, in_range
from neuromod_core.effects.kinds import CacheEffect
from neuromod_core.effects.subject import Place, uniforms

BITS = 16  # signs taken from one uniform


def signs(place: Place, purpose: str, like: Tensor) -> Tensor:
    """Return signs shaped like keys (n, kv heads, k, size): a fair coin per row, layer, kv head, position and channel.

    Coins rather than normals: they have a variance of 1 too, and every position of the past needs them at every token.
    """
    heads, size = like.shape[1], like.shape[-1]
    drawn = uniforms(place.streams, f"{purpose}/{place.layer}", place.keys, -(-heads * size // BITS))
    words = (drawn * 2**BITS).long()
    coins = (words[..., None] >> torch.arange(BITS, device=words.device)) & 1
    chosen: Tensor = coins.flatten(-2)[..., : heads * size].unflatten(-1, (heads, size))
    return (2 * chosen - 1).to(like.dtype).transpose(1, 2)


def blurred(states: Tensor, relative: Tensor, place: Place, purpose: str) -> Tensor:
    """Return states (n, kv heads, k, size) with an error of `relative` (n,) times their norm."""
    size = states.float().square().mean(-1, keepdim=True).sqrt()
    return states + (relative[:, None, None, None] * size * signs(place, purpose, states)).to(states.dtype)


@EFFECTS.add("value_noise_kv")
@dataclass(frozen=True, kw_only=True)
class ValueNoise(CacheEffect):
    """Misremember what was there:  v' = v + span d rms(v) e,  e = +-1 by coin per row, layer, head, position, channel.

    rms is taken per token and head, so the dose is the noise-to-signal ratio, exactly. Where a head looks is unchanged.
    Source: this project.
    """

    span: float = 0.5
    doses = (0.0, 2.0)
    observable, moves = "reading_error", 1
    stochastic = True

    def __post_init__(self) -> None:
        in_range(self.span, 0.001, 5.0, "value_noise_kv: span")

    def edit(self, key: Tensor, value: Tensor, dose: Tensor, place: Place) -> tuple[Tensor, Tensor]:
        """See `CacheEffect.edit`."""
        return key, blurred(value, self.span * dose, place, "value_noise")


@EFFECTS.add("key_noise_kv")
@dataclass(frozen=True, kw_only=True)
class KeyNoise(CacheEffect):
    """Misplace where it was:  k' = k + span d rms(k) e,  e = +-1 by coin per row, layer, head, position and channel.

    The noise-to-signal ratio is span d, as in `value_noise_kv`; here the memory is intact, and it is found less well.
    Source: this project.
    """

    span: float = 0.5
    doses = (0.0, 2.0)
    observable, moves = "reading_error", 1
    stochastic = True

    def __post_init__(self) -> None:
        in_range(self.span, 0.001, 5.0, "key_noise_kv: span")

    def edit(self, key: Tensor, value: Tensor, dose: Tensor, place: Place) -> tuple[Tensor, Tensor]:
        """See `CacheEffect.edit`."""
        return blurred(key, self.span * dose, place, "key_noise"), value


@EFFECTS.add("quantise_kv")
@dataclass(frozen=True, kw_only=True)
class Quantisation(CacheEffect):
    """Remember coarsely:  x' = low + step round((x - low) / step),  step = (high - low) / (L - 1).

    low and high are the extremes of a token's key or value in a head. L = 2**(8 - reach d), rounded, counts levels: 256
    at the smallest dose, 4 at d = 1.  Source: Liu et al. 2024 (KIVI), but per token for keys too, so that what is
    remembered of a token does not depend on other tokens.
    """

    reach: float = 6.0
    doses = (0.0, 1.0)
    observable, moves = "reading_error", 1

    def __post_init__(self) -> None:
        in_range(self.reach, 0.1, 7.0, "quantise_kv: reach (bits)")

    def edit(self, key: Tensor, value: Tensor, dose: Tensor, place: Place) -> tuple[Tensor, Tensor]:
        """See `CacheEffect.edit`."""
        levels = torch.exp2(8 - self.reach * dose).round()[:, None, None, None]
        return _rounded(key, levels), _rounded(value, levels)


def _rounded(states: Tensor, levels: Tensor) -> Tensor:
    low, high = states.aminmax(dim=-1, keepdim=True)
    step = ((high - low) / (levels - 1)).clamp(min=torch.finfo(states.dtype).tiny)
    return low + step * ((states - low) / step).round()
