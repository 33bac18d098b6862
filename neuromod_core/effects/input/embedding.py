"""Size and presence of the tokens that enter the first block."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from torch import Tensor

from neuromod_core.effects.base import EFFECTS, in_range
from neuromod_core.effects.kinds import StreamEffect
from neuromod_core.effects.subject import Place, Subject, uniforms


@EFFECTS.add("token_dropout")
@dataclass(frozen=True, kw_only=True)
class TokenDropout(StreamEffect):
    """Read random tokens of the prompt as nothing:  x' = 0  where  u < rate d,  u uniform per row and position.

    The first token, on which attention rests, and the response are spared. What a larger dose drops includes what a
    smaller one does.  Source: Iyyer et al. 2015 (word dropout).
    """

    rate: float = 0.2
    doses = (0.0, 2.0)
    family = "input"
    observable, moves = "dropped_tokens", 1
    stochastic = True

    def __post_init__(self) -> None:
        in_range(self.rate, 0.01, 0.5, "token_dropout: rate")

    def layers(self, subject: Subject) -> Sequence[int]:
        """See `StreamEffect.layers`."""
        return (-1,)

    def edit(self, hidden: Tensor, dose: Tensor, place: Place) -> Tensor:
        """See `StreamEffect.edit`."""
        drawn = uniforms(place.streams, "token_dropout", place.queries, 1)[..., 0]
        dropped = (drawn < self.rate * dose[:, None]) & ~place.written & (place.queries > 0)
        return hidden.masked_fill(dropped[..., None], 0.0)


@EFFECTS.add("embedding_gain")
@dataclass(frozen=True, kw_only=True)
class EmbeddingGain(StreamEffect):
    """Give the words themselves more (d > 0) or less (d < 0) say against what blocks add to them:  x' = span**d x.

    Source: this project.
    """

    span: float = 1.5
    family = "input"
    observable, moves = "embedding_size", 1

    def __post_init__(self) -> None:
        in_range(self.span, 1.01, 10.0, "embedding_gain: span")

    def layers(self, subject: Subject) -> Sequence[int]:
        """See `StreamEffect.layers`."""
        return (-1,)

    def edit(self, hidden: Tensor, dose: Tensor, place: Place) -> Tensor:
        """See `StreamEffect.edit`."""
        return hidden.float() * self.span ** dose[:, None, None]
