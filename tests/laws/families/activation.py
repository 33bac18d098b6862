"""Activation effects: what they move, and their slow twins."""

from __future__ import annotations

import math

import numpy as np
import torch

from neuromod_core.effects import Subject
from neuromod_core.effects.subject import normals, uniforms
from neuromod_core.models import LoadedModel
from neuromod_core.packs import Pack
from tests.laws import measure
from tests.laws.families.steering import along
from tests.laws.twins import Array, Spot

EXAMPLES: dict[str, dict[str, object]] = {
    "activation_clamp": {"limit": 2.0},  # 32 features have few outliers
    "soft_projection": {"steering_types": "visionary+calm"},
}


def block_contribution(model: LoadedModel, subject: Subject, pack: Pack) -> float:
    return float((measure.residual(model, subject, pack, 0) - measure.residual(model, subject, pack, -1)).norm())


def stream_blur(model: LoadedModel, subject: Subject, pack: Pack) -> float:
    there = measure.residual(model, subject, pack, 0)
    return float((there - measure.residual(model, subject, measure.NONE, 0)).norm())


def subspace_share(model: LoadedModel, subject: Subject, pack: Pack) -> float:
    inside = torch.stack([subject.vector(name).direction for name in ("visionary", "calm")])
    stream = measure.residual(model, subject, pack, 0)
    fitted = torch.linalg.lstsq(inside.T, stream.T).solution.T @ inside
    return float((fitted.norm(dim=-1) / stream.norm(dim=-1)).mean())


def peak_activation(model: LoadedModel, subject: Subject, pack: Pack) -> float:
    return float(measure.residual(model, subject, pack, 0).abs().amax(-1).mean())


def zero_features(model: LoadedModel, subject: Subject, pack: Pack) -> float:
    return float((measure.residual(model, subject, pack, 0) == 0).double().mean())


def rms(x: Array) -> float:
    return math.sqrt(sum(float(value) ** 2 for value in x) / len(x))


def layer_wise_gain(effect, h: Array, dose: float, spot: Spot) -> Array:
    return np.stack([x + (1 + effect.span * dose) * (y - x) for x, y in zip(spot.entering, h, strict=True)])


def noise_injection(effect, h: Array, dose: float, spot: Spot) -> Array:
    drawn = normals((spot.stream,), f"noise_injection/{spot.layer}", torch.tensor([spot.queries]), h.shape[-1])[0]
    return np.stack([x + effect.span * dose * rms(x) * e for x, e in zip(h, drawn.numpy(), strict=True)])


def activation_additions(effect, subject: Subject):
    plus, minus = (subject.reader.mean_stream(text).numpy() for text in (effect.plus, effect.minus))
    layer = round(effect.layer_share * (subject.shape.depth - 1))
    a = plus[layer] - minus[layer]
    return [(layer, effect.relative * float(subject.stream_norms[layer]) * a / np.linalg.norm(a))]


def soft_projection(effect, h: Array, dose: float, spot: Spot) -> Array:
    """By the normal equations, P = V (V'V)^-1 V'."""
    V = np.stack([spot.subject.vectors[name].direction.numpy() for name in effect.steering_types.split("+")], axis=1)
    P = V @ np.linalg.inv(V.T @ V) @ V.T
    return np.stack([P @ x + (1 - dose * effect.reach) * (x - P @ x) for x in h])


def activation_clamp(effect, h: Array, dose: float, spot: Spot) -> Array:
    clamped = h.copy()
    for (token, i), value in np.ndenumerate(h):
        excess = abs(value) - effect.limit * rms(h[token])
        clamped[token, i] = value - (spot.queries[token] > 0) * dose * np.sign(value) * max(excess, 0)
    return clamped


def activation_sparsify(effect, h: Array, dose: float, spot: Spot) -> Array:
    sparse = h.copy()
    for token, x in enumerate(h):
        for i in sorted(range(len(x)), key=lambda i: abs(x[i]))[: math.floor(effect.rate * dose * len(x))]:
            sparse[token, i] = 0
    return sparse


def feature_dropout(effect, h: Array, dose: float, spot: Spot) -> Array:
    u = uniforms((spot.stream,), "feature_dropout", torch.tensor([[0]]), h.shape[-1])[0, 0].tolist()
    lost = effect.rate * dose
    dropped = [[0 if u[i] < lost else value / (1 - lost) for i, value in enumerate(x)] for x in h]
    return np.stack([y if at > 0 else x for x, y, at in zip(h, dropped, spot.queries, strict=True)])


OBSERVABLES = {
    "added_projection": along("activation_additions", EXAMPLES),
    "block_contribution": block_contribution,
    "lost_features": zero_features,
    "peak_activation": peak_activation,
    "stream_blur": stream_blur,
    "subspace_share": subspace_share,
    "zero_features": zero_features,
}
TWINS = {
    "activation_additions": activation_additions,
    "activation_clamp": activation_clamp,
    "activation_sparsify": activation_sparsify,
    "feature_dropout": feature_dropout,
    "layer_wise_gain": layer_wise_gain,
    "noise_injection": noise_injection,
    "soft_projection": soft_projection,
}
