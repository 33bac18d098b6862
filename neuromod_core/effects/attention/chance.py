"""Attention at random. Numbers are addressed by the row's stream and by positions, however a text is cut into passes.

What a smaller dose hides, a larger one hides too.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from torch import Tensor

from neuromod_core.effects.attention.weights import restored
from neuromod_core.effects.base import EFFECTS, Stage, in_range
from neuromod_core.effects.kinds import ScoreEffect, WeightEffect
from neuromod_core.effects.subject import Place, uniforms


def pairwise(place: Place, purpose: str) -> Tensor:
    """Return uniforms (n, 1, q, k), one for each pair of query and key position, of the place's layer."""
    keys = place.keys.clamp(min=0)
    drawn = uniforms(place.streams, f"{purpose}/{place.layer}", place.queries, int(keys.max()) + 1)
    return drawn.gather(-1, keys[:, None, :].expand(-1, drawn.shape[1], -1))[:, None]


@EFFECTS.add("attention_masking")
@dataclass(frozen=True, kw_only=True)
class AttentionMasking(ScoreEffect):
    """Leave holes in the text:  S'(T, t) = -inf  where  u_t < rate d,  u_t uniform, one per row and key position.

    A hole is the same for all heads, layers and later queries: that token was read, but is never looked back at. The
    first `sinks` keys and the query's own are never hidden.  Source: Neuromod methodology.
    """

    rate: float = 0.4
    sinks: int = 4
    doses = (0.0, 2.0)
    family = "attention"
    stage = Stage.TRUNCATE
    observable, moves = "visible_keys", -1
    stochastic = True

    def __post_init__(self) -> None:
        in_range(self.rate, 0.01, 0.5, "attention_masking: rate")
        in_range(self.sinks, 0, 10_000, "attention_masking: sinks (tokens)")

    def edit(self, scores: Tensor, dose: Tensor, place: Place) -> Tensor:
        """See `ScoreEffect.edit`."""
        drawn = uniforms(place.streams, "attention_masking", place.keys, 1)[..., 0]
        hole = (drawn < self.rate * dose[:, None]) & (place.keys >= self.sinks)
        return scores.masked_fill(hole[:, None, None, :] & (place.distance != 0), float("-inf"))


@EFFECTS.add("attention_dropout")
@dataclass(frozen=True, kw_only=True)
class AttentionDropout(WeightEffect):
    """Look past keys at random:  A'(T, t) = A(T, t) 1[u_Tt >= rate d] / Z,  u_Tt uniform per row, layer, query and key.

    Z restores the sum that the query's weights had. The query's own key is never dropped.
    Source: Srivastava et al. 2014 (dropout), here on attention weights, while the model is used.
    """

    rate: float = 0.4
    doses = (0.0, 2.0)
    stage = Stage.TRUNCATE
    observable, moves = "attended_keys", -1
    stochastic = True

    def __post_init__(self) -> None:
        in_range(self.rate, 0.01, 0.5, "attention_dropout: rate")

    def edit(self, weights: Tensor, dose: Tensor, place: Place) -> Tensor:
        """See `WeightEffect.edit`."""
        dropped = pairwise(place, "attention_dropout") < self.rate * dose[:, None, None, None]
        kept = weights.masked_fill(dropped & (place.distance != 0), 0.0)
        return restored(kept, weights)


@EFFECTS.add("attention_noise")
@dataclass(frozen=True, kw_only=True)
class AttentionNoise(ScoreEffect):
    """Blur how well keys match:  S'(T, t) = S(T, t) + span d e_Tt,  e_Tt uniform with mean 0 and variance 1.

    Drawn per row, layer, query and key, shared by heads: each look back misjudges the odds anew, by span d nats.
    Source: this project; an internal-noise model as in signal detection (Green & Swets 1966).
    """

    span: float = 1.0
    doses = (0.0, 2.0)
    family = "attention"
    observable, moves = "score_error", 1
    stochastic = True

    def __post_init__(self) -> None:
        in_range(self.span, 0.01, 10.0, "attention_noise: span (nats)")

    def edit(self, scores: Tensor, dose: Tensor, place: Place) -> Tensor:
        """See `ScoreEffect.edit`."""
        noise = math.sqrt(12) * (pairwise(place, "attention_noise") - 0.5)
        return scores + self.span * dose[:, None, None, None] * noise
