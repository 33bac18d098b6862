"""Steering effects: what they move, and their slow twins."""

from __future__ import annotations

from neuromod_core.effects import Subject
from neuromod_core.models import LoadedModel
from neuromod_core.packs import Pack
from tests.laws import measure


def projection(model: LoadedModel, subject: Subject, pack: Pack) -> float:
    vector = subject.vector("visionary")
    return float((measure.residual(model, subject, pack, vector.layer) @ vector.direction).mean())


def steering(effect, subject: Subject):
    vector = subject.vectors[effect.steering_type]
    return [(vector.layer, [effect.relative * vector.stream_norm * value for value in vector.direction.tolist()])]


EXAMPLES: dict[str, dict[str, object]] = {"steering": {"steering_type": "visionary"}}
OBSERVABLES = {"projection": projection}
TWINS = {"steering": steering}
