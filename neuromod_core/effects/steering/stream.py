"""What can be done with a concept's vector besides adding it. Projections and norms are computed in float32."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from neuromod_core.effects.base import EFFECTS, in_range
from neuromod_core.effects.kinds import StreamEffect
from neuromod_core.effects.subject import Place, Subject, Vector
from neuromod_core.kernel.errors import NotOnThisModel

TINY = 1e-12  # keeps 0 / 0 out


@dataclass(frozen=True, kw_only=True)
class VectorEffect(StreamEffect):
    """Edits the residual stream at the layer where the vector of `steering_type` was calibrated."""

    steering_type: str
    family = "steering"

    @property
    def needs_vectors(self) -> tuple[str, ...]:
        """See `Effect.needs_vectors`."""
        return (self.steering_type,)

    def check(self, subject: Subject) -> None:
        """Raise MissingVector when the vector was not calibrated or failed its validation."""
        super().check(subject)
        subject.vector(self.steering_type)

    def layers(self, subject: Subject) -> Sequence[int]:
        """See `StreamEffect.layers`."""
        return (subject.vector(self.steering_type).layer,)


def _unit(vector: Vector, hidden: Tensor) -> Tensor:
    return vector.direction.to(hidden.device, torch.float32)


@EFFECTS.add("steering_renormalised")
@dataclass(frozen=True, kw_only=True)
class SteeringRenormalised(VectorEffect):
    """Push along a concept (d > 0) or against it (d < 0) without growing:  h' = |h| a / |a|,  a = h + relative d m v.

    The token keeps its norm, so that what changes is where it points; with `steering` it also grows.
    Source: this project; the additive part as Rimsky et al. 2024.
    """

    relative: float = 0.5
    observable, moves = "renormalised_projection", 1

    def __post_init__(self) -> None:
        in_range(self.relative, 0.001, 2.0, "steering_renormalised: relative")

    def edit(self, hidden: Tensor, dose: Tensor, place: Place) -> Tensor:
        """See `StreamEffect.edit`."""
        vector, h = place.subject.vector(self.steering_type), hidden.float()
        added = h + self.relative * vector.stream_norm * dose[:, None, None] * _unit(vector, hidden)
        size = h.norm(dim=-1, keepdim=True) / added.norm(dim=-1, keepdim=True).clamp(min=TINY)
        kept: Tensor = added * size
        return kept


@EFFECTS.add("steering_rotation")
@dataclass(frozen=True, kw_only=True)
class SteeringRotation(VectorEffect):
    """Turn tokens towards a concept (d > 0) or away from it (d < 0), norm kept:
    h' = |h| (cos(a') v + sin(a') u),  a' = a - span d,  but never past v or -v.

    a is the angle between h and v, u the unit vector of h's part across v, `span` the angle in radians at d = 1. The
    first token, whose huge norm attention rests on, stays as it is.
    Source: Shoemake 1985 (spherical interpolation); this project.
    """

    span: float = 0.35
    observable, moves = "rotated_cosine", 1

    def __post_init__(self) -> None:
        in_range(self.span, 0.001, 1.5, "steering_rotation: span (radians)")

    def edit(self, hidden: Tensor, dose: Tensor, place: Place) -> Tensor:
        """See `StreamEffect.edit`."""
        h, v = hidden.float(), _unit(place.subject.vector(self.steering_type), hidden)
        along = h @ v
        across = h - along[..., None] * v
        width = across.norm(dim=-1)
        angle = (torch.atan2(width, along) - self.span * dose[:, None]).clamp(0, torch.pi)
        turned = angle.cos()[..., None] * v + angle.sin()[..., None] * across / width[..., None].clamp(min=TINY)
        return torch.where((place.queries > 0)[..., None], h.norm(dim=-1, keepdim=True) * turned, h)


@EFFECTS.add("project_out")
@dataclass(frozen=True, kw_only=True)
class ProjectOut(VectorEffect):
    """Take a share of a concept away:  h' = h - d (h.v) v  at the vector's layer and every later one.

    d = 1 leaves no component along v. It is quadratic in v, so v and -v are the same drug and the dose has one side.
    Source: Arditi et al. 2024 (directional ablation).
    """

    doses = (0.0, 1.0)
    observable, moves = "projection_size", -1

    def layers(self, subject: Subject) -> Sequence[int]:
        """See `StreamEffect.layers`."""
        return range(subject.vector(self.steering_type).layer, subject.shape.depth)

    def edit(self, hidden: Tensor, dose: Tensor, place: Place) -> Tensor:
        """See `StreamEffect.edit`."""
        h, v = hidden.float(), _unit(place.subject.vector(self.steering_type), hidden)
        return h - (dose[:, None] * (h @ v))[..., None] * v


@EFFECTS.add("projection_gain")
@dataclass(frozen=True, kw_only=True)
class ProjectionGain(VectorEffect):
    """Exaggerate (d > 0) or flatten (d < 0) what a token already says of a concept:  p' = c + span**d (p - c),
    p = h.v, c the midpoint between the concept's poles; the rest of h stays.

    Tokens on the concept's side move further to it, tokens on the other side further away.  Source: this project.
    """

    span: float = 2.0
    observable, moves = "projection_spread", 1

    def __post_init__(self) -> None:
        in_range(self.span, 1.01, 10.0, "projection_gain: span")

    def edit(self, hidden: Tensor, dose: Tensor, place: Place) -> Tensor:
        """See `StreamEffect.edit`."""
        vector, h = place.subject.vector(self.steering_type), hidden.float()
        v = _unit(vector, hidden)
        gained = (self.span ** dose[:, None] - 1) * (h @ v - vector.midpoint)
        return h + gained[..., None] * v


@EFFECTS.add("conditional_steering")
@dataclass(frozen=True, kw_only=True)
class ConditionalSteering(VectorEffect):
    """Push along a concept (d > 0) or against it (d < 0), only where a probe speaks:
    h' = h + relative d m v  where  h.q > c + margin m,  c the midpoint of the probe's poles.

    `probe_type` names the vector q; empty, the concept watches itself, so that d < 0 acts where the concept is and
    nowhere else. Both vectors must have been calibrated at one layer.  Source: Lee et al. 2024 (conditional steering).
    """

    probe_type: str = ""
    relative: float = 0.5
    margin: float = 0.0
    observable, moves = "probed_projection", 1

    def __post_init__(self) -> None:
        in_range(self.relative, 0.001, 2.0, "conditional_steering: relative")
        in_range(self.margin, -2.0, 2.0, "conditional_steering: margin (stream norms)")

    @property
    def probe(self) -> str:
        """The name of the vector that decides."""
        return self.probe_type or self.steering_type

    @property
    def needs_vectors(self) -> tuple[str, ...]:
        """See `Effect.needs_vectors`."""
        return tuple(dict.fromkeys((self.steering_type, self.probe)))

    def check(self, subject: Subject) -> None:
        """Raise MissingVector for a vector that is not there, NotOnThisModel when the two live at different layers."""
        super().check(subject)
        here, there = subject.vector(self.steering_type).layer, subject.vector(self.probe).layer
        if here != there:
            raise NotOnThisModel(
                f"conditional_steering: on {subject.name} vector {self.steering_type!r} belongs to block {here} and "
                f"probe {self.probe!r} to block {there}; both must belong to one."
            )

    def edit(self, hidden: Tensor, dose: Tensor, place: Place) -> Tensor:
        """See `StreamEffect.edit`."""
        vector, probe = place.subject.vector(self.steering_type), place.subject.vector(self.probe)
        h = hidden.float()
        speaks = h @ _unit(probe, hidden) > probe.midpoint + self.margin * probe.stream_norm
        push = self.relative * vector.stream_norm * dose[:, None] * speaks
        return h + push[..., None] * _unit(vector, hidden)
