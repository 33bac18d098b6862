"""Steering effects: what they move, and their slow twins."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import torch

from neuromod_core.effects import EFFECTS, Subject
from neuromod_core.kernel.rng import rng
from neuromod_core.models import LoadedModel
from neuromod_core.packs import Pack
from tests.laws import measure
from tests.laws.twins import Array, Spot

EXAMPLES: dict[str, dict[str, object]] = {
    "combined_steering": {"steering_types": "visionary+synesthesia"},
    "conditional_steering": {"steering_type": "visionary", "probe_type": "calm"},
    "project_out": {"steering_type": "visionary"},
    "projection_gain": {"steering_type": "visionary"},
    "random_orthogonal_steering": {"steering_type": "visionary"},
    "shuffled_direction": {"steering_type": "visionary", "draw": 2},
    "steering": {"steering_type": "visionary"},
    "steering_renormalised": {"steering_type": "visionary"},
    "steering_rotation": {"steering_type": "visionary"},
}


def along(name: str, examples: Mapping[str, dict[str, object]]):
    """The mean projection of the stream on what an additive effect adds, where it adds it."""

    def projected(model: LoadedModel, subject: Subject, pack: Pack) -> float:
        ((layer, push),) = EFFECTS[name](**examples.get(name, {})).shifts(subject)
        return float((measure.residual(model, subject, pack, layer) @ push / push.norm()).mean())

    return projected


def projections(model: LoadedModel, subject: Subject, pack: Pack) -> torch.Tensor:
    vector = subject.vector("visionary")
    return measure.residual(model, subject, pack, vector.layer) @ vector.direction


def projection(model: LoadedModel, subject: Subject, pack: Pack) -> float:
    return float(projections(model, subject, pack).mean())


def projection_size(model: LoadedModel, subject: Subject, pack: Pack) -> float:
    return float(projections(model, subject, pack).abs().mean())


def rotated_cosine(model: LoadedModel, subject: Subject, pack: Pack) -> float:
    vector = subject.vector("visionary")
    stream = measure.residual(model, subject, pack, vector.layer)
    return float((stream @ vector.direction / stream.norm(dim=-1)).mean())


def draw(number: int, *names: str, width: int = 32) -> Array:
    return rng(number, *names).standard_normal(width).astype(np.float32)


def steering(effect, subject: Subject):
    vector = subject.vectors[effect.steering_type]
    return [(vector.layer, [effect.relative * vector.stream_norm * value for value in vector.direction.tolist()])]


def random_direction(effect, subject: Subject):
    drawn = draw(effect.draw, "random_direction")
    layer = round(effect.layer_share * (subject.shape.depth - 1))
    return [(layer, effect.relative * float(subject.stream_norms[layer]) * drawn / np.sqrt(np.sum(drawn**2)))]


def random_orthogonal_steering(effect, subject: Subject):
    vector = subject.vectors[effect.steering_type]
    v, drawn = vector.direction.numpy(), draw(effect.draw, "random_orthogonal", effect.steering_type)
    left = np.array([g - np.dot(drawn, v) * each for g, each in zip(drawn, v, strict=True)])
    push = effect.relative * vector.stream_norm * left / np.linalg.norm(left)
    assert abs(np.dot(push, v)) < 1e-5
    return [(vector.layer, push)]


def shuffled_direction(effect, subject: Subject):
    vector = subject.vectors[effect.steering_type]
    return [(vector.layer, effect.relative * vector.stream_norm * vector.shuffled[effect.draw].numpy())]


def combined_steering(effect, subject: Subject):
    vectors = [subject.vectors[name] for name in effect.steering_types.split("+")]
    assert len({vector.layer for vector in vectors}) == 1, "all live at one layer here, so k = n"
    total = sum(vector.direction.numpy() for vector in vectors)
    return [(vectors[0].layer, effect.relative * vectors[0].stream_norm * total / np.linalg.norm(total))]


def steering_renormalised(effect, h: Array, dose: float, spot: Spot) -> Array:
    vector = spot.subject.vectors[effect.steering_type]
    moved = [x + effect.relative * dose * vector.stream_norm * vector.direction.numpy() for x in h]
    return np.stack([a / np.linalg.norm(a) * np.linalg.norm(x) for x, a in zip(h, moved, strict=True)])


def steering_rotation(effect, h: Array, dose: float, spot: Spot) -> Array:
    """By the formula of spherical interpolation between the token and v."""
    v, turned = spot.subject.vectors[effect.steering_type].direction.numpy(), []
    for x, position in zip(h.astype(float), spot.queries, strict=True):
        size = np.linalg.norm(x)
        angle = np.arccos(np.dot(x, v) / size)
        new = min(max(angle - (position > 0) * effect.span * dose, 0.0), np.pi)
        turned.append(size * (np.sin(new) * x / size + np.sin(angle - new) * v) / np.sin(angle))
    return np.stack(turned)


def project_out(effect, h: Array, dose: float, spot: Spot) -> Array:
    v = spot.subject.vectors[effect.steering_type].direction.numpy()
    return np.stack([x - dose * np.dot(x, v) * v for x in h])


def projection_gain(effect, h: Array, dose: float, spot: Spot) -> Array:
    vector = spot.subject.vectors[effect.steering_type]
    v, gained = vector.direction.numpy(), []
    for x in h:
        across = x - np.dot(x, v) * v
        gained.append(across + (vector.midpoint + effect.span**dose * (np.dot(x, v) - vector.midpoint)) * v)
    return np.stack(gained)


def conditional_steering(effect, h: Array, dose: float, spot: Spot) -> Array:
    vector = spot.subject.vectors[effect.steering_type]
    probe = spot.subject.vectors[effect.probe_type or effect.steering_type]
    bound = probe.midpoint + effect.margin * probe.stream_norm
    push = effect.relative * dose * vector.stream_norm * vector.direction.numpy()
    return np.stack([x + push if np.dot(x, probe.direction.numpy()) > bound else x for x in h])


OBSERVABLES = {
    "combined_projection": along("combined_steering", EXAMPLES),
    "probed_projection": projection,
    "projection": projection,
    "projection_size": projection_size,
    "projection_spread": projection_size,
    "random_direction_projection": along("random_direction", EXAMPLES),
    "random_orthogonal_projection": along("random_orthogonal_steering", EXAMPLES),
    "renormalised_projection": projection,
    "rotated_cosine": rotated_cosine,
    "shuffled_direction_projection": along("shuffled_direction", EXAMPLES),
}
TWINS = {
    "combined_steering": combined_steering,
    "conditional_steering": conditional_steering,
    "project_out": project_out,
    "projection_gain": projection_gain,
    "random_direction": random_direction,
    "random_orthogonal_steering": random_orthogonal_steering,
    "shuffled_direction": shuffled_direction,
    "steering": steering,
    "steering_renormalised": steering_renormalised,
    "steering_rotation": steering_rotation,
}
