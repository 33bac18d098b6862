"""Input effects: what they move, and their slow twins."""

from __future__ import annotations

import math

import numpy as np
import torch

from neuromod_core.effects import Stream, Subject
from neuromod_core.effects.subject import normals, uniforms
from neuromod_core.engine import Row
from neuromod_core.models import LoadedModel
from neuromod_core.packs import Pack
from tests.laws import measure
from tests.laws.twins import Array, Spot

PASSAGES = ("sun on sea", "a warm VOICE", "Old Brick", "jazz quiz")
EXAMPLES: dict[str, dict[str, object]] = {
    "retrieval_rate_modulation": {"passages": "|".join(PASSAGES), "rate": 2.0},
    "structured_prefaces": {"text": "Read slowly. "},
}
PROMPT = tuple(measure.TOKENS[0].tolist())


def embedding_distance(model: LoadedModel, subject: Subject, pack: Pack) -> float:
    there = measure.residual(model, subject, pack, -1)
    return float((there - measure.residual(model, subject, measure.NONE, -1)).norm())


def embedding_size(model: LoadedModel, subject: Subject, pack: Pack) -> float:
    return float(measure.residual(model, subject, pack, -1).norm())


def dropped_tokens(model: LoadedModel, subject: Subject, pack: Pack) -> float:
    return float((measure.residual(model, subject, pack, -1) == 0).all(-1).sum())


def read_as(subject: Subject, pack: Pack) -> tuple[int, ...]:
    return Row(PROMPT, pack, measure.STREAM).reads(subject)


def misread_tokens(model: LoadedModel, subject: Subject, pack: Pack) -> float:
    return sum(a != b for a, b in zip(PROMPT, read_as(subject, pack), strict=True))


def preface_mass(model: LoadedModel, subject: Subject, pack: Pack) -> float:
    """Attention to what stands before the prompt: none while nothing does."""
    length = len(read_as(subject, pack)) - len(PROMPT)
    return float(measure.scores(subject, pack).softmax(-1)[:, 63, :length].sum(-1).mean())


def likeness(subject: Subject, passages: list[str], prompt: tuple[int, ...]) -> list[float]:
    reader = subject.reading()
    letters = set((reader.token_class("word") | reader.token_class("continuation")).nonzero()[:, 0].tolist())
    words = [set(reader.encode(passage)) & letters for passage in passages]
    return [math.fsum(math.log(len(words) / sum(t in w for w in words)) for t in mine if t in prompt) for mine in words]


def retrieved_relevance(model: LoadedModel, subject: Subject, pack: Pack) -> float:
    """Likeness of what stands before the prompt, each passage against the median of all."""
    before, found = read_as(subject, pack)[: -len(PROMPT)], likeness(subject, list(PASSAGES), PROMPT)
    lines = "".join(subject.reading().tokenizer.decode(list(before))).splitlines()
    return sum(found[PASSAGES.index(line)] - np.median(found) for line in lines)


def embedding_noise(effect, h: Array, dose: float, spot: Spot) -> Array:
    drawn = normals((spot.stream,), "embedding_noise", torch.tensor([spot.queries]), h.shape[-1])[0].numpy()
    return np.stack([x + effect.span * dose * np.sqrt(np.mean(x**2)) * e for x, e in zip(h, drawn, strict=True)])


def embedding_gain(effect, h: Array, dose: float, spot: Spot) -> Array:
    return np.stack([effect.span**dose * x for x in h])


def token_dropout(effect, h: Array, dose: float, spot: Spot) -> Array:
    kept = []
    for position, x in zip(spot.queries, h, strict=True):
        u = float(uniforms((spot.stream,), "token_dropout", torch.tensor([[position]]), 1))
        kept.append(0 * x if 0 < position < spot.start and u < effect.rate * dose else x)
    return np.stack(kept)


def lexical_jitter(effect, prompt: tuple[int, ...], dose: float, stream: Stream, subject: Subject) -> tuple[int, ...]:
    reader, read = subject.reading(), list(prompt)
    names = ("word", "continuation", "digit", "punctuation", "space", "capital")
    classes = {name: set(reader.token_class(name).nonzero()[:, 0].tolist()) for name in names}
    vectors = reader.word_vectors().numpy().astype(float)
    for place, token in enumerate(prompt):
        u, which = uniforms((stream,), "lexical_jitter", torch.tensor([[place]]), 2)[0, 0].tolist()
        after_special = place > 0 and not any(prompt[place - 1] in members for members in classes.values())
        own = [name for name in ("word", "continuation") if token in classes[name]]
        if u < effect.rate * dose and own and not after_special:
            x, others = vectors[token], sorted(classes[own[0]] - {token})
            near = sorted(others, key=lambda o: -np.dot(x, vectors[o]) / np.linalg.norm(vectors[o]))
            read[place] = near[math.floor(which * effect.neighbours)]
    return tuple(read)


def structured_prefaces(effect, scores: Array, dose: float, spot: Spot) -> Array:
    """Its scores; that its tokens come before the prompt is what `preface_mass` sees."""
    length, seen = len(spot.subject.reading().encode(effect.text)), scores.copy()
    for column, position in enumerate(spot.keys):
        if position < length:
            seen[:, :, column] += math.log(dose)
    return seen


def retrieval_rate_modulation(
    effect, prompt: tuple[int, ...], dose: float, stream: Stream, subject: Subject
) -> tuple[int, ...]:
    passages = [passage.strip() for passage in effect.passages.split("|")]
    found = likeness(subject, passages, prompt)
    ranked = sorted(range(len(passages)), key=lambda i: (-np.sign(dose) * found[i], i))
    for i in ranked[: math.ceil(effect.rate * abs(dose))]:  # the first one ends up next to the prompt
        passage = subject.reading().encode(passages[i] + "\n")
        prompt = passage + prompt
    return prompt


OBSERVABLES = {
    "dropped_tokens": dropped_tokens,
    "embedding_distance": embedding_distance,
    "embedding_size": embedding_size,
    "misread_tokens": misread_tokens,
    "preface_mass": preface_mass,
    "retrieved_relevance": retrieved_relevance,
}
TWINS = {
    "embedding_gain": embedding_gain,
    "embedding_noise": embedding_noise,
    "lexical_jitter": lexical_jitter,
    "retrieval_rate_modulation": retrieval_rate_modulation,
    "structured_prefaces": structured_prefaces,
    "token_dropout": token_dropout,
}
