"""Objective effects: what they move, and their slow twins."""

from __future__ import annotations

import math

import numpy as np
import torch

from neuromod_core.effects import Stream, Subject
from neuromod_core.engine import Row, dosed, generate
from neuromod_core.engine.generate import Generation, undosed_logprob
from neuromod_core.models import LoadedModel
from neuromod_core.packs import Pack
from tests.laws import measure
from tests.laws.families.sampler import softmax
from tests.laws.twins import Array, Spot

PROMPTS = [tuple(measure.TOKENS[0, i : i + 20].tolist()) for i in range(6)]
OPPOSITES = {"professional": "friendly", "authoritative": "creative"}


def lexicon_mass(model: LoadedModel, subject: Subject, pack: Pack) -> float:
    return float(measure.logits(subject, pack).softmax(-1)[subject.lexicon("calm")].sum())


def persona_odds(model: LoadedModel, subject: Subject, pack: Pack) -> float:
    """Log-odds of a professional word against a friendly one."""
    z = measure.logits(subject, pack)
    return float(z[subject.lexicon("professional")].logsumexp(0) - z[subject.lexicon("friendly")].logsumexp(0))


def surprisal_taken(model: LoadedModel, subject: Subject, pack: Pack) -> float:
    """Mean surprisal, under the undosed distribution, of a token of the dosed one."""
    surprisal = -measure.logits(subject, measure.NONE).log_softmax(-1)
    return float((measure.logits(subject, pack).softmax(-1) * surprisal).sum())


def responses(model: LoadedModel, subject: Subject, pack: Pack) -> list[Generation]:
    rows = [Row(prompt, pack, Stream(3, f"w{i}")) for i, prompt in enumerate(PROMPTS)]
    with dosed(model) as session:
        return generate(session, rows, subject, tokens=10)


def own_likelihood(model: LoadedModel, subject: Subject, pack: Pack) -> float:
    """Log-likelihood per token of what was given, under the distribution it was sampled from."""
    return float(np.mean([np.mean(text.logprob) for text in responses(model, subject, pack)]))


def verified_likelihood(model: LoadedModel, subject: Subject, pack: Pack) -> float:
    """Log-likelihood per token of what was given, under the undosed model."""
    texts = [text.tokens for text in responses(model, subject, pack)]
    with torch.inference_mode(), dosed(model) as session:
        means = [undosed_logprob(session, prompt, [text], subject) for prompt, text in zip(PROMPTS, texts, strict=True)]
    return float(torch.cat(means).mean())


def style_affect_logit_bias(effect, z: Array, dose: float, spot: Spot) -> Array:
    words = set(spot.subject.lexicon(effect.bias_type).tolist())
    return np.array([value + effect.span * dose * (token in words) for token, value in enumerate(z)])


def persona_voice_constraints(effect, z: Array, dose: float, spot: Spot) -> Array:
    other = (OPPOSITES | {v: k for k, v in OPPOSITES.items()})[effect.persona]
    own, against = (spot.subject.lexicon(name).tolist() for name in (effect.persona, other))
    push = [(token in own) - effect.against * (token in against) for token in range(len(z))]
    return np.array([value + effect.span * dose * sign for value, sign in zip(z, push, strict=True)])


def risk_preference_steering(effect, z: Array, dose: float, spot: Spot) -> Array:
    surprisal = [-math.log(p) for p in softmax(z.astype(float))]
    expected = sum(math.exp(-s) * s for s in surprisal)
    rewards = [math.tanh((s - expected) / effect.width) for s in surprisal]
    return np.array([value + effect.span * dose * reward for value, reward in zip(z, rewards, strict=True)])


def verifier_guided_decoding(
    effect, own: list[float], undosed: list[float], tokens: tuple[tuple[int, ...], ...]
) -> int:
    return undosed.index(max(undosed))


def compute_at_test_scheduling(
    effect, own: list[float], undosed: list[float], tokens: tuple[tuple[int, ...], ...]
) -> int:
    return own.index(max(own))


def stop_mass(model: LoadedModel, subject: Subject, pack: Pack) -> float:
    stops = sorted(subject.reading().stop_tokens)
    return float(measure.logits(subject, pack).softmax(-1)[stops].sum())


def length_pressure(effect, z: Array, dose: float, spot: Spot) -> Array:
    stops = spot.subject.reading().stop_tokens
    return np.array([value + effect.span * dose * (token in stops) for token, value in enumerate(z)])


EXAMPLES: dict[str, dict[str, object]] = {"style_affect_logit_bias": {"bias_type": "calm"}}
OBSERVABLES = {
    "stop_mass": stop_mass,
    "lexicon_mass": lexicon_mass,
    "own_likelihood": own_likelihood,
    "persona_odds": persona_odds,
    "surprisal_taken": surprisal_taken,
    "verified_likelihood": verified_likelihood,
}
TWINS = {
    "length_pressure": length_pressure,
    "compute_at_test_scheduling": compute_at_test_scheduling,
    "persona_voice_constraints": persona_voice_constraints,
    "risk_preference_steering": risk_preference_steering,
    "style_affect_logit_bias": style_affect_logit_bias,
    "verifier_guided_decoding": verifier_guided_decoding,
}
