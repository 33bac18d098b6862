"""Several concepts in one push."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from neuromod_core.effects.base import EFFECTS, in_range
from neuromod_core.effects.kinds import ShiftEffect
from neuromod_core.effects.subject import Subject
from neuromod_core.kernel.errors import MissingVector, OutOfRange


@EFFECTS.add("combined_steering")
@dataclass(frozen=True, kw_only=True)
class CombinedSteering(ShiftEffect):
    """Push along several concepts at once (d > 0) or against them (d < 0):  h' = h + relative d m sqrt(k / n) u.

    `steering_types` names n vectors ("visionary+associative"); k of them live at a layer, u is the unit vector of their
    sum there, m the stream's median norm. Over all layers the pushes have the root sum of squares of one `steering` of
    the same `relative`, however many concepts share it.  Source: Neuromod methodology (combined vectors).
    """

    steering_types: str = "visionary+associative"
    relative: float = 0.5
    observable, moves = "combined_projection", 1

    def __post_init__(self) -> None:
        in_range(self.relative, 0.001, 2.0, "combined_steering: relative")
        names = self.needs_vectors
        if len(names) < 2 or len(set(names)) < len(names) or not all(names):
            raise OutOfRange(
                f"combined_steering: steering_types is {self.steering_types!r}; "
                "allowed are at least two different names, joined by '+'."
            )

    @property
    def needs_vectors(self) -> tuple[str, ...]:
        """See `Effect.needs_vectors`."""
        return tuple(name.strip() for name in self.steering_types.split("+"))

    def check(self, subject: Subject) -> None:
        """Raise MissingVector when a vector was not calibrated, failed its validation, or they cancel out."""
        self.shifts(subject)

    def shifts(self, subject: Subject) -> Sequence[tuple[int, Tensor]]:
        """See `ShiftEffect.shifts`."""
        vectors = [subject.vector(name) for name in self.needs_vectors]
        size = {vector.layer: vector.stream_norm for vector in vectors}
        by_layer: dict[int, list[Tensor]] = defaultdict(list)
        for vector in vectors:
            by_layer[vector.layer].append(vector.direction.float())
        return tuple(
            (layer, self.relative * size[layer] * (len(found) / len(vectors)) ** 0.5 * self._unit(found))
            for layer, found in sorted(by_layer.items())
        )

    def _unit(self, directions: Sequence[Tensor]) -> Tensor:
        total = torch.stack(list(directions)).sum(0)
        if float(total.norm()) < 1e-3:
            raise MissingVector(f"combined_steering: the vectors {self.steering_types!r} cancel out on this model.")
        unit: Tensor = total / total.norm()
        return unit
