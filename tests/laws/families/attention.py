"""Effects on attention: what they move, and their slow twins."""

from __future__ import annotations

import numpy as np

from neuromod_core.effects import Stream, Subject
from neuromod_core.kernel.rng import rng
from neuromod_core.models import LoadedModel
from neuromod_core.packs import Pack
from tests.laws import measure
from tests.laws.twins import Array


def sharpness(model: LoadedModel, subject: Subject, pack: Pack) -> float:
    gains = measure.binding_of(subject, pack).gains
    heads = subject.head_set("induction")
    return 1.0 if gains is None else float(gains[0][heads].mean())


def silenced_heads(model: LoadedModel, subject: Subject, pack: Pack) -> float:
    """Mean over many streams: a random mask may spare every head of a tiny model."""
    gates = measure.binding_of(subject, pack, streams=64).gates
    return 0.0 if gates is None else float((gates == 0).double().mean())


def qk_score_scaling(effect, dose: float, subject: Subject) -> Array:
    chosen = subject.head_set(effect.heads).tolist()
    return np.array([[effect.span**dose if head else 1.0 for head in layer] for layer in chosen])


def head_masking_dropout(effect, dose: float, subject: Subject, stream: Stream) -> Array:
    draws = rng(stream.root, stream.name, "head_masking").random((subject.shape.depth, subject.shape.heads))
    return np.array([[0.0 if u < effect.rate * dose else 1.0 for u in layer] for layer in draws])


EXAMPLES: dict[str, dict[str, object]] = {}
OBSERVABLES = {"sharpness": sharpness, "silenced_heads": silenced_heads}
TWINS = {"head_masking_dropout": head_masking_dropout, "qk_score_scaling": qk_score_scaling}
