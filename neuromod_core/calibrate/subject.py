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
from neuromod_core.calibrate.heads import THRESHOLD, head_scores, split_half
from neuromod_core.calibrate.keep import Cache
from neuromod_core.calibrate.vectors import Card, Direction, fit
from neuromod_core.effects import Shape, Subject, Vector
from neuromod_core.kernel.errors import CalibrationError
from neuromod_core.kernel.types import digest, plain
from neuromod_core.models import LoadedModel
from neuromod_core.packs import Pack

METHOD = 2  # of extraction; raise it when the numbers change


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
        concepts = {name for effect in effects for name in effect.needs_vectors}
        words = {name for effect in effects for name in effect.needs_lexicons}
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


def _vector(model: LoadedModel, concept: str, request: Request, cache: Cache) -> tuple[Card, Direction]:
    pairs = load_contrast(request.contrast, concept)
    key = digest(["vector", METHOD, model.fingerprint, concept, plain(pairs)])
    if (kept := cache.read(key)) is None:
        head = opening(model)
        texts = [head + tokens_of(model, text) for pair in pairs for text in (pair.positive, pair.negative)]
        states = streams(model, texts, mean_after(len(head))).numpy()
        card, found = fit(concept, states.reshape(len(pairs), 2, *states.shape[1:]), [pair.topic for pair in pairs])
        facts = plain(card)
        if not isinstance(facts, dict):
            raise TypeError("a card is a mapping")
        arrays = {"vector": found.vector, "shuffled": found.shuffled, "midpoint": np.array([found.midpoint])}
        cache.write(key, {name: array.astype(np.float32) for name, array in arrays.items()}, facts)
        return _vector(model, concept, request, cache)
    parts, facts = kept
    return Card(**facts), Direction(parts["vector"], parts["shuffled"], float(parts["midpoint"][0]))  # type: ignore[arg-type]


def _heads(model: LoadedModel, cache: Cache) -> dict[str, Tensor]:
    key = digest(["heads", METHOD, model.fingerprint])
    if (kept := cache.read(key)) is None:
        scores = {name: found.contiguous().numpy() for name, found in head_scores(model).items()}
        cache.write(key, scores, {})
        return _heads(model, cache)
    return {name: torch.from_numpy(scores) for name, scores in sorted(kept[0].items())}


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


def _calibrated(card: Card, found: Direction, stream_norm: float) -> Vector:
    return Vector(
        name=card.concept,
        layer=card.layer,
        direction=torch.from_numpy(found.vector),
        stream_norm=stream_norm,
        valid=card.valid,
        midpoint=found.midpoint,
        shuffled=torch.from_numpy(found.shuffled),
    )


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
    tick("head sets")
    heads = _heads(model, cache)
    subject = Subject(
        name=model.name,
        shape=shape_of(model),
        vectors={card.concept: _calibrated(card, found, float(norms[card.layer])) for card, found in fitted},
        head_sets={name: scores.mean(-1) >= THRESHOLD for name, scores in heads.items()},
        lexicons={name: _lexicon(model, request.lexicon, name) for name in request.lexicons},
        stream_norms=norms,
        reader=model,
    )
    cards, induction = tuple(card for card, _ in fitted), heads["induction"]
    vectors = [[found.vector.tolist(), found.shuffled.tolist(), found.midpoint] for _, found in fitted]
    means = {name: scores.mean(-1).tolist() for name, scores in heads.items()}
    contents = [norms.tolist(), vectors, plain(cards), means]
    return Calibration(
        subject, cards, induction.mean(-1), split_half(induction), digest([METHOD, model.fingerprint, contents])
    )
