"""Steering vectors: difference of means, validated on topics they were not made from.

For pairs i of topic k(i) with differences D_i = h+_i - h-_i (mean over the sentence's tokens), the vector that judges
topic k is the mean of D over all other topics. A vector is valid when its topics agree more than sign flips of whole
topics let them: T(s) = max over layers of  s' G s / trace G,  G the Gram matrix of topic sums without its diagonal,
compared over all 2^topics sign vectors s.  Sources: Rimsky et al. 2024 (difference of means); Tan et al. 2024 and Braun
et al. 2025 (why generalisation must be tested); Westfall & Young 1993 (maximum statistic).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from neuromod_core.kernel.errors import CalibrationError
from neuromod_core.kernel.rng import rng

Array = NDArray[np.float64]
ALPHA = 0.01
SHUFFLES = 24  # label-shuffled shams of every vector
LAYERS = (0.3, 0.8)  # early blocks hold words, late ones the next token


@dataclass(frozen=True)
class Card:
    """What is known of a vector. All figures are of held-out topics.

    separation: d' of positive against negative sentences.  auc: of the same.  pvalue: of the topic sign-flip test.
    wrong_way: share of pairs whose difference points against the vector.  cosine: mean cosine between pair differences.
    """

    concept: str
    layer: int
    pairs: int
    topics: int
    separation: float
    auc: float
    pvalue: float
    wrong_way: float
    cosine: float

    @property
    def valid(self) -> bool:
        """Whether packs may use the vector."""
        return self.pvalue < ALPHA


def sign_vectors(count: int) -> Array:
    """Return all 2^count vectors of +-1, (2^count, count); the first is all +1."""
    bits = (np.arange(2**count)[:, None] >> np.arange(count)) & 1
    return np.asarray(1 - 2 * bits, dtype=np.float64)


def topic_pvalue(sums: Array) -> float:
    """Return the exact p-value of topic agreement, maximised over layers.

    sums: (topics, layers, width) of summed pair differences. Never below 2 / 2^topics.

    Raises:
        CalibrationError: when even perfect agreement could not reach p < .01 (fewer than 8 topics).
    """
    topics = len(sums)
    if 2 / 2**topics >= ALPHA:
        raise CalibrationError(
            f"{topics} topics cannot reach p < {ALPHA}: the smallest possible p is {2 / 2**topics:.3g}."
        )
    gram = np.einsum("klw,mlw->lkm", sums, sums)
    size = np.trace(gram, axis1=1, axis2=2)
    gram[:, np.arange(topics), np.arange(topics)] = 0
    signs = sign_vectors(topics)
    agreement = np.einsum("sk,lkm,sm->sl", signs, gram, signs, optimize=True) / size
    statistic = agreement.max(axis=1)
    return float(np.mean(statistic >= statistic[0] * (1 - 1e-12)))


def held_out(differences: Array, states: Array, topics: NDArray[np.int64]) -> Array:
    """Return projections (pairs, 2, layers) of both sentences on the unit vector made from all other topics.

    differences: (pairs, layers, width).  states: (pairs, 2, layers, width).
    """
    total, result = differences.sum(0), np.empty((len(topics), 2, differences.shape[1]))
    for topic in np.unique(topics):
        inside = topics == topic
        vector = total - differences[inside].sum(0)
        unit = vector / np.linalg.norm(vector, axis=-1, keepdims=True)
        result[inside] = np.einsum("pslw,lw->psl", states[inside], unit)
    return result


def separation(projections: Array) -> Array:
    """Return d' per layer: mean difference over the pooled standard deviation of the two poles."""
    spread = np.sqrt(projections.var(axis=0, ddof=1).mean(axis=0))
    result: Array = (projections[:, 0] - projections[:, 1]).mean(axis=0) / spread
    return result


def _auc(positive: Array, negative: Array) -> float:
    wins = (positive[:, None] > negative[None, :]).mean() + 0.5 * (positive[:, None] == negative[None, :]).mean()
    return float(wins)


def _mean_cosine(differences: Array) -> float:
    unit = differences / np.linalg.norm(differences, axis=-1, keepdims=True)
    cosines = unit @ unit.T
    return float(cosines[np.triu_indices(len(unit), 1)].mean())


def shuffled(differences: Array, concept: str) -> Array:
    """Return (draws, width) unit vectors of pair differences (pairs, width) whose labels were swapped at random.

    They have the covariance of the pairs and none of the concept: shams of the same make.
    """
    signs = rng(0, "label shuffle", concept).choice((-1.0, 1.0), size=(SHUFFLES, len(differences)))
    drawn = signs @ differences
    unit: Array = drawn / np.linalg.norm(drawn, axis=-1, keepdims=True)
    return unit


@dataclass(frozen=True)
class Direction:
    """What calibration gives of a concept: unit vector (width,), label-shuffled ones (draws, width), and the projection
    halfway between the two poles."""

    vector: Array
    shuffled: Array
    midpoint: float


def _direction(concept: str, states: Array) -> Direction:
    """Return the direction of a concept from states (pairs, 2, width) of its layer."""
    differences = states[:, 0] - states[:, 1]
    mean = differences.mean(0)
    vector = mean / np.linalg.norm(mean)
    return Direction(vector, shuffled(differences, concept), float((states @ vector).mean()))


def fit(concept: str, states: Array, topics: Sequence[str]) -> tuple[Card, Direction]:
    """Return the card and the direction of a concept.

    states: (pairs, 2, layers, width), positive first. The layer is the one of largest held-out d' within the middle of
    the model; the p-value pays for that choice, since it is maximised over the same layers.
    """
    depth = states.shape[2]
    low, high = int(LAYERS[0] * depth), max(int(LAYERS[0] * depth) + 1, int(LAYERS[1] * depth))
    middle = states[:, :, low:high].astype(np.float64)
    names, numbers = np.unique(np.asarray(topics), return_inverse=True)
    differences = middle[:, 0] - middle[:, 1]
    if not np.isfinite(differences).all():
        raise CalibrationError(f"The activations of contrast set {concept!r} are not finite.")
    projections = held_out(differences, middle, numbers)
    best = int(separation(projections).argmax())
    sums = np.stack([differences[numbers == number].sum(0) for number in range(len(names))])
    chosen = projections[:, :, best]
    card = Card(
        concept=concept,
        layer=low + best,
        pairs=len(states),
        topics=len(names),
        separation=float(separation(projections)[best]),
        auc=_auc(chosen[:, 0], chosen[:, 1]),
        pvalue=topic_pvalue(sums),
        wrong_way=float((chosen[:, 0] <= chosen[:, 1]).mean()),
        cosine=_mean_cosine(differences[:, best]),
    )
    return card, _direction(concept, middle[:, :, best])
