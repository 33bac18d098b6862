"""Assembling a subject: what of the calibration a set of packs needs, each part from the cache where it is there."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from neuromod_core.calibrate.activations import mean_after, opening, stream_norms, streams, tokens_of
from neuromod_core.calibrate.contrast import load_contrast
from neuromod_core.calibrate.heads import THRESHOLD, induction_scores, split_half
from neuromod_core.calibrate.keep import Cache
from neuromod_core.calibrate.vectors import Card, fit
from neuromod_core.effects import Shape, Subject, Vector
from neuromod_core.effects.sampler.bias import StyleBias
from neuromod_core.effects.steering.add import Steering
from neuromod_core.kernel.errors import CalibrationError
from neuromod_core.kernel.types import digest, plain
from neuromod_core.models import LoadedModel
from neuromod_core.packs import Pack

METHOD = 1  # of extraction; raise it when the numbers change


@dataclass(frozen=True)
class Request:
    """What to calibrate: concepts and word lists by name, and where their texts are."""

    concepts: tuple[str, ...]
    lexicons: tuple[str, ...]
    contrast: Path
    lexicon: Path
    neutral: tuple[str, ...]

    @staticmethod
    def names(packs: Sequence[Pack]) -> tuple[tuple[str, ...], tuple[str, ...]]:
        """Return the concepts and word lists that packs ask for."""
        effects = [item.effect for pack in packs for item in pack.effects]
        concepts = {effect.steering_type for effect in effects if isinstance(effect, Steering)}
        words = {effect.bias_type for effect in effects if isinstance(effect, StyleBias)}
        return tuple(sorted(concepts)), tuple(sorted(words))


@dataclass(frozen=True, eq=False)
class Calibration:
    """A subject with the evidence for it.

    cards: one per vector.  induction: (depth, heads) prefix-matching scores.  reliability: their split-half r.
    """

    subject: Subject
    cards: tuple[Card, ...]
    induction: Tensor
    reliability: float
    fingerprint: str


# Each part is read back after it is written, so that a fresh calibration and a kept one are the same bits.


def _norms(model: LoadedModel, request: Request, cache: Cache) -> Tensor:
    key = digest(["norms", METHOD, model.fingerprint, list(request.neutral)])
    if (kept := cache.read(key)) is None:
        norms = stream_norms(model, [tokens_of(model, text) for text in request.neutral])
        cache.write(key, {"norms": norms.numpy()}, {})
        return _norms(model, request, cache)
    return torch.from_numpy(kept[0]["norms"])


def _vector(model: LoadedModel, concept: str, request: Request, cache: Cache) -> tuple[Card, Tensor]:
    pairs = load_contrast(request.contrast, concept)
    key = digest(["vector", METHOD, model.fingerprint, concept, plain(pairs)])
    if (kept := cache.read(key)) is None:
        head = opening(model)
        texts = [head + tokens_of(model, text) for pair in pairs for text in (pair.positive, pair.negative)]
        states = streams(model, texts, mean_after(len(head))).numpy()
        card, vector = fit(concept, states.reshape(len(pairs), 2, *states.shape[1:]), [pair.topic for pair in pairs])
        facts = plain(card)
        if not isinstance(facts, dict):
            raise TypeError("a card is a mapping")
        cache.write(key, {"vector": vector.astype(np.float32)}, facts)
        return _vector(model, concept, request, cache)
    return Card(**kept[1]), torch.from_numpy(kept[0]["vector"])  # type: ignore[arg-type]


def _induction(model: LoadedModel, cache: Cache) -> Tensor:
    key = digest(["induction", METHOD, model.fingerprint])
    if (kept := cache.read(key)) is None:
        scores = induction_scores(model)
        cache.write(key, {"scores": scores.contiguous().numpy()}, {})
        return _induction(model, cache)
    return torch.from_numpy(kept[0]["scores"])


def _lexicon(model: LoadedModel, folder: Path, name: str) -> Tensor:
    path = folder / f"{name}.txt"
    if not path.is_file():
        raise CalibrationError(f"There is no word list {name!r} in {folder.name}.")
    words = [line.strip() for line in path.read_text(encoding="utf-8").splitlines() if line.strip() and line[0] != "#"]
    tokens = [tokens_of(model, f" {word}") for word in words]
    single = sorted({token[0] for token in tokens if len(token) == 1})
    if not single:
        raise CalibrationError(f"No word of list {name!r} is a single token of {model.name}.")
    return torch.tensor(single)


def shape_of(model: LoadedModel) -> Shape:
    """Return the counts that effects need of a model."""
    return Shape(
        depth=model.depth,
        heads=model.heads,
        width=model.width,
        vocabulary=model.vocabulary,
        kv_heads=model.kv_heads,
        experts=model.experts,
        chosen=model.chosen_experts,
        attention=model.anatomy.attention,
    )


def calibrate(
    model: LoadedModel, request: Request, cache: Cache, *, tick: Callable[[str], None] = lambda _: None
) -> Calibration:
    """Return the calibration of `model` that `request` asks for; `tick` is told what is done next.

    Raises:
        CalibrationError, UnknownName: for contrast sets or word lists that are missing or malformed.
    """
    tick("residual stream norms")
    norms = _norms(model, request, cache)
    fitted = []
    for concept in request.concepts:
        tick(f"vector: {concept}")
        fitted.append(_vector(model, concept, request, cache))
    tick("induction heads")
    scores = _induction(model, cache)
    vectors = {
        card.concept: Vector(card.concept, card.layer, vector, float(norms[card.layer]), card.valid)
        for card, vector in fitted
    }
    subject = Subject(
        name=model.name,
        shape=shape_of(model),
        vectors=vectors,
        head_sets={"induction": scores.mean(-1) >= THRESHOLD},
        lexicons={name: _lexicon(model, request.lexicon, name) for name in request.lexicons},
        stream_norms=norms,
        reader=model,
    )
    cards = tuple(card for card, _ in fitted)
    contents = [norms.tolist(), [vector.tolist() for _, vector in fitted], plain(cards), scores.mean(-1).tolist()]
    return Calibration(
        subject, cards, scores.mean(-1), split_half(scores), digest([METHOD, model.fingerprint, contents])
    )
