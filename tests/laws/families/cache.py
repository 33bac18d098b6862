"""Effects on what is still seen of the past: what they move, and their slow twins."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import torch

from neuromod_core.effects import Subject
from neuromod_core.models import LoadedModel
from neuromod_core.packs import Pack
from tests.laws import measure
from tests.laws.twins import Array, Spot


def distant_score_size(model: LoadedModel, subject: Subject, pack: Pack) -> float:
    return float(measure.scores(subject, pack)[:, 63, :16].abs().mean())


def distant_mass(model: LoadedModel, subject: Subject, pack: Pack) -> float:
    return float(measure.scores(subject, pack).softmax(-1)[:, 63, :32].sum(-1).mean())


def visible_keys(model: LoadedModel, subject: Subject, pack: Pack) -> float:
    return float(torch.isfinite(measure.scores(subject, pack)[0, 63]).sum())


def each(scores: Array, spot: Spot, edit: Callable[[float, int, int], float]) -> Array:
    """Apply edit(score, query position, key position) to every score, one at a time."""
    edited = scores.copy()
    for (head, q, k), value in np.ndenumerate(scores):
        edited[head, q, k] = edit(float(value), spot.queries[q], spot.keys[k])
    return edited


def exponential_decay_kv(effect, scores: Array, dose: float, spot: Spot) -> Array:
    rate = dose * math.log(2) / effect.half_life
    return each(scores, spot, lambda s, q, k: s * math.exp(-rate * (q - k)))


def odds_decay_kv(effect, scores: Array, dose: float, spot: Spot) -> Array:
    rate = dose * math.log(2) / effect.half_life
    return each(scores, spot, lambda s, q, k: s - rate * (q - k))


def stride_compression_kv(effect, scores: Array, dose: float, spot: Spot) -> Array:
    stride = 1 + math.ceil(effect.reach * dose)
    return each(
        scores,
        spot,
        lambda s, q, k: s if k % stride == 0 or k < effect.sinks or q - k < effect.recent else -math.inf,
    )


def truncation_kv(effect, scores: Array, dose: float, spot: Spot) -> Array:
    window = math.ceil(effect.reach / dose)
    return each(scores, spot, lambda s, q, k: s if q - k < window or k < effect.sinks else -math.inf)


EXAMPLES: dict[str, dict[str, object]] = {}
OBSERVABLES = {"distant_mass": distant_mass, "distant_score_size": distant_score_size, "visible_keys": visible_keys}
TWINS = {
    "exponential_decay_kv": exponential_decay_kv,
    "odds_decay_kv": odds_decay_kv,
    "stride_compression_kv": stride_compression_kv,
    "truncation_kv": truncation_kv,
}
