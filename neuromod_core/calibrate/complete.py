"""A whole calibration with all its evidence: every concept's vector, what it does, and how it meets the others.

Parts are kept as they are made, so that an interrupted calibration goes on where it stood and a finished one is read.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Protocol

import numpy as np

from neuromod_core.calibrate.activations import opening, tokens_of
from neuromod_core.calibrate.causal import MATCHED_ON, PAIRS, Causal, HeldOut, causal
from neuromod_core.calibrate.contrast import Pair, load_contrast, topics_of
from neuromod_core.calibrate.keep import Cache
from neuromod_core.calibrate.methods import Array
from neuromod_core.calibrate.subject import (
    METHOD,
    Calibration,
    Request,
    calibrated,
    causal_key,
    facts_of,
    kept_causal,
    observed,
    vector,
    vector_key,
)
from neuromod_core.calibrate.units import Opener, passages
from neuromod_core.calibrate.validate import separation
from neuromod_core.calibrate.vectors import Card, Direction, middle
from neuromod_core.kernel.types import digest
from neuromod_core.models import LoadedModel

Tokens = Sequence[int]


class Progress(Protocol):
    """What long work tells: a new stage with its number of steps, and one step done."""

    def stage(self, name: str, total: int) -> None:
        """Begin a stage of `total` steps."""

    def tick(self) -> None:
        """One step is done."""


@dataclass(frozen=True, eq=False)
class Evidence:
    """Cards and directions by concept, and how every vector separates the pairs of every set.

    specificity: (vectors, sets) d', each set judged, topic by topic, by the vector made without that topic.
    """

    cards: tuple[Card, ...]
    directions: tuple[Direction, ...]
    specificity: Array


def _keys(model: LoadedModel, request: Request) -> list[str]:
    return [
        vector_key(model, load_contrast(request.contrast, concept), concept, request) for concept in request.concepts
    ]


def extract(
    model: LoadedModel, request: Request, cache: Cache, progress: Progress
) -> tuple[list[tuple[Card, Direction]], Array]:
    """Return card and direction of every concept, and the specificity matrix; read no text where all is kept."""
    keys = _keys(model, request)
    key = digest(["specificity", METHOD, keys])
    kept = cache.read("specificity", key)
    if kept is not None and all(
        cache.find(f"vector-{name}", one) for name, one in zip(request.concepts, keys, strict=True)
    ):
        found = [vector(model, concept, request, cache) for concept in request.concepts]
        return found, np.asarray(kept[0]["separation"], dtype=np.float64)
    progress.stage("extraction: all concepts, all layers", len(request.concepts))
    fitted: list[tuple[Card, Direction]] = []
    seen: list[tuple[tuple[Pair, ...], Array]] = []
    for concept in request.concepts:
        pairs = load_contrast(request.contrast, concept)
        states = observed(model, pairs)
        fitted.append(vector(model, concept, request, cache, states))
        seen.append((pairs, np.asarray(states[request.position][:, :, middle(model.depth)])))
        progress.tick()
    first = middle(model.depth).start
    table = [
        [crossed(made, topics_of(own), states[:, :, card.layer - first], pairs) for pairs, states in seen]
        for (card, made), (own, _) in zip(fitted, seen, strict=True)
    ]
    cache.write("specificity", key, {"separation": np.array(table)}, {"concepts": list(request.concepts)})
    return extract(model, request, cache, progress)


def crossed(made: Direction, own: Sequence[str], states: Array, pairs: Sequence[Pair]) -> float:
    """Return d' of any set's pairs on a vector; a topic on which the vector was made is judged without it.

    own: the topics of the vector, in the order of `made.without`.  states: (pairs, 2, width) at the vector's layer.
    """
    vectors = dict(zip(own, made.without, strict=True))
    judges = np.stack([vectors.get(pair.topic, made.vector) for pair in pairs])
    projected = np.einsum("psw,pw->ps", states, judges)
    return float(separation(projected[..., None])[0])


def held_out(model: LoadedModel, pairs: Sequence[Pair], count: int = PAIRS) -> list[list[tuple[Tokens, Tokens]]]:
    """Return, per topic, the first pairs as (positive, negative) tokens."""
    chosen = [[pair for pair in pairs if pair.topic == topic][:count] for topic in topics_of(pairs)]
    return [[(tokens_of(model, one.positive), tokens_of(model, one.negative)) for one in few] for few in chosen]


def check_causes(
    model: LoadedModel,
    session: Opener,
    request: Request,
    found: Sequence[tuple[Card, Direction]],
    base: Calibration,
    cache: Cache,
    progress: Progress,
) -> list[Causal]:
    """Return the causal check of every concept, from the cache where it was made."""
    missing = [card.concept for card, _ in found if kept_causal(model, card.concept, request, cache) is None]
    if missing:
        progress.stage("causal checks against forty shams each", len(missing))
    texts, prompt = passages(model, request.neutral)[:MATCHED_ON], opening(model)
    for card, made in found:
        if card.concept not in missing:
            continue
        norms = base.subject.stream_norm(card.layer)
        pairs = held_out(model, load_contrast(request.contrast, card.concept))
        concept = HeldOut(calibrated(card, made, norms), made.without, made.shuffled, pairs)
        result = causal(session(), concept, prompt, texts, base.subject)
        cache.write(f"causal-{card.concept}", causal_key(model, card.concept, request), {}, facts_of(result))
        progress.tick()
    read_back = [kept_causal(model, card.concept, request, cache) for card, _ in found]
    return [result for result in read_back if result is not None]


def complete(
    model: LoadedModel, session: Opener, request: Request, base: Calibration, cache: Cache, progress: Progress
) -> Evidence:
    """Return every concept of `request` with all its evidence.

    session: opens the engine, and is called only where something has to be measured.
    base: the model's calibration without concepts (stream norms).

    Raises:
        CalibrationError, UnknownName: for contrast sets that are missing or malformed.
    """
    found, specificity = extract(model, request, cache, progress)
    causes = check_causes(model, session, request, found, base, cache, progress)
    cards = [replace(card, causal=cause) for (card, _), cause in zip(found, causes, strict=True)]
    return Evidence(tuple(cards), tuple(made for _, made in found), specificity)
