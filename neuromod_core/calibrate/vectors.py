"""Steering vectors: made of a contrast set, judged on topics they were not made from, kept with the evidence.

The vector of a concept is the mean difference of hidden states at one layer (`methods` has others). The layer is the
one of largest cross-fitted d'; the figures on the card choose it anew for every held-out topic (`validate.nested`), so
that the choice is not rewarded. Sources: in `methods` and `validate`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal, get_args

import numpy as np
from numpy.typing import NDArray

from neuromod_core.calibrate.causal import Causal
from neuromod_core.calibrate.methods import LEGACY, METHODS, Array, first_component, mean_difference, unit
from neuromod_core.calibrate.validate import (
    ALPHA,
    Numbers,
    Products,
    figures,
    judged,
    judged_by_shams,
    layer_profile,
    nested,
    products,
    pvalues,
    separation,
)
from neuromod_core.kernel.errors import CalibrationError
from neuromod_core.kernel.rng import rng

SHUFFLES = 24  # label-shuffled shams of every vector, and as many random ones it is compared with
LAYERS = (0.3, 0.8)  # early blocks hold words, late ones the next token
LEAST_EXPLAINED = 0.1  # of the sum of squares: the methodology's rule for a first component
DEFAULT = "mean_difference"
Position = Literal["mean", "last"]
POSITIONS: tuple[Position, ...] = get_args(Position)  # of a sentence: averaged over its tokens; at its last one
MEAN: Position = "mean"
PLACES: Mapping[Position, str] = {"mean": "mean of tokens", "last": "last token"}


@dataclass(frozen=True)
class Card:
    """What is known of a vector. All figures are of topics that it was not made from.

    separation, auc: d' of positive against negative sentences, and the area under the curve, the layer chosen anew for
    every held-out topic.  layers: those chosen, by topic.  p_separation, p_auc: of the topic sign-flip tests; they are
    those of the mean difference, on which all methods rest.
    wrong_way: share of pairs whose difference points against the vector.  cosine: mean cosine between differences.
    explained: share of the sum of squares of the differences on their first component.
    random, shuffled: 95th percentile of |d'| of directions without the concept.
    profile: cross-fitted d' of the mean difference at every layer it could be chosen from.
    others: d' and area of other methods, and of the state at the other position, at the layer of the vector.
    causal: what pushing along it does; None when that was not measured.
    """

    concept: str
    method: str
    layer: int
    pairs: int
    topics: int
    separation: float
    auc: float
    p_separation: float
    p_auc: float
    layers: tuple[int, ...]
    wrong_way: float
    cosine: float
    explained: float
    random: float
    shuffled: float
    profile: tuple[float, ...]
    others: Mapping[str, tuple[float, float]] = field(default_factory=dict)
    causal: Causal | None = None
    position: Position = MEAN

    @property
    def failures(self) -> tuple[str, ...]:
        """What speaks against the vector, one clause each; empty for a valid one."""
        found = [
            (self.method == LEGACY, "the published recipe is here to be compared"),
            (self.p_separation >= ALPHA, f"topics do not agree on d' (p = {self.p_separation:.3g})"),
            (self.p_auc >= ALPHA, f"topics do not agree on the area under the curve (p = {self.p_auc:.3g})"),
            (self.separation <= self.shuffled, "it separates no better than label-shuffled directions"),
            (
                self.causal is not None and not self.causal.passed,
                "pushing along it does no more than equally loud shams",
            ),
        ]
        return tuple(clause for failed, clause in found if failed)

    @property
    def valid(self) -> bool:
        """Whether packs may use the vector."""
        return not self.failures


@dataclass(frozen=True, eq=False)
class Direction:
    """What calibration gives of a concept.

    vectors: (layers, width) unit vectors of every layer of the model.  vector: (width,) that of the card's layer.
    shuffled: (draws, width) label-shuffled ones there.  without: (topics, width) the vector made without each topic.
    midpoint: the projection halfway between the two poles.
    """

    vectors: Array
    vector: Array
    shuffled: Array
    without: Array
    midpoint: float


def middle(depth: int) -> slice:
    """Return the layers from which a vector's layer is chosen."""
    low = int(LAYERS[0] * depth)
    return slice(low, max(low + 1, int(LAYERS[1] * depth)))


def swaps(concept: str, pairs: int) -> Array:
    """Return (draws, pairs) signs: labels of pairs swapped at random."""
    signs: NDArray[np.float64] = rng(0, "label shuffle", concept).choice((-1.0, 1.0), size=(SHUFFLES, pairs))
    return signs


def shuffled(differences: Array, concept: str) -> Array:
    """Return (draws, width) unit vectors of pair differences (pairs, width) whose labels were swapped at random.

    They have the covariance of the pairs and none of the concept: shams of the same make.
    """
    return unit(swaps(concept, len(differences)) @ differences)


def mean_cosine(differences: Array) -> float:
    """Return the mean cosine between the differences (pairs, width) of different pairs."""
    cosines = unit(differences) @ unit(differences).T
    return float(cosines[np.triu_indices(len(cosines), 1)].mean())


def _loudest_sham(projected: Array) -> float:
    return float(np.quantile(np.abs(projected), 0.95))


def _random_separation(states: Array, concept: str) -> float:
    drawn = unit(rng(0, "random comparison", concept).standard_normal((SHUFFLES, states.shape[-1])))
    return _loudest_sham(separation(states @ drawn.T))


def _seen(method: str, states: Array, layer: int) -> Array:
    """Return what a method is made of: states (pairs, 2, width) at a layer; of all layers for the published recipe."""
    return states if method == LEGACY else states[:, :, layer]


def _others(
    states: Array, topics: Numbers, layer: int, method: str, elsewhere: Mapping[str, Array]
) -> dict[str, tuple[float, float]]:
    """Return d' and area, at `layer`, of every other method, and of the default one at other positions.

    states: (pairs, 2, layers, width).  elsewhere: the same by the name of the position.
    """
    here = states[:, :, layer]
    found = {
        name: figures(judged(here, topics, other, _seen(name, states, layer)))
        for name, other in METHODS.items()
        if name != method
    }
    for name, other in elsewhere.items():
        found[name] = figures(judged(other[:, :, layer], topics, mean_difference))
    return found


def _vectors(states: Array, method: str) -> Array:
    """Return the unit vectors (layers, width) that a method makes of states (pairs, 2, layers, width)."""
    make = METHODS[method]
    if method == LEGACY:
        return np.repeat(make(states.astype(np.float64))[None], states.shape[2], axis=0)
    return np.stack([make(states[:, :, layer].astype(np.float64)) for layer in range(states.shape[2])])


def _judged(states: Array, topics: Numbers, layer: int, method: str, found: Products) -> Array:
    """Return the scores (pairs, 2) of topics that the vector was not made from, as a card reports them."""
    if method == DEFAULT:
        return nested(found)[0]
    return judged(states[:, :, layer], topics, METHODS[method], _seen(method, states, layer))


def _read(concept: str, states: Mapping[Position, Array], position: Position) -> tuple[Array, dict[str, Array]]:
    """Return the states at a position, and those elsewhere by the name of the place, as float64 of the middle layers.

    Raises:
        CalibrationError: for a position at which nothing was read, and for states that are not finite.
    """
    if position not in states:
        raise CalibrationError(f"Position {position!r} was not read; there are {', '.join(states)}.")
    if not np.isfinite(states[position]).all():
        raise CalibrationError(f"The activations of contrast set {concept!r} are not finite.")
    chosen = {at: one[:, :, middle(one.shape[2])].astype(np.float64) for at, one in states.items()}
    return chosen[position], {PLACES[at]: one for at, one in chosen.items() if at != position}


def fit(
    concept: str,
    states: Mapping[Position, Array],
    topics: Sequence[str],
    *,
    method: str = DEFAULT,
    position: Position = MEAN,
) -> tuple[Card, Direction]:
    """Return the card and the direction of a concept.

    states: (pairs, 2, layers, width) of every layer of the model, positive first, at one or more positions. The vector
    is made of those at `position`; the others are for comparison.

    Raises:
        CalibrationError: for activations that are missing or not finite, or too few topics for a test.
        UnknownName: for a method that is not registered.
    """
    make = METHODS[method]
    chosen, elsewhere = _read(concept, states, position)
    names, numbers = np.unique(np.asarray(topics), return_inverse=True)
    found, first = products(chosen, numbers), middle(states[position].shape[2]).start
    profile = layer_profile(found)
    best = int(profile.argmax())
    here, seen = chosen[:, :, best], _seen(method, chosen, best)
    differences = here[:, 0] - here[:, 1]
    scores = _judged(chosen, numbers, best, method, found)
    p_separation, p_auc = pvalues(found, concept)
    d_prime, area = figures(scores)
    card = Card(
        concept=concept,
        method=method,
        layer=first + best,
        pairs=len(here),
        topics=len(names),
        separation=d_prime,
        auc=area,
        p_separation=p_separation,
        p_auc=p_auc,
        layers=tuple(first + layer for layer in nested(found)[1]),
        wrong_way=float((scores[:, 0] <= scores[:, 1]).mean()),
        cosine=mean_cosine(differences),
        explained=first_component(differences)[1],
        random=_random_separation(here, concept),
        shuffled=_loudest_sham(judged_by_shams(here, numbers, swaps(concept, len(here)))),
        profile=tuple(profile.tolist()),
        others=_others(chosen, numbers, best, method, elsewhere),
        position=position,
    )
    vectors = _vectors(states[position], method)
    without = np.stack([make(seen[numbers != topic]) for topic in range(len(names))])
    vector = vectors[card.layer]
    return card, Direction(vectors, vector, shuffled(differences, concept), without, float((here @ vector).mean()))
