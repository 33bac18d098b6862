"""Which experts a token takes: sharper or flatter routes, steadier ones, fewer experts."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from neuromod_core.effects.base import EFFECTS, Stage, in_range
from neuromod_core.effects.kinds import RouterEffect
from neuromod_core.effects.subject import Place, uniforms

TINY = 1e-30  # a probability so small that its logarithm stays finite


def _mixed(p: Tensor, q: Tensor | float, share: Tensor) -> Tensor:
    return ((1 - share) * p + share * q).clamp(min=TINY).log()


@EFFECTS.add("router_temperature_bias")
@dataclass(frozen=True, kw_only=True)
class RouterTemperature(RouterEffect):
    """Spread tokens over the experts they take (d > 0) or let the first expert decide (d < 0):  z' = z / span**d.

    The experts stay the same, their shares change.  Source: Neuromod methodology; Shazeer et al. 2017 (gating).
    """

    span: float = 2.0
    stage = Stage.SCALE
    observable, moves = "routing_entropy", 1

    def __post_init__(self) -> None:
        in_range(self.span, 1.01, 10.0, "router_temperature_bias: span")

    def edit(self, logits: Tensor, before: Tensor, dose: Tensor, place: Place) -> Tensor:
        """See `RouterEffect.edit`."""
        return logits.float() / self.span ** dose[:, None, None]


@EFFECTS.add("expert_mixing")
@dataclass(frozen=True, kw_only=True)
class ExpertMixing(RouterEffect):
    """Mix the route with an even one:  z' = log((1 - a) p + a / E),  a = reach d,  p = softmax(z) over E experts.

    Unlike a temperature it lifts unlikely experts most.  Source: this project.
    """

    reach: float = 0.4
    doses = (0.0, 2.0)
    observable, moves = "routing_entropy", 1

    def __post_init__(self) -> None:
        in_range(self.reach, 0.01, 0.5, "expert_mixing: reach")

    def edit(self, logits: Tensor, before: Tensor, dose: Tensor, place: Place) -> Tensor:
        """See `RouterEffect.edit`."""
        return _mixed(logits.float().softmax(-1), 1 / logits.shape[-1], self.reach * dose[:, None, None])


@EFFECTS.add("expert_persistence")
@dataclass(frozen=True, kw_only=True)
class ExpertPersistence(RouterEffect):
    """Stay with the experts of the token before:  z'_t = log((1 - a) p_t + a p_(t-1)),  a = reach d,  p = softmax(z).

    p_(t-1) is the unedited route of the token before, so nothing builds up along the text; the first token has none.
    Source: Neuromod methodology (routing momentum).
    """

    reach: float = 0.4
    doses = (0.0, 2.0)
    stage = Stage.PENALTY
    observable, moves = "routing_change", -1

    def __post_init__(self) -> None:
        in_range(self.reach, 0.01, 0.5, "expert_persistence: reach")

    def edit(self, logits: Tensor, before: Tensor, dose: Tensor, place: Place) -> Tensor:
        """See `RouterEffect.edit`."""
        return _mixed(logits.float().softmax(-1), before.float().softmax(-1), self.reach * dose[:, None, None])


@EFFECTS.add("expert_masking_dropout")
@dataclass(frozen=True, kw_only=True)
class ExpertMasking(RouterEffect):
    """Silence random experts:  z'_e = -inf  where  u_e < rate d,  u_e uniform, drawn once per row and layer.

    The k experts with the largest u_e stay in any case, k being how many a token takes. Masks of a row are nested in
    dose and the same at every token.  Source: Neuromod methodology.
    """

    rate: float = 0.5
    doses = (0.0, 2.0)
    stage = Stage.TRUNCATE
    observable, moves = "silenced_experts", 1
    stochastic = True

    def __post_init__(self) -> None:
        in_range(self.rate, 0.01, 0.5, "expert_masking_dropout: rate")

    def edit(self, logits: Tensor, before: Tensor, dose: Tensor, place: Place) -> Tensor:
        """See `RouterEffect.edit`."""
        once_per_row = torch.zeros_like(place.queries[:, :1])
        drawn = uniforms(place.streams, f"expert_masking/{place.layer}", once_per_row, logits.shape[-1])
        rank = drawn.argsort(dim=-1, descending=True).argsort(dim=-1)
        gone = (drawn < self.rate * dose[:, None, None]) & (rank >= place.subject.shape.chosen)
        return logits.masked_fill(gone, float("-inf"))
