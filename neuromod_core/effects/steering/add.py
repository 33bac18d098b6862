"""Adding a calibrated direction, or a sham of it, to the residual stream."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from neuromod_core.effects.base import EFFECTS, ShiftEffect, in_range
from neuromod_core.effects.subject import Subject, Vector
from neuromod_core.kernel.errors import OutOfRange
from neuromod_core.kernel.rng import rng


@EFFECTS.add("steering")
@dataclass(frozen=True, kw_only=True)
class Steering(ShiftEffect):
    """Push the residual stream along a concept (d > 0) or against it (d < 0):  h' = h + relative d m v.

    v is the unit vector of `steering_type`, m the median norm of the stream at its layer (token 0 excluded), so that
    `relative` is the relative dose |h' - h| / m at d = 1. `sham="random"` takes a random unit vector in its place, and
    "orthogonal" one without any component along v; `draw` numbers the shams. `window` limits it to the tokens read
    (prompt) or written (response).  Source: Rimsky et al. 2024 (CAA); relative dose: Turner et al. 2023.
    """

    steering_type: str
    relative: float = 0.5
    window: Literal["both", "prompt", "response"] = "both"
    sham: Literal["none", "random", "orthogonal"] = "none"
    draw: int = 0
    observable, moves = "projection", 1

    def __post_init__(self) -> None:
        in_range(self.relative, 0.001, 2.0, "steering: relative")
        if self.window not in ("both", "prompt", "response"):
            raise OutOfRange(f"steering: window is {self.window!r}; allowed are both, prompt, response.")
        if self.sham not in ("none", "random", "orthogonal"):
            raise OutOfRange(f"steering: sham is {self.sham!r}; allowed are none, random, orthogonal.")

    def check(self, subject: Subject) -> None:
        """Raise MissingVector when the vector was not calibrated or failed its validation."""
        subject.vector(self.steering_type)

    def shift(self, subject: Subject) -> tuple[int, Tensor]:
        """See `ShiftEffect.shift`."""
        vector = subject.vector(self.steering_type)
        return vector.layer, self.relative * vector.stream_norm * self._direction(vector)

    def acts_in(self, phase: Literal["prompt", "response"]) -> bool:
        """See `ShiftEffect.acts_in`."""
        return self.window in ("both", phase)

    def _direction(self, vector: Vector) -> Tensor:
        if self.sham == "none":
            return vector.direction
        numbers = rng(self.draw, "sham", self.steering_type).standard_normal(vector.direction.shape[0])
        random = torch.from_numpy(numbers.astype(np.float32))
        if self.sham == "orthogonal":
            random = random - (random @ vector.direction) * vector.direction
        unit: Tensor = random / random.norm()
        return unit
