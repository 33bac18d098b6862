"""Adding a calibrated direction, or a sham of it, to the residual stream."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from neuromod_core.effects.base import EFFECTS, in_range, one_of
from neuromod_core.effects.kinds import ShiftEffect
from neuromod_core.effects.subject import Subject, Vector, Window
from neuromod_core.kernel.rng import rng


@EFFECTS.add("steering")
@dataclass(frozen=True, kw_only=True)
class Steering(ShiftEffect):
    """Push the residual stream along a concept (d > 0) or against it (d < 0):  h' = h + relative d m v.

    v is the unit vector of `steering_type`, m the median norm of the stream at its layer (token 0 excluded), so that
    `relative` is the relative dose |h' - h| / m at d = 1. `sham="random"` takes a random unit vector in its place, and
    "orthogonal" one without any component along v; `draw` numbers the shams. `window` limits it to the tokens read
    (prompt) or written (response), and `after` to those from the so-many-th token of the response on.
    Source: Rimsky et al. 2024 (CAA); relative dose: Turner et al. 2023.
    """

    steering_type: str
    relative: float = 0.5
    window: Window = "both"
    after: int = 0
    sham: Literal["none", "random", "orthogonal"] = "none"
    draw: int = 0
    observable, moves = "projection", 1

    def __post_init__(self) -> None:
        in_range(self.relative, 0.001, 2.0, "steering: relative")
        in_range(self.after, 0, 1_000_000, "steering: after (tokens)")
        one_of(self.window, ("both", "prompt", "response"), "steering: window")
        one_of(self.sham, ("none", "random", "orthogonal"), "steering: sham")

    @property
    def needs_vectors(self) -> tuple[str, ...]:
        """See `Effect.needs_vectors`."""
        return (self.steering_type,)

    def check(self, subject: Subject) -> None:
        """Raise MissingVector when the vector was not calibrated or failed its validation."""
        subject.vector(self.steering_type)

    @property
    def spans(self) -> tuple[Window, int]:
        """See `ShiftEffect.spans`."""
        return self.window, self.after

    def shifts(self, subject: Subject) -> Sequence[tuple[int, Tensor]]:
        """See `ShiftEffect.shifts`."""
        vector = subject.vector(self.steering_type)
        return ((vector.layer, self.relative * vector.stream_norm * self._direction(vector)),)

    def _direction(self, vector: Vector) -> Tensor:
        if self.sham == "none":
            return vector.direction
        numbers = rng(self.draw, "sham", self.steering_type).standard_normal(vector.direction.shape[0])
        random = torch.from_numpy(numbers.astype(np.float32))
        if self.sham == "orthogonal":
            random = random - (random @ vector.direction) * vector.direction
        unit: Tensor = random / random.norm()
        return unit
