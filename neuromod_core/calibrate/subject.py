"""Assembling a subject: what of the calibration a set of packs needs, each part from the cache where it is there."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from pydantic import TypeAdapter
from torch import Tensor

from neuromod_core.calibrate.activations import mean_and_last, opening, stream_norms, streams, tokens_of
from neuromod_core.calibrate.causal import MATCHED_ON, PAIRS, SHAMS, Causal
from neuromod_core.calibrate.contrast import Pair, load_contrast
from neuromod_core.calibrate.heads import THRESHOLD, head_scores, split_half
from neuromod_core.calibrate.keep import Cache
from neuromod_core.calibrate.methods import Array
from neuromod_core.calibrate.vectors import DEFAULT, MEAN, POSITIONS, Card, Direction, Position, fit
from neuromod_core.effects import Shape, Subject, Vector
from neuromod_core.kernel.errors import CalibrationError
from neuromod_core.kernel.types import Json, digest, plain
from neuromod_core.models import LoadedModel
from neuromod_core.packs import Pack

METHOD = 3  # of extraction; raise it when the numbers change
PARTS = ("vectors", "vector", "shuffled", "without")  # arrays of a direction


@dataclass(frozen=True)
class Request:
    """What to calibrate: concepts and word lists by name, and where their texts are.

    method: how a direction is made of pairs.  position: where a sentence is read.
    """

    concepts: tuple[str, ...]
    lexicons: tuple[str, ...]
    contrast: Path
    lexicon: Path
    neutral: tuple[str, ...]
    method: str = DEFAULT
    position: Position = MEAN

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

    @property
    def refused(self) -> tuple[str, ...]:
        """The vectors that failed their validation."""
        return tuple(card.concept for card in self.cards if not card.valid)

    def admitting(self) -> Calibration:
        """Return the calibration with every vector admitted, also those that failed; whoever uses it has to say so."""
        vectors = {name: replace(one, valid=True) for name, one in self.subject.vectors.items()}
        return replace(self, subject=replace(self.subject, vectors=vectors))


# Each part is read back after it is written, so that a fresh calibration and a kept one are the same bits.


def _norms(model: LoadedModel, request: Request, cache: Cache) -> Tensor:
    key = digest(["norms", METHOD, model.fingerprint, list(request.neutral)])
    if (kept := cache.read("norms", key)) is None:
        norms = stream_norms(model, [tokens_of(model, text) for text in request.neutral])
        cache.write("norms", key, {"norms": norms.numpy()}, {})
        return _norms(model, request, cache)
    return torch.from_numpy(kept[0]["norms"])


def observed(model: LoadedModel, pairs: Sequence[Pair]) -> Mapping[Position, Array]:
    """Return states (pairs, 2, layers, width) of pairs of sentences at every position.

    Each sentence is read as the opening of a turn of the model, whose tokens are not counted.
    """
    head = opening(model)
    texts = [head + tokens_of(model, text) for pair in pairs for text in (pair.positive, pair.negative)]
    states = streams(model, texts, mean_and_last(len(head))).numpy()
    both = states.reshape(len(pairs), 2, *states.shape[1:])
    return {position: both[..., at, :] for at, position in enumerate(POSITIONS)}


def vector_key(model: LoadedModel, pairs: Sequence[Pair], concept: str, request: Request) -> str:
    """Return the fingerprint of all that a vector depends on."""
    place = [] if request.position == MEAN else [request.position]
    return digest(["vector", METHOD, model.fingerprint, concept, request.method, plain(pairs), *place])


def vector(
    model: LoadedModel, concept: str, request: Request, cache: Cache, states: Mapping[Position, Array] | None = None
) -> tuple[Card, Direction]:
    """Return the card and the direction of a concept, from the cache where they are there.

    states: what `observed` gives, where it is known already.
    """
    pairs = load_contrast(request.contrast, concept)
    key = vector_key(model, pairs, concept, request)
    label = f"vector-{concept}"
    if (kept := cache.read(label, key)) is None:
        topics = [pair.topic for pair in pairs]
        card, found = fit(
            concept, states or observed(model, pairs), topics, method=request.method, position=request.position
        )
        arrays = {name: np.asarray(getattr(found, name), dtype=np.float32) for name in PARTS}
        cache.write(label, key, arrays | {"midpoint": np.array([found.midpoint], dtype=np.float32)}, facts_of(card))
        return vector(model, concept, request, cache)
    parts, facts = kept
    known: dict[str, Array] = {name: np.asarray(parts[name], dtype=np.float64) for name in PARTS}
    return TypeAdapter(Card).validate_python(facts), Direction(**known, midpoint=float(parts["midpoint"][0]))


def causal_key(model: LoadedModel, concept: str, request: Request) -> str:
    """Return the fingerprint of all that the causal check of a concept depends on."""
    pairs = load_contrast(request.contrast, concept)
    settings = [SHAMS, PAIRS, MATCHED_ON, list(request.neutral)]
    return digest(["causal", vector_key(model, pairs, concept, request), *settings])


def kept_causal(model: LoadedModel, concept: str, request: Request, cache: Cache) -> Causal | None:
    """Return what the causal check of a concept found, None where it was not made."""
    kept = cache.read(f"causal-{concept}", causal_key(model, concept, request))
    return None if kept is None else TypeAdapter(Causal).validate_python(kept[1])


def facts_of(value: object) -> dict[str, Json]:
    """Return a frozen value as JSON, to be kept beside arrays."""
    facts = plain(value)
    if not isinstance(facts, dict):
        raise TypeError(f"{type(value).__name__} is not a record")
    return facts


def _heads(model: LoadedModel, cache: Cache) -> dict[str, Tensor]:
    key = digest(["heads", METHOD, model.fingerprint])
    if (kept := cache.read("heads", key)) is None:
        scores = {name: found.contiguous().numpy() for name, found in head_scores(model).items()}
        cache.write("heads", key, scores, {})
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


def calibrated(card: Card, found: Direction, stream_norm: float) -> Vector:
    """Return a vector as effects use it."""
    return Vector(
        name=card.concept,
        layer=card.layer,
        direction=torch.from_numpy(found.vector.astype(np.float32)),
        stream_norm=stream_norm,
        valid=card.valid,
        midpoint=found.midpoint,
        shuffled=torch.from_numpy(found.shuffled.astype(np.float32)),
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
        card, found = vector(model, concept, request, cache)
        fitted.append((replace(card, causal=kept_causal(model, concept, request, cache)), found))
    tick("head sets")
    heads = _heads(model, cache)
    subject = Subject(
        name=model.name,
        shape=shape_of(model),
        vectors={card.concept: calibrated(card, found, float(norms[card.layer])) for card, found in fitted},
        head_sets={name: scores.mean(-1) >= THRESHOLD for name, scores in heads.items()},
        lexicons={name: _lexicon(model, request.lexicon, name) for name in request.lexicons},
        stream_norms=norms,
        reader=model,
    )
    induction = heads["induction"]
    vectors = [[card.layer, found.vector.tolist(), found.shuffled.tolist(), found.midpoint] for card, found in fitted]
    means = {name: scores.mean(-1).tolist() for name, scores in heads.items()}
    fingerprint = digest([METHOD, model.fingerprint, norms.tolist(), vectors, means])
    return Calibration(
        subject, tuple(card for card, _ in fitted), induction.mean(-1), split_half(induction), fingerprint
    )
