"""Fewer directions, fewer features, smaller ones: limits on what the residual stream may hold."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from neuromod_core.effects.activation.depth import block_at, middle
from neuromod_core.effects.base import EFFECTS, in_range
from neuromod_core.effects.kinds import StreamEffect
from neuromod_core.effects.subject import Place, Subject, uniforms
from neuromod_core.kernel.errors import NotOnThisModel


@EFFECTS.add("soft_projection")
@dataclass(frozen=True, kw_only=True)
class SoftProjection(StreamEffect):
    """Draw the stream towards the space that concepts span (d > 0) or out of it (d < 0):  h' = h + d reach (P h - h),
    P the orthogonal projection on the span of `steering_types` ("calm+salient"), in the middle third of the blocks.

    The part inside stays, the part outside shrinks (grows) by the factor 1 - d reach in each of those blocks.
    Source: this project.
    """

    steering_types: str = "calm+salient"
    reach: float = 0.05
    observable, moves = "subspace_share", 1

    def __post_init__(self) -> None:
        in_range(self.reach, 0.001, 0.5, "soft_projection: reach")

    @property
    def needs_vectors(self) -> tuple[str, ...]:
        """See `Effect.needs_vectors`."""
        return tuple(name.strip() for name in self.steering_types.split("+"))

    def check(self, subject: Subject) -> None:
        """Raise MissingVector when a vector was not calibrated or failed its validation."""
        for name in self.needs_vectors:
            subject.vector(name)

    def layers(self, subject: Subject) -> Sequence[int]:
        """See `StreamEffect.layers`."""
        return middle(subject.shape)

    def edit(self, hidden: Tensor, dose: Tensor, place: Place) -> Tensor:
        """See `StreamEffect.edit`."""
        directions = torch.stack([place.subject.vector(name).direction for name in self.needs_vectors])
        basis: Tensor = torch.linalg.qr(directions.float().T).Q.to(hidden.device)
        h = hidden.float()
        return h + self.reach * dose[:, None, None] * (h @ basis @ basis.T - h)


@EFFECTS.add("activation_clamp")
@dataclass(frozen=True, kw_only=True)
class ActivationClamp(StreamEffect):
    """Cut outlying features down:  h' = h - d (h - clip(h, -limit rms(h), +limit rms(h))),  rms per token.

    d = 1 leaves no feature beyond `limit` times the token's rms; acts in the middle third of the blocks. The first
    token is spared: attention rests on its massive features.
    Source: Sun et al. 2024 (massive activations); this project.
    """

    limit: float = 10.0
    doses = (0.0, 1.0)
    observable, moves = "peak_activation", -1

    def __post_init__(self) -> None:
        in_range(self.limit, 0.5, 100.0, "activation_clamp: limit (rms)")

    def check(self, subject: Subject) -> None:
        """Raise NotOnThisModel where no feature can reach the limit: of w features none exceeds sqrt(w) rms."""
        if self.limit**2 >= subject.shape.width:
            raise NotOnThisModel(
                f"activation_clamp: limit is {self.limit:g} rms; on {subject.name} no feature can exceed "
                f"{subject.shape.width**0.5:.3g}."
            )

    def layers(self, subject: Subject) -> Sequence[int]:
        """See `StreamEffect.layers`."""
        return middle(subject.shape)

    def edit(self, hidden: Tensor, dose: Tensor, place: Place) -> Tensor:
        """See `StreamEffect.edit`."""
        h = hidden.float()
        bound = self.limit * h.square().mean(-1, keepdim=True).sqrt()
        cut = dose[:, None, None] * (h - h.clamp(-bound, bound))
        return torch.where((place.queries > 0)[..., None], h - cut, h)


@EFFECTS.add("activation_sparsify")
@dataclass(frozen=True, kw_only=True)
class ActivationSparsify(StreamEffect):
    """Drop each token's weakest features:  h'_i = 0  for the floor(rate d width) smallest |h_i|, others unchanged.

    Acts in the middle third of the blocks; what a larger dose drops includes what a smaller one does.
    Source: Liu et al. 2024 (TEAL), who threshold magnitudes.
    """

    rate: float = 0.3
    doses = (0.0, 2.0)
    observable, moves = "zero_features", 1

    def __post_init__(self) -> None:
        in_range(self.rate, 0.01, 0.5, "activation_sparsify: rate")

    def layers(self, subject: Subject) -> Sequence[int]:
        """See `StreamEffect.layers`."""
        return middle(subject.shape)

    def edit(self, hidden: Tensor, dose: Tensor, place: Place) -> Tensor:
        """See `StreamEffect.edit`."""
        rank = hidden.abs().argsort(dim=-1, stable=True).argsort(dim=-1)
        count = torch.floor(self.rate * dose.double() * hidden.shape[-1])
        return hidden.masked_fill(rank < count[:, None, None], 0.0)


@EFFECTS.add("feature_dropout")
@dataclass(frozen=True, kw_only=True)
class FeatureDropout(StreamEffect):
    """Lose random features of the stream:  h'_i = h_i [u_i >= rate d] / (1 - rate d),  u_i uniform, drawn once per row.

    The same features are lost at every token but the first, on which attention rests, at the one block at the share
    `layer_share` of depth; masks of a row are nested in dose.
    Source: Srivastava et al. 2014 (dropout), with the mask held fixed.
    """

    rate: float = 0.2
    layer_share: float = 0.5
    doses = (0.0, 2.0)
    observable, moves = "lost_features", 1
    stochastic = True

    def __post_init__(self) -> None:
        in_range(self.rate, 0.01, 0.45, "feature_dropout: rate")
        in_range(self.layer_share, 0.0, 1.0, "feature_dropout: layer_share (of depth)")

    def layers(self, subject: Subject) -> Sequence[int]:
        """See `StreamEffect.layers`."""
        return (block_at(subject.shape, self.layer_share),)

    def edit(self, hidden: Tensor, dose: Tensor, place: Place) -> Tensor:
        """See `StreamEffect.edit`."""
        once_per_row = torch.zeros_like(place.queries[:, :1])
        drawn = uniforms(place.streams, "feature_dropout", once_per_row, hidden.shape[-1])
        lost = self.rate * dose[:, None, None]
        kept = hidden.float() * (drawn >= lost) / (1 - lost)
        return torch.where((place.queries > 0)[..., None], kept, hidden.float())
