"""Router effects: what they move, and their slow twins."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import torch

from neuromod_core.effects import Subject
from neuromod_core.effects.kinds import RouterEffect
from neuromod_core.effects.subject import uniforms
from neuromod_core.models import LoadedModel
from neuromod_core.packs import Pack
from tests.laws import measure
from tests.laws.twins import Array, Spot


def routed(subject: Subject, pack: Pack, streams: int = 1) -> torch.Tensor:
    """Routing probabilities (rows, tokens, experts) at random router logits, under the pack."""
    binding, here = measure.binding_of(subject, pack, streams), measure.place(subject)
    here = replace(here, queries=here.queries.expand(streams, -1), streams=binding.streams)
    z = torch.randn(1, 64, subject.shape.experts, generator=torch.Generator().manual_seed(5)).repeat(streams, 1, 1)
    before, edited = torch.cat([z[:, :1], z[:, :-1]], dim=1), z
    for effect, dose in binding.of(RouterEffect):
        edited = effect(edited, before, dose, here)
    return edited.softmax(-1)


def routing_entropy(model: LoadedModel, subject: Subject, pack: Pack) -> float:
    return float(torch.special.entr(routed(subject, pack)).sum(-1).mean())


def routing_change(model: LoadedModel, subject: Subject, pack: Pack) -> float:
    """How far routes lie from the undosed route of the token before."""
    return float((routed(subject, pack)[:, 1:] - routed(subject, measure.NONE)[:, :-1]).abs().sum(-1).mean())


def silenced_experts(model: LoadedModel, subject: Subject, pack: Pack) -> float:
    return float((routed(subject, pack, streams=64) == 0).double().mean())


def softmax(z: Array) -> Array:
    mass = [math.exp(value - max(z)) for value in z.astype(float)]
    return np.array(mass) / sum(mass)


def router_temperature_bias(effect, z: Array, before: Array, dose: float, spot: Spot) -> Array:
    return np.array([[value / effect.span**dose for value in line] for line in z])


def expert_mixing(effect, z: Array, before: Array, dose: float, spot: Spot) -> Array:
    a = effect.reach * dose
    return np.stack([np.log((1 - a) * softmax(line) + a / len(line)) for line in z])


def expert_persistence(effect, z: Array, before: Array, dose: float, spot: Spot) -> Array:
    a = effect.reach * dose
    return np.stack([np.log((1 - a) * softmax(now) + a * softmax(old)) for now, old in zip(z, before, strict=True)])


def expert_masking_dropout(effect, z: Array, before: Array, dose: float, spot: Spot) -> Array:
    u = uniforms((spot.stream,), f"expert_masking/{spot.layer}", torch.tensor([[0]]), z.shape[-1])[0, 0].tolist()
    spared = sorted(range(len(u)), key=lambda e: -u[e])[: spot.subject.shape.chosen]
    return np.array(
        [[-math.inf if u[e] < effect.rate * dose and e not in spared else v for e, v in enumerate(line)] for line in z]
    )


EXAMPLES: dict[str, dict[str, object]] = {}
OBSERVABLES = {
    "routing_change": routing_change,
    "routing_entropy": routing_entropy,
    "silenced_experts": silenced_experts,
}
TWINS = {
    "expert_masking_dropout": expert_masking_dropout,
    "expert_mixing": expert_mixing,
    "expert_persistence": expert_persistence,
    "router_temperature_bias": router_temperature_bias,
}
