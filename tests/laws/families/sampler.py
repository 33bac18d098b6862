"""Sampler effects: what they move, and their slow twins."""

from __future__ import annotations

import numpy as np
import torch

from neuromod_core.effects import Subject
from neuromod_core.models import LoadedModel
from neuromod_core.packs import Pack
from tests.laws import measure
from tests.laws.twins import Array, Spot


def entropy(model: LoadedModel, subject: Subject, pack: Pack) -> float:
    return float(torch.special.entr(measure.logits(subject, pack).softmax(-1)).sum())


def repeated_logit(model: LoadedModel, subject: Subject, pack: Pack) -> float:
    return float(measure.logits(subject, pack)[40])


def softmax(z: Array) -> Array:
    mass = np.exp(z - z.max())
    return mass / mass.sum()


def temperature(effect, z: Array, dose: float, spot: Spot) -> Array:
    return np.array([value / effect.span**dose for value in z])


def pulsed_sampler(effect, z: Array, dose: float, spot: Spot) -> Array:
    inside = spot.index % effect.interval < effect.duration
    return np.array([value / (1 - effect.reach * dose) if inside else value for value in z])


def top_p(effect, z: Array, dose: float, spot: Spot) -> Array:
    p, kept, mass = softmax(z.astype(float)), np.full_like(z, -np.inf), 0.0
    for token in np.argsort(-z, kind="stable"):
        if mass >= 1 + effect.reach * dose:
            break
        kept[token], mass = z[token], mass + p[token]
    return kept


def repetition_penalty(effect, z: Array, dose: float, spot: Spot) -> Array:
    seen = spot.prompt + spot.history
    return np.array([value - effect.span * dose * seen.count(token) for token, value in enumerate(z)])


EXAMPLES: dict[str, dict[str, object]] = {}
OBSERVABLES = {"entropy": entropy, "repeated_logit": repeated_logit}
TWINS = {
    "pulsed_sampler": pulsed_sampler,
    "repetition_penalty": repetition_penalty,
    "temperature": temperature,
    "top_p": top_p,
}
