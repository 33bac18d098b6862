"""Sampler effects: what they move, and their slow twins."""

from __future__ import annotations

import math

import numpy as np
import torch

from neuromod_core.effects import Stream, Subject
from neuromod_core.effects.subject import normals, uniforms
from neuromod_core.models import LoadedModel
from neuromod_core.packs import Pack, bind
from tests.laws import measure
from tests.laws.twins import Array, Spot

LETTERS = "continuation"  # a class that bytes can spell


def entropy_of(z: torch.Tensor) -> float:
    return float(torch.special.entr(z.softmax(-1)).sum())


def entropy(model: LoadedModel, subject: Subject, pack: Pack) -> float:
    return entropy_of(measure.logits(subject, pack))


def late_entropy(model: LoadedModel, subject: Subject, pack: Pack) -> float:
    return entropy_of(measure.logits(subject, pack, index=100))


def entropy_swing(model: LoadedModel, subject: Subject, pack: Pack) -> float:
    """Entropy in the first half of a wave of 32 tokens, less that in the second."""
    first, second = (sum(entropy_of(measure.logits(subject, pack, index=t)) for t in half) for half in WAVE)
    return first - second


WAVE = (range(1, 16), range(17, 32))


def class_entropy(model: LoadedModel, subject: Subject, pack: Pack) -> float:
    return entropy_of(measure.logits(subject, pack)[subject.reading().token_class(LETTERS)])


def kept_tokens(model: LoadedModel, subject: Subject, pack: Pack) -> float:
    return float(torch.isfinite(measure.logits(subject, pack)).sum())


def repeated_logit(model: LoadedModel, subject: Subject, pack: Pack) -> float:
    return float(measure.logits(subject, pack)[40])


def logit_distance(model: LoadedModel, subject: Subject, pack: Pack) -> float:
    return float((measure.logits(subject, pack) - measure.logits(subject, measure.NONE)).norm())


def late_evidence(model: LoadedModel, subject: Subject, pack: Pack) -> float:
    """Mean of log p - log p_early over plausible tokens, as the dosed distribution weighs them."""
    generator, size = torch.Generator().manual_seed(2), subject.shape.vocabulary
    drawn = 2.0 * torch.randn(size, generator=generator)
    early = 0.5 * drawn + torch.randn(size, generator=generator)
    added = (drawn.log_softmax(-1) - early.log_softmax(-1))[plausible := drawn >= drawn.max() + math.log(0.1)]
    return float(measure.logits(subject, pack)[plausible].softmax(-1) @ added)


def obvious_tokens(model: LoadedModel, subject: Subject, pack: Pack) -> float:
    """How many of two obvious tokens are left, over many streams."""
    streams, rows = [Stream(3, f"xtc{i}") for i in range(200)], 200
    z = torch.zeros(rows, subject.shape.vocabulary)
    z[:, :3] = torch.tensor([8.0, 7.0, 6.5])
    nothing = torch.full((rows, 1), -1)
    edited = bind([pack] * rows, streams, subject).edit_logits(z, torch.arange(rows), nothing, nothing)
    return float(torch.isfinite(edited[:, :3]).double().mean())


def softmax(z: Array) -> Array:
    mass = np.exp(z - z.max())
    return mass / mass.sum()


def spread(p: Array) -> float:
    """The entropy of a distribution, in nats."""
    return -sum(float(share) * math.log(share) for share in p if share > 0)


def only(z: Array, kept: list[bool]) -> Array:
    return np.array([value if keep else -np.inf for value, keep in zip(z, kept, strict=True)])


def temperature(effect, z: Array, dose: float, spot: Spot) -> Array:
    return np.array([value / effect.span**dose for value in z])


def pulsed_sampler(effect, z: Array, dose: float, spot: Spot) -> Array:
    inside = spot.index % effect.interval < effect.duration
    return np.array([value / (1 - effect.reach * dose) if inside else value for value in z])


def temperature_ramp(effect, z: Array, dose: float, spot: Spot) -> Array:
    share = min(1.0, spot.index / effect.rise)
    return np.array([value / effect.span ** (dose * share) for value in z])


def temperature_wave(effect, z: Array, dose: float, spot: Spot) -> Array:
    height = math.sin(2 * math.pi * spot.index / effect.period)
    return np.array([value / effect.span ** (dose * height) for value in z])


def entropy_adaptive_temperature(effect, z: Array, dose: float, spot: Spot) -> Array:
    sureness = effect.half / (spread(softmax(z.astype(float))) + effect.half)
    return np.array([value / (1 / effect.span) ** (dose * sureness) for value in z])


def token_class_temperature(effect, z: Array, dose: float, spot: Spot) -> Array:
    members = np.flatnonzero(spot.subject.reading().token_class(effect.tokens).numpy())
    p, heat = softmax(z.astype(float)), effect.span**dose
    hot = {token: p[token] ** (1 / heat) for token in members}
    mass = sum(p[token] for token in members) / sum(hot.values())
    unnormalised = np.log(np.exp(z.astype(float)).sum())
    return np.array([math.log(hot[t] * mass) + unnormalised if t in hot else value for t, value in enumerate(z)])


def top_p(effect, z: Array, dose: float, spot: Spot) -> Array:
    p, kept, mass = softmax(z.astype(float)), np.full_like(z, -np.inf), 0.0
    for token in np.argsort(-z, kind="stable"):
        if mass >= 1 + effect.reach * dose:
            break
        kept[token], mass = z[token], mass + p[token]
    return kept


def typical_p(effect, z: Array, dose: float, spot: Spot) -> Array:
    p, kept, mass = softmax(z.astype(float)), np.full_like(z, -np.inf), 0.0
    expected = spread(p)
    for token in sorted(range(len(z)), key=lambda token: abs(-math.log(p[token]) - expected)):
        if mass >= 1 - effect.reach * dose:
            break
        kept[token], mass = z[token], mass + p[token]
    return kept


def top_k(effect, z: Array, dose: float, spot: Spot) -> Array:
    count = round(math.exp((1 - dose) * math.log(len(z)) + dose * math.log(effect.size)))
    return only(z, [sum(other > value for other in z) < count for value in z])


def min_p(effect, z: Array, dose: float, spot: Spot) -> Array:
    p = softmax(z.astype(float))
    return only(z, [share >= effect.share * dose * max(p) for share in p])


def eta_cutoff(effect, z: Array, dose: float, spot: Spot) -> Array:
    p, epsilon = softmax(z.astype(float)), effect.epsilon * dose
    eta = min(epsilon, math.sqrt(epsilon) * math.exp(-spread(p)))
    return only(z, [share >= eta or share == max(p) for share in p])


def top_n_sigma(effect, z: Array, dose: float, spot: Spot) -> Array:
    floor = max(z) - effect.sigmas / dose * np.std(z.astype(float))
    return only(z, [value >= floor for value in z])


def repetition_penalty(effect, z: Array, dose: float, spot: Spot) -> Array:
    seen = spot.prompt + spot.history
    return np.array([value - effect.span * dose * seen.count(token) for token, value in enumerate(z)])


def frequency_penalty(effect, z: Array, dose: float, spot: Spot) -> Array:
    return np.array([value - effect.span * dose * spot.history.count(token) for token, value in enumerate(z)])


def presence_penalty(effect, z: Array, dose: float, spot: Spot) -> Array:
    return np.array([value - effect.span * dose * (token in spot.history) for token, value in enumerate(z)])


def contrastive_decoding(effect, z: Array, dose: float, spot: Spot) -> Array:
    p, edited = softmax(z.astype(float)), z.copy()
    (early,) = (softmax(read.astype(float)) for read in spot.early.values())
    for token in range(len(z)):
        if p[token] >= effect.plausible * max(p):
            edited[token] += dose * (math.log(p[token]) - math.log(early[token]))
    return edited


def logit_noise(effect, z: Array, dose: float, spot: Spot) -> Array:
    drawn = normals((spot.stream,), "logit_noise", torch.tensor([[spot.index]]), len(z))[0, 0].tolist()
    return np.array([value + effect.span * dose * e for value, e in zip(z, drawn, strict=True)])


def random_logit_bias(effect, z: Array, dose: float, spot: Spot) -> Array:
    drawn = normals((spot.stream,), "random_logit_bias", torch.tensor([[0]]), len(z))[0, 0].tolist()
    return np.array([value + effect.span * dose * e for value, e in zip(z, drawn, strict=True)])


def exclude_top_choices(effect, z: Array, dose: float, spot: Spot) -> Array:
    p = softmax(z.astype(float))
    drawn = float(uniforms((spot.stream,), "exclude_top_choices", torch.tensor([[spot.index]]), 1))
    obvious = sorted(share for share in p if share >= effect.threshold)
    if drawn >= effect.rate * dose or not obvious:
        return z
    return only(z, [share <= obvious[0] for share in p])


EXAMPLES: dict[str, dict[str, object]] = {
    "exclude_top_choices": {"threshold": 0.02},  # random models rarely have two tokens at 0.1
    "token_class_temperature": {"tokens": LETTERS},
}
OBSERVABLES = {
    "class_entropy": class_entropy,
    "entropy": entropy,
    "entropy_swing": entropy_swing,
    "kept_tokens": kept_tokens,
    "late_entropy": late_entropy,
    "late_evidence": late_evidence,
    "logit_distance": logit_distance,
    "obvious_tokens": obvious_tokens,
    "repeated_logit": repeated_logit,
}
TWINS = {
    "contrastive_decoding": contrastive_decoding,
    "entropy_adaptive_temperature": entropy_adaptive_temperature,
    "eta_cutoff": eta_cutoff,
    "exclude_top_choices": exclude_top_choices,
    "frequency_penalty": frequency_penalty,
    "logit_noise": logit_noise,
    "min_p": min_p,
    "presence_penalty": presence_penalty,
    "pulsed_sampler": pulsed_sampler,
    "random_logit_bias": random_logit_bias,
    "repetition_penalty": repetition_penalty,
    "temperature": temperature,
    "temperature_ramp": temperature_ramp,
    "temperature_wave": temperature_wave,
    "token_class_temperature": token_class_temperature,
    "top_k": top_k,
    "top_n_sigma": top_n_sigma,
    "top_p": top_p,
    "typical_p": typical_p,
}
