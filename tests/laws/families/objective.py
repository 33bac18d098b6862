"""Objective effects: what they move, and their slow twins."""

from __future__ import annotations

import numpy as np

from neuromod_core.effects import Subject
from neuromod_core.models import LoadedModel
from neuromod_core.packs import Pack
from tests.laws import measure
from tests.laws.twins import Array, Spot


def lexicon_mass(model: LoadedModel, subject: Subject, pack: Pack) -> float:
    return float(measure.logits(subject, pack).softmax(-1)[subject.lexicon("calm")].sum())


def style_affect_logit_bias(effect, z: Array, dose: float, spot: Spot) -> Array:
    words = set(spot.subject.lexicon(effect.bias_type).tolist())
    return np.array([value + effect.span * dose * (token in words) for token, value in enumerate(z)])


EXAMPLES: dict[str, dict[str, object]] = {"style_affect_logit_bias": {"bias_type": "calm"}}
OBSERVABLES = {"lexicon_mass": lexicon_mass}
TWINS = {"style_affect_logit_bias": style_affect_logit_bias}
