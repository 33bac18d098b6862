"""Effects on attention: what they move, and their slow twins."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import torch

from neuromod_core.effects import Stream, Subject
from neuromod_core.effects.kinds import WeightEffect
from neuromod_core.effects.subject import uniforms
from neuromod_core.kernel.rng import rng
from neuromod_core.models import LoadedModel
from neuromod_core.packs import Pack
from tests.laws import measure
from tests.laws.twins import Array, Spot


def mean_gain(gains: torch.Tensor | None, heads: torch.Tensor) -> float:
    return 1.0 if gains is None else float(gains[0][heads].mean())


def sharpness(model: LoadedModel, subject: Subject, pack: Pack) -> float:
    return mean_gain(measure.binding_of(subject, pack).gains, subject.head_set("induction"))


def mean_sharpness(model: LoadedModel, subject: Subject, pack: Pack) -> float:
    return mean_gain(measure.binding_of(subject, pack).gains, subject.head_set("all"))


def head_gain(model: LoadedModel, subject: Subject, pack: Pack) -> float:
    return mean_gain(measure.binding_of(subject, pack).gates, subject.head_set("induction"))


def silenced_heads(model: LoadedModel, subject: Subject, pack: Pack) -> float:
    """Mean over many streams: a random mask may spare every head of a tiny model."""
    gates = measure.binding_of(subject, pack, streams=64).gates
    return 0.0 if gates is None else float((gates == 0).double().mean())


def weights(subject: Subject, pack: Pack) -> torch.Tensor:
    """Attention weights (heads, queries, keys) after the pack's effects on them."""
    drawn, here = measure.scores(subject, measure.NONE)[None].softmax(-1), measure.place(subject)
    for effect, dose in measure.binding_of(subject, pack).of(WeightEffect):
        drawn = effect(drawn, dose, here)
    return drawn[0]


def last_mass(subject: Subject, pack: Pack, keys: slice) -> float:
    return float(measure.scores(subject, pack).softmax(-1)[:, 63, keys].sum(-1).mean())


def sink_mass(model: LoadedModel, subject: Subject, pack: Pack) -> float:
    return last_mass(subject, pack, slice(0, 4))


def prompt_mass(model: LoadedModel, subject: Subject, pack: Pack) -> float:
    return last_mass(subject, pack, slice(0, measure.START))


def local_score_size(model: LoadedModel, subject: Subject, pack: Pack) -> float:
    return float(measure.scores(subject, pack)[:, 63, 48:].abs().mean())


def crest_score_size(model: LoadedModel, subject: Subject, pack: Pack) -> float:
    return float(measure.scores(subject, pack)[:, 40, :41].abs().mean())


def score_error(model: LoadedModel, subject: Subject, pack: Pack) -> float:
    error = measure.scores(subject, pack)[:, 63] - measure.scores(subject, measure.NONE)[:, 63]
    return float(error.square().mean())


def attention_entropy(model: LoadedModel, subject: Subject, pack: Pack) -> float:
    return float(torch.special.entr(weights(subject, pack)).sum(-1).mean())


def attended_keys(model: LoadedModel, subject: Subject, pack: Pack) -> float:
    return float((weights(subject, pack) > 0).sum(-1).double().mean())


def head_disagreement(model: LoadedModel, subject: Subject, pack: Pack) -> float:
    return float(weights(subject, pack).std(0).mean())


def each(grid: Array, spot: Spot, edit: Callable[[float, int, int], float]) -> Array:
    """Apply edit(number, query position, key position) to every score or weight, one at a time."""
    edited = grid.copy()
    for (head, q, k), value in np.ndenumerate(grid):
        edited[head, q, k] = edit(float(value), spot.queries[q], spot.keys[k])
    return edited


def restored(edited: Array, original: Array) -> Array:
    """Every query's weights, scaled to the sum that they had."""
    lines = zip(edited.reshape(-1, edited.shape[-1]), original.reshape(-1, edited.shape[-1]), strict=True)
    return np.array([line / line.sum() * before.sum() for line, before in lines]).reshape(edited.shape)


def qk_score_scaling(effect, dose: float, subject: Subject) -> Array:
    chosen = subject.head_set(effect.heads).tolist()
    return np.array([[effect.span**dose if head else 1.0 for head in layer] for layer in chosen])


def attention_focus(effect, dose: float, subject: Subject) -> Array:
    depth = subject.shape.depth
    gains = np.ones((depth, subject.shape.heads))
    for layer in range(math.floor(depth / 3), math.ceil(2 * depth / 3)):
        gains[layer] = effect.span**dose
    return gains


def head_masking_dropout(effect, dose: float, subject: Subject, stream: Stream) -> Array:
    draws = rng(stream.root, stream.name, "head_masking").random((subject.shape.depth, subject.shape.heads))
    return np.array([[0.0 if u < effect.rate * dose else 1.0 for u in layer] for layer in draws])


def head_reweighting(effect, dose: float, subject: Subject, stream: Stream) -> Array:
    chosen = subject.head_set(effect.heads).tolist()
    return np.array([[1 + effect.reach * dose if head else 1.0 for head in layer] for layer in chosen])


def head_ablation(effect, dose: float, subject: Subject, stream: Stream) -> Array:
    gates = np.ones((subject.shape.depth, subject.shape.heads))
    for item in effect.heads.split(","):
        layer, head = item.strip().split(".")
        gates[int(layer), int(head)] = 1 - dose
    return gates


def attention_sinks_anchors(effect, scores: Array, dose: float, spot: Spot) -> Array:
    return each(scores, spot, lambda s, q, k: s + effect.span * dose if k < effect.sinks else s)


def positional_bias_tweak(effect, scores: Array, dose: float, spot: Spot) -> Array:
    shapes = {"recency": lambda r: r, "primacy": lambda r: 1 - r, "middle": lambda r: 1 - abs(2 * r - 1)}
    return each(scores, spot, lambda s, q, k: s + effect.span * dose * shapes[effect.bias](k / q if q > 0 else 0))


def prompt_attention_gain(effect, scores: Array, dose: float, spot: Spot) -> Array:
    return each(scores, spot, lambda s, q, k: s + effect.span * dose if k < spot.start <= q else s)


def local_attention_gain(effect, scores: Array, dose: float, spot: Spot) -> Array:
    return each(scores, spot, lambda s, q, k: s * effect.span**dose if q - k < effect.window else s)


def attention_oscillation(effect, scores: Array, dose: float, spot: Spot) -> Array:
    assert effect.wave == "sine"
    wave = [math.sin(2 * math.pi * q / effect.period) for q in range(64)]
    return each(scores, spot, lambda s, q, k: s * (1 + effect.reach * dose * wave[q]))


def attention_masking(effect, scores: Array, dose: float, spot: Spot) -> Array:
    u = {k: float(uniforms((spot.stream,), "attention_masking", torch.tensor([[k]]), 1)) for k in spot.keys}
    return each(
        scores,
        spot,
        lambda s, q, k: -math.inf if u[k] < effect.rate * dose and k >= effect.sinks and k < q else s,
    )


def pair_draws(purpose: str, spot: Spot) -> Array:
    """Uniforms (query position, key position) of the row's stream and layer; both from 0."""
    index = torch.arange(max(spot.queries) + 1)[None]
    return uniforms((spot.stream,), f"{purpose}/{spot.layer}", index, max(spot.keys) + 1)[0].numpy()


def attention_dropout(effect, a: Array, dose: float, spot: Spot) -> Array:
    u = pair_draws("attention_dropout", spot)
    kept = each(a, spot, lambda w, q, k: 0.0 if 0 <= k < q and u[q, k] < effect.rate * dose else w)
    return restored(kept, a)


def attention_noise(effect, scores: Array, dose: float, spot: Spot) -> Array:
    u = pair_draws("attention_noise", spot)
    return each(scores, spot, lambda s, q, k: s + effect.span * dose * (u[q, k] - 0.5) / math.sqrt(1 / 12))


def attention_diffusion(effect, a: Array, dose: float, spot: Spot) -> Array:
    share, mixed = effect.reach * dose, a.copy()
    for head, q in np.ndindex(*a.shape[:2]):
        seen = [k for k, w in enumerate(a[head, q]) if w > 0]
        for k in seen:
            mixed[head, q, k] = (1 - share) * a[head, q, k] + share * a[head, q].sum() / len(seen)
    return mixed


def head_averaging(effect, a: Array, dose: float, spot: Spot) -> Array:
    return np.array([(1 - dose) * head + dose * sum(a) / len(a) for head in a])


def attention_pruning(effect, a: Array, dose: float, spot: Spot) -> Array:
    kept = a.copy()
    for head, q in np.ndindex(*a.shape[:2]):
        kept[head, q] = [w if w >= effect.reach * dose * max(a[head, q]) else 0.0 for w in a[head, q]]
    return restored(kept, a)


EXAMPLES: dict[str, dict[str, object]] = {"head_ablation": {"heads": "0.1,1.2"}}
OBSERVABLES = {
    "attended_keys": attended_keys,
    "attention_entropy": attention_entropy,
    "crest_score_size": crest_score_size,
    "head_disagreement": head_disagreement,
    "head_gain": head_gain,
    "local_score_size": local_score_size,
    "mean_sharpness": mean_sharpness,
    "prompt_mass": prompt_mass,
    "score_error": score_error,
    "sharpness": sharpness,
    "silenced_heads": silenced_heads,
    "sink_mass": sink_mass,
}
TWINS = {
    "attention_diffusion": attention_diffusion,
    "attention_dropout": attention_dropout,
    "attention_focus": attention_focus,
    "attention_masking": attention_masking,
    "attention_noise": attention_noise,
    "attention_oscillation": attention_oscillation,
    "attention_pruning": attention_pruning,
    "attention_sinks_anchors": attention_sinks_anchors,
    "head_ablation": head_ablation,
    "head_averaging": head_averaging,
    "head_masking_dropout": head_masking_dropout,
    "head_reweighting": head_reweighting,
    "local_attention_gain": local_attention_gain,
    "positional_bias_tweak": positional_bias_tweak,
    "prompt_attention_gain": prompt_attention_gain,
    "qk_score_scaling": qk_score_scaling,
}
