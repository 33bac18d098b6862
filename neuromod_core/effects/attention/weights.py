"""Spreading, sharing and pruning attention weights. The mass that a head gives to the text stays what it was."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from neuromod_core.effects.base import EFFECTS, Stage, in_range
from neuromod_core.effects.kinds import WeightEffect
from neuromod_core.effects.subject import Place


def restored(edited: Tensor, weights: Tensor) -> Tensor:
    """Return edited weights, scaled to the sums that a query's weights had; padding beside sinks has none at all."""
    return edited * (weights.sum(-1, keepdim=True) / edited.sum(-1, keepdim=True).clamp(min=1e-30))


@EFFECTS.add("attention_diffusion")
@dataclass(frozen=True, kw_only=True)
class AttentionDiffusion(WeightEffect):
    """Let attention wander:  A' = (1 - a) A + a U,  a = reach d,  U uniform over the keys the query sees.

    Sees: has a weight above 0. With sinks outside the text (gpt-oss) U has the mass that A has. Unlike a higher
    temperature this reaches keys that match nothing.  Source: this project; label smoothing (Szegedy et al. 2016) of A.
    """

    reach: float = 0.5
    doses = (0.0, 2.0)
    observable, moves = "attention_entropy", 1

    def __post_init__(self) -> None:
        in_range(self.reach, 0.01, 0.5, "attention_diffusion: reach")

    def edit(self, weights: Tensor, dose: Tensor, place: Place) -> Tensor:
        """See `WeightEffect.edit`."""
        share, seen = (self.reach * dose)[:, None, None, None], weights > 0
        uniform = seen * (weights.sum(-1, keepdim=True) / seen.sum(-1, keepdim=True).clamp(min=1))
        return (1 - share) * weights + share * uniform


@EFFECTS.add("head_averaging")
@dataclass(frozen=True, kw_only=True)
class HeadAveraging(WeightEffect):
    """Let heads look where the others look:  A'_h = (1 - d) A_h + d mean_g A_g  over the heads g of the layer.

    At d = 1 a layer has one gaze; what heads write still differs.
    Source: this project; that heads specialise: Voita et al. 2019.
    """

    doses = (0.0, 1.0)
    observable, moves = "head_disagreement", -1

    def edit(self, weights: Tensor, dose: Tensor, place: Place) -> Tensor:
        """See `WeightEffect.edit`."""
        return weights + dose[:, None, None, None] * (weights.mean(1, keepdim=True) - weights)


@EFFECTS.add("attention_pruning")
@dataclass(frozen=True, kw_only=True)
class AttentionPruning(WeightEffect):
    """Drop faint attention:  A'(T, t) = A(T, t) / Z  where  A(T, t) >= reach d max_s A(T, s),  else 0.

    Z restores the sum that the query's weights had. Tunnel vision without sharpening what remains.  Source: this
    project; the rule is min-p (Nguyen et al. 2024) applied to keys.
    """

    reach: float = 0.5
    doses = (0.0, 2.0)
    stage = Stage.TRUNCATE
    observable, moves = "attended_keys", -1

    def __post_init__(self) -> None:
        in_range(self.reach, 0.001, 0.5, "attention_pruning: reach")

    def edit(self, weights: Tensor, dose: Tensor, place: Place) -> Tensor:
        """See `WeightEffect.edit`."""
        least = (self.reach * dose)[:, None, None, None] * weights.amax(-1, keepdim=True)
        kept = weights.masked_fill(weights < least, 0.0)
        return restored(kept, weights)
