"""Attention by age: forms of decay that are different drugs and have different names, and gains per segment."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from neuromod_core.effects.base import EFFECTS, Stage, in_range, one_of
from neuromod_core.effects.kinds import ScoreEffect, WeightEffect
from neuromod_core.effects.subject import Place


@EFFECTS.add("exponential_decay_kv")
@dataclass(frozen=True, kw_only=True)
class ExponentialDecay(ScoreEffect):
    """Fade raw scores with distance (multiplicative form):  S'(T, t) = S(T, t) exp(-lambda (T - t)),
    lambda = d ln 2 / half_life per token.

    Scores are pulled to 0, not to minus infinity: where S is negative the distant past gains attention. Read the
    measured attention mass, not lambda.  Source: Neuromod methodology; additive form: `odds_decay_kv`.
    """

    half_life: float = 32.0
    doses = (0.0, 2.0)
    stage = Stage.SCALE
    observable, moves = "distant_score_size", -1

    def __post_init__(self) -> None:
        in_range(self.half_life, 1.0, 1e6, "exponential_decay_kv: half_life (tokens)")

    def edit(self, scores: Tensor, dose: Tensor, place: Place) -> Tensor:
        """See `ScoreEffect.edit`."""
        rate = (dose * math.log(2) / self.half_life)[:, None, None, None]
        return scores * torch.exp(-rate * place.distance.clamp(min=0))


@EFFECTS.add("odds_decay_kv")
@dataclass(frozen=True, kw_only=True)
class OddsDecay(ScoreEffect):
    """Fade attention odds with distance (additive form):  S'(T, t) = S(T, t) - lambda (T - t),
    lambda = d ln 2 / half_life per token: the odds of a key halve every half_life/d tokens. d < 0 favours the past.

    Source: Press, Smith & Lewis 2022 (ALiBi), with one slope for all heads.
    """

    half_life: float = 32.0
    stage = Stage.BIAS
    observable, moves = "distant_mass", -1

    def __post_init__(self) -> None:
        in_range(self.half_life, 1.0, 1e6, "odds_decay_kv: half_life (tokens)")

    def edit(self, scores: Tensor, dose: Tensor, place: Place) -> Tensor:
        """See `ScoreEffect.edit`."""
        rate = (dose * math.log(2) / self.half_life)[:, None, None, None]
        return scores - rate * place.distance.clamp(min=0)


@EFFECTS.add("kv_decay")
@dataclass(frozen=True, kw_only=True)
class MemoryDecay(WeightEffect):
    """Let memories fade (d > 0) or swell (d < 0) as they age:  A'(T, t) = A(T, t) 2**(-d g(x)).

    x = (T - t) / half_life. Fading, g(x) = x: what a key adds is halved every half_life/d tokens. Swelling is bounded,
    by a factor 2**|d|: g(x) = 1 - 2**-x. Weights are not made to sum to 1 again: nothing takes the place of what fades.
    Source: values that decay in the cache, Neuromod methodology; retention as in Sun et al. 2023 (RetNet).
    """

    half_life: float = 32.0
    family = "cache"
    stage = Stage.SCALE
    observable, moves = "distant_weight", -1

    def __post_init__(self) -> None:
        in_range(self.half_life, 1.0, 1e6, "kv_decay: half_life (tokens)")

    def edit(self, weights: Tensor, dose: Tensor, place: Place) -> Tensor:
        """See `WeightEffect.edit`."""
        age, signed = place.distance.clamp(min=0) / self.half_life, dose[:, None, None, None]
        return weights * torch.exp2(-signed * torch.where(signed > 0, age, 1 - torch.exp2(-age)))


@EFFECTS.add("segment_gains_kv")
@dataclass(frozen=True, kw_only=True)
class SegmentGains(ScoreEffect):
    """Favour some segments of the past:  S'(T, t) = S(T, t) + span d g(s),  s = floor((T - t) / window).

    Alternating: g = 1 for even s and -1 for odd ones. By age: g = 1 / (1 + s). A positive dose favours the segment that
    the query is in; a negative one, what lies before it. In nats, as a factor on S would favour a key or not by its
    sign.  Source: Neuromod methodology.
    """

    window: int = 20
    pattern: Literal["alternating", "age"] = "alternating"
    span: float = 2.0
    observable, moves = "newest_segment_mass", 1

    def __post_init__(self) -> None:
        in_range(self.window, 1, 1_000_000, "segment_gains_kv: window (tokens)")
        one_of(self.pattern, ("alternating", "age"), "segment_gains_kv: pattern")
        in_range(self.span, 0.01, 20.0, "segment_gains_kv: span (nats)")

    def edit(self, scores: Tensor, dose: Tensor, place: Place) -> Tensor:
        """See `ScoreEffect.edit`."""
        segment = place.distance.clamp(min=0) // self.window
        gain = 1.0 - 2.0 * (segment % 2) if self.pattern == "alternating" else 1.0 / (1 + segment)
        return scores + self.span * dose[:, None, None, None] * gain
