"""Input effects: what they move, and their slow twins."""

from __future__ import annotations

import numpy as np
import torch

from neuromod_core.effects import Subject
from neuromod_core.effects.subject import normals
from neuromod_core.models import LoadedModel
from neuromod_core.packs import Pack
from tests.laws import measure
from tests.laws.twins import Array, Spot


def embedding_distance(model: LoadedModel, subject: Subject, pack: Pack) -> float:
    there = measure.residual(model, subject, pack, -1)
    return float((there - measure.residual(model, subject, measure.NONE, -1)).norm())


def embedding_noise(effect, h: Array, dose: float, spot: Spot) -> Array:
    drawn = normals((spot.stream,), "embedding_noise", torch.tensor([spot.queries]), h.shape[-1])[0].numpy()
    return np.stack([x + effect.span * dose * np.sqrt(np.mean(x**2)) * e for x, e in zip(h, drawn, strict=True)])


EXAMPLES: dict[str, dict[str, object]] = {}
OBSERVABLES = {"embedding_distance": embedding_distance}
TWINS = {"embedding_noise": embedding_noise}
