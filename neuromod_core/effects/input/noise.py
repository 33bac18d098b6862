"""Noise on what enters the first block."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from torch import Tensor

from neuromod_core.effects.base import EFFECTS, in_range
from neuromod_core.effects.kinds import StreamEffect
from neuromod_core.effects.subject import Place, Subject, normals


@EFFECTS.add("embedding_noise")
@dataclass(frozen=True, kw_only=True)
class EmbeddingNoise(StreamEffect):
    """Blur the tokens as they are read:  x' = x + span d rms(x) e,  e ~ N(0, I), drawn per row and position.

    rms is taken per token, so the dose is the noise-to-signal ratio.  Source: Jain et al. 2024 (noisy embeddings).
    """

    span: float = 0.5
    doses = (0.0, 2.0)
    family = "input"
    observable, moves = "embedding_distance", 1
    stochastic = True

    def __post_init__(self) -> None:
        in_range(self.span, 0.001, 5.0, "embedding_noise: span")

    def layers(self, subject: Subject) -> Sequence[int]:
        """See `StreamEffect.layers`."""
        return (-1,)

    def edit(self, hidden: Tensor, dose: Tensor, place: Place) -> Tensor:
        """See `StreamEffect.edit`."""
        noise = normals(place.streams, "embedding_noise", place.queries, hidden.shape[-1])
        size = hidden.float().square().mean(-1, keepdim=True).sqrt()
        return hidden + (self.span * dose[:, None, None] * size * noise).to(hidden.dtype)
