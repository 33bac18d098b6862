"""How much blocks add, and noise on what they leave."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from torch import Tensor

from neuromod_core.effects.activation.depth import middle
from neuromod_core.effects.base import EFFECTS, in_range
from neuromod_core.effects.kinds import StreamEffect
from neuromod_core.effects.subject import Place, Subject, normals


@EFFECTS.add("layer_wise_gain")
@dataclass(frozen=True, kw_only=True)
class LayerWiseGain(StreamEffect):
    """Let every block say more (d > 0) or less (d < 0):  h' = x + (1 + span d) (h - x),  x what entered the block.

    What is scaled is what attention and MLP add, not the stream itself, which the next norm would scale back.
    Source: Neuromod methodology (per-layer gain).
    """

    span: float = 0.3
    observable, moves = "block_contribution", 1

    def __post_init__(self) -> None:
        in_range(self.span, 0.001, 0.5, "layer_wise_gain: span")

    def layers(self, subject: Subject) -> Sequence[int]:
        """See `StreamEffect.layers`."""
        return range(subject.shape.depth)

    def edit(self, hidden: Tensor, dose: Tensor, place: Place) -> Tensor:
        """See `StreamEffect.edit`."""
        assert place.entering is not None, "the engine says what entered a block"  # noqa: S101 - cannot happen
        added = hidden.float() - place.entering.float()
        return hidden.float() + self.span * dose[:, None, None] * added


@EFFECTS.add("noise_injection")
@dataclass(frozen=True, kw_only=True)
class NoiseInjection(StreamEffect):
    """Blur the residual stream in the middle third of the blocks:  h' = h + span d rms(h) e,  e ~ N(0, I).

    The noise is drawn per row, layer and position, and rms is taken per token: span d is a noise-to-signal ratio.
    Source: Neuromod methodology.
    """

    span: float = 0.1
    doses = (0.0, 2.0)
    observable, moves = "stream_blur", 1
    stochastic = True

    def __post_init__(self) -> None:
        in_range(self.span, 0.001, 2.0, "noise_injection: span")

    def layers(self, subject: Subject) -> Sequence[int]:
        """See `StreamEffect.layers`."""
        return middle(subject.shape)

    def edit(self, hidden: Tensor, dose: Tensor, place: Place) -> Tensor:
        """See `StreamEffect.edit`."""
        noise = normals(place.streams, f"noise_injection/{place.layer}", place.queries, hidden.shape[-1])
        size = hidden.float().square().mean(-1, keepdim=True).sqrt()
        return hidden.float() + self.span * dose[:, None, None] * size * noise
