"""Directions that mean nothing, pushed as hard as ones that do: controls for steering."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from neuromod_core.effects.activation.depth import block_at
from neuromod_core.effects.base import EFFECTS, in_range, one_of
from neuromod_core.effects.kinds import ShiftEffect
from neuromod_core.effects.subject import Subject, Window
from neuromod_core.kernel.errors import MissingVector
from neuromod_core.kernel.rng import rng


def _gaussian(width: int, draw: int, *names: str) -> Tensor:
    return torch.from_numpy(rng(draw, *names).standard_normal(width).astype(np.float32))


@dataclass(frozen=True, kw_only=True)
class Sham(ShiftEffect):
    """A push of known size along a direction without a meaning; `draw` numbers the directions.

    relative, window, after: as for `steering`.
    """

    relative: float = 0.5
    window: Window = "both"
    after: int = 0
    draw: int = 0
    moves = 1

    def _within(self, name: str) -> None:
        in_range(self.relative, 0.001, 2.0, f"{name}: relative")
        in_range(self.after, 0, 1_000_000, f"{name}: after (tokens)")
        in_range(self.draw, 0, 1_000_000, f"{name}: draw")
        one_of(self.window, ("both", "prompt", "response"), f"{name}: window")

    @property
    def spans(self) -> tuple[Window, int]:
        """See `ShiftEffect.spans`."""
        return self.window, self.after


@EFFECTS.add("random_direction")
@dataclass(frozen=True, kw_only=True)
class RandomDirection(Sham):
    """Push the residual stream along a random direction (d > 0) or against it (d < 0):  h' = h + relative d m u.

    u is a unit vector drawn uniformly from all directions, m the median norm of the stream at the block that lies at
    the share `layer_share` of depth. Needs no calibrated vector.
    Source: Neuromod methodology (matched-norm random control).
    """

    layer_share: float = 0.5
    observable = "random_direction_projection"

    def __post_init__(self) -> None:
        self._within("random_direction")
        in_range(self.layer_share, 0.0, 1.0, "random_direction: layer_share (of depth)")

    def check(self, subject: Subject) -> None:
        """Raise MissingVector when the norm of the residual stream was not measured."""
        subject.stream_norm(block_at(subject.shape, self.layer_share))

    def shifts(self, subject: Subject) -> Sequence[tuple[int, Tensor]]:
        """See `ShiftEffect.shifts`."""
        layer = block_at(subject.shape, self.layer_share)
        drawn = _gaussian(subject.shape.width, self.draw, "random_direction")
        return ((layer, self.relative * subject.stream_norm(layer) * drawn / drawn.norm()),)


@EFFECTS.add("random_orthogonal_steering")
@dataclass(frozen=True, kw_only=True)
class RandomOrthogonalSteering(Sham):
    """Push along (d > 0) or against (d < 0) a random direction across a concept:  h' = h + relative d m w,
    w = (g - (g.v) v) / |g - (g.v) v|,  g ~ N(0, I).

    v is the unit vector of `steering_type`, whose layer and stream norm m it takes, so that only the direction differs
    from `steering`. Source: Neuromod methodology (orthogonal control); Gram & Schmidt.
    """

    steering_type: str
    observable = "random_orthogonal_projection"

    def __post_init__(self) -> None:
        self._within("random_orthogonal_steering")

    @property
    def needs_vectors(self) -> tuple[str, ...]:
        """See `Effect.needs_vectors`."""
        return (self.steering_type,)

    def check(self, subject: Subject) -> None:
        """Raise MissingVector when the vector was not calibrated or failed its validation."""
        subject.vector(self.steering_type)

    def shifts(self, subject: Subject) -> Sequence[tuple[int, Tensor]]:
        """See `ShiftEffect.shifts`."""
        vector = subject.vector(self.steering_type)
        known = vector.direction.float()
        drawn = _gaussian(len(known), self.draw, "random_orthogonal", self.steering_type).to(known.device)
        left = drawn - (drawn @ known) * known
        return ((vector.layer, self.relative * vector.stream_norm * left / left.norm()),)


@EFFECTS.add("shuffled_direction")
@dataclass(frozen=True, kw_only=True)
class ShuffledDirection(Sham):
    """Push along (d > 0) or against (d < 0) a direction made of a concept's sentences with their labels shuffled:
    h' = h + relative d m s_draw,  s_draw a unit vector.

    It has the covariance of the concept's vector and none of its meaning: the strictest of the shams.
    Source: this project (permuted labels, as in Westfall & Young 1993).
    """

    steering_type: str
    observable = "shuffled_direction_projection"

    def __post_init__(self) -> None:
        self._within("shuffled_direction")

    @property
    def needs_vectors(self) -> tuple[str, ...]:
        """See `Effect.needs_vectors`."""
        return (self.steering_type,)

    def check(self, subject: Subject) -> None:
        """Raise MissingVector when the vector, or its so-many-th shuffled draw, was not calibrated."""
        shuffled = subject.vector(self.steering_type).shuffled
        known = 0 if shuffled is None else len(shuffled)
        if self.draw >= known:
            raise MissingVector(
                f"shuffled_direction asks for draw {self.draw} of vector {self.steering_type!r}; "
                f"{subject.name} has {known} (numbered from 0)."
            )

    def shifts(self, subject: Subject) -> Sequence[tuple[int, Tensor]]:
        """See `ShiftEffect.shifts`."""
        self.check(subject)
        vector = subject.vector(self.steering_type)
        drawn: Tensor = vector.shuffled[self.draw]  # type: ignore[index]  # checked above
        return ((vector.layer, self.relative * vector.stream_norm * drawn),)
