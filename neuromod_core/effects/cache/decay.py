"""Decay of attention with distance, in its two forms, which are different drugs and have different names."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from neuromod_core.effects.base import EFFECTS, Stage, in_range
from neuromod_core.effects.kinds import ScoreEffect
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
