"""Steering vectors: made of a contrast set, judged on topics they were not made from, kept with the evidence.

The vector of a concept is the mean difference of hidden states at one layer (`methods` has others). The layer is the
one of largest cross-fitted d'; the figures on the card choose it anew for every held-out topic (`validate.nested`), so
that the choice is not rewarded. Sources: in `methods` and `validate`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from neuromod_core.calibrate.causal import Causal
from neuromod_core.calibrate.methods import METHODS, Array, first_component, legacy, mean_difference, unit
from neuromod_core.calibrate.validate import (
    ALPHA,
    Numbers,
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
    others: d' and area of other methods at the layer of the vector, and of the state at the last token.
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

    @property
    def failures(self) -> tuple[str, ...]:
        """What speaks against the vector, one clause each; empty for a valid one."""
        found = [
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


def _others(states: Array, last: Array, topics: Numbers, layer: int) -> dict[str, tuple[float, float]]:
    """Return d' and area of every other method on states (pairs, 2, layers, width) at `layer`."""
    here = states[:, :, layer]
    found = {
        name: figures(judged(here, topics, method)) for name, method in METHODS.items() if method is not mean_difference
    }
    found["last token"] = figures(judged(last[:, :, layer], topics, mean_difference))
    stacked = np.empty(states.shape[:2])
    for topic in range(int(topics.max()) + 1):
        inside = topics == topic
        stacked[inside] = here[inside] @ legacy(states[~inside])
    found["legacy"] = figures(stacked)
    return found


def fit(
    concept: str, states: Array, topics: Sequence[str], *, last: Array | None = None, method: str = DEFAULT
) -> tuple[Card, Direction]:
    """Return the card and the direction of a concept.

    states: (pairs, 2, layers, width) of every layer of the model, positive first, averaged over the sentence.
    last: the same at the last token, for comparison.

    Raises:
        CalibrationError: for activations that are not finite, or too few topics for a test.
        UnknownName: for a method that is not registered.
    """
    if not np.isfinite(states).all():
        raise CalibrationError(f"The activations of contrast set {concept!r} are not finite.")
    within, make = middle(states.shape[2]), METHODS[method]
    names, numbers = np.unique(np.asarray(topics), return_inverse=True)
    chosen = states[:, :, within].astype(np.float64)
    found = products(chosen, numbers)
    profile = layer_profile(found)
    best = int(profile.argmax())
    here = chosen[:, :, best]
    differences = here[:, 0] - here[:, 1]
    scores = nested(found)[0] if method == DEFAULT else judged(here, numbers, make)
    p_separation, p_auc = pvalues(found, concept)
    d_prime, area = figures(scores)
    card = Card(
        concept=concept,
        method=method,
        layer=within.start + best,
        pairs=len(states),
        topics=len(names),
        separation=d_prime,
        auc=area,
        p_separation=p_separation,
        p_auc=p_auc,
        layers=tuple(within.start + layer for layer in nested(found)[1]),
        wrong_way=float((scores[:, 0] <= scores[:, 1]).mean()),
        cosine=mean_cosine(differences),
        explained=first_component(differences)[1],
        random=_random_separation(here, concept),
        shuffled=_loudest_sham(judged_by_shams(here, numbers, swaps(concept, len(here)))),
        profile=tuple(profile.tolist()),
        others={} if last is None else _others(chosen, last[:, :, within].astype(np.float64), numbers, best),
    )
    vectors = np.stack([make(states[:, :, layer].astype(np.float64)) for layer in range(states.shape[2])])
    vector = vectors[card.layer]
    without = np.stack([make(here[numbers != topic]) for topic in range(len(names))])
    return card, Direction(vectors, vector, shuffled(differences, concept), without, float((here @ vector).mean()))
