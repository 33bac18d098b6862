"""Noise on what enters the first block."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import torch
from torch import Tensor

from neuromod_core.effects.base import EFFECTS, StreamEffect, in_range
from neuromod_core.effects.subject import Place, Stream, Subject
from neuromod_core.kernel.rng import rng


@lru_cache(maxsize=8192)
def _line(stream: Stream, position: int, width: int) -> np.ndarray:
    """Standard normals (width,) that belong to one position of one stream, however the text is cut into passes."""
    return rng(stream.root, stream.name, "embedding_noise", str(position)).standard_normal(width, dtype=np.float32)


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

    def layer(self, subject: Subject) -> int:
        """See `StreamEffect.layer`."""
        return -1

    def edit(self, hidden: Tensor, dose: Tensor, place: Place) -> Tensor:
        """See `StreamEffect.edit`."""
        noise = torch.zeros(hidden.shape, dtype=torch.float32)
        for row in torch.nonzero(dose).flatten().tolist():
            lines = [_line(place.streams[row], at, hidden.shape[-1]) for at in place.queries[row].tolist()]
            noise[row] = torch.from_numpy(np.stack(lines))
        size = hidden.float().square().mean(-1, keepdim=True).sqrt()
        return hidden + (self.span * dose[:, None, None] * size * noise.to(hidden.device)).to(hidden.dtype)
