"""Does a direction separate the two poles on topics it was not made from? Every figure here is cross-fitted.

Let s_k be the sum over the pairs of topic k of the differences D_i = h+_i - h-_i. The mean-difference vector that
judges topic k is  v_-k ~ sum over m != k of s_m. Everything follows from inner products: of states with the s_k, and of
the s_k with each other (the Gram matrix). So do sign flips: swapping the poles of all pairs of topic k turns s_k to
-s_k, and nothing else has to be computed again.

d' = (mean z+ - mean z-) / sqrt((var z+ + var z-) / 2) of the projections z. The test asks whether topics agree more
than chance: T(e) = max over layers of d' (or of the area under the curve) after flipping topics by e in {-1, 1}^K. Both
statistics are the same at e and -e, so that 2^(K-1) flips are all there are; the maximum pays for choosing a layer.

Sources: Tan et al. 2024 and Braun et al. 2025 (why generalisation must be tested); Westfall & Young 1993 (maximum
statistic); Winkler et al. 2015 (permutation with exchangeability blocks); Varma & Simon 2006 (nested choices).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from neuromod_core.calibrate.methods import Array, Method, unit
from neuromod_core.calibrate.wording import auc
from neuromod_core.kernel.errors import CalibrationError
from neuromod_core.kernel.rng import rng

ALPHA = 0.01
EXACT_TOPICS, DRAWS = 12, 4096  # up to so many topics all flips are counted; beyond, so many are drawn
CHUNK = 64  # flips held at once
Numbers = NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class Products:
    """The inner products of a contrast set at some layers.

    states: (pairs, 2, layers, topics) of states with the topic sums.  gram: (layers, topics, topics) of these with each
    other.  topics: (pairs,) topic numbers.
    """

    states: Array
    gram: Array
    topics: Numbers


def products(states: Array, topics: Numbers) -> Products:
    """Return the inner products of states (pairs, 2, layers, width); positive pole first."""
    differences = states[:, 0] - states[:, 1]
    sums = np.stack([differences[topics == topic].sum(0) for topic in range(int(topics.max()) + 1)])
    by_layer = np.moveaxis(sums, 0, 1)
    return Products(
        states=np.einsum("pslw,klw->pslk", states, sums, optimize=True),
        gram=by_layer @ np.swapaxes(by_layer, 1, 2),
        topics=topics,
    )


def flips(topics: int, *names: str) -> Array:
    """Return sign vectors (flips, topics), one of each pair e, -e; the first is all +1.

    All 2^(topics - 1) up to twelve topics, 4096 drawn at random beyond.

    Raises:
        CalibrationError: when even perfect agreement could not reach p < .01 (fewer than 8 topics).
    """
    count = 2 ** (topics - 1)
    if 1 / count >= ALPHA:
        raise CalibrationError(f"{topics} topics cannot reach p < {ALPHA}: the smallest possible p is {1 / count:.3g}.")
    if topics <= EXACT_TOPICS:
        bits = (np.arange(count)[:, None] >> np.arange(topics)) & 1
        return np.asarray(1 - 2 * bits, dtype=np.float64)
    drawn = rng(0, "topic flips", *names).choice((-1.0, 1.0), size=(DRAWS, topics))
    return np.concatenate([np.ones((1, topics)), drawn])


def cross_fitted(found: Products, signs: Array, without: int | None = None) -> Array:
    """Return projections (flips, pairs, 2, layers) on the unit vectors of all topics but the pair's own.

    signs: (flips, topics). A flipped topic has its poles exchanged. `without` leaves one more topic out of all vectors.
    """
    topics = found.topics
    used = np.repeat(signs[:, None], signs.shape[1], axis=1)  # (flips, judged topic, topic)
    used[:, np.arange(signs.shape[1]), np.arange(signs.shape[1])] = 0
    if without is not None:
        used[:, :, without] = 0
    norms = np.sqrt(np.einsum("fjk,lkm,fjm->fjl", used, found.gram, used, optimize=True))
    projected = np.einsum("pslk,fpk->fpsl", found.states, used[:, topics], optimize=True)
    projected /= norms[:, topics][:, :, None, :]
    flipped = signs[:, topics] < 0
    projected[flipped] = projected[flipped][:, ::-1]
    result: Array = projected
    return result


def separation(projections: Array) -> Array:
    """Return d' (...,) of projections (..., pairs, 2, layers) for every layer: (..., layers)."""
    spread = np.sqrt(projections.var(axis=-3, ddof=1).mean(axis=-2))
    result: Array = (projections[..., 0, :] - projections[..., 1, :]).mean(axis=-2) / spread
    return result


def areas(projections: Array) -> Array:
    """Return the areas under the curve of projections (flips, pairs, 2, layers): (flips, layers)."""
    pairs = projections.shape[1]
    both = np.concatenate([projections[:, :, 0], projections[:, :, 1]], axis=1)
    ranks = both.argsort(axis=1).argsort(axis=1)[:, :pairs].sum(axis=1)
    result: Array = (ranks - pairs * (pairs - 1) / 2) / pairs**2
    return result


def pvalues(found: Products, concept: str = "") -> tuple[float, float]:
    """Return the p-values of d' and of the area under the curve, each maximised over the layers."""
    signs = flips(found.gram.shape[-1], concept)
    best = []
    for start in range(0, len(signs), CHUNK):
        projections = cross_fitted(found, signs[start : start + CHUNK])
        best.append(np.stack([separation(projections).max(-1), areas(projections).max(-1)]))
    statistics = np.concatenate(best, axis=1)
    reached = (statistics >= statistics[:, :1] - 1e-12).mean(axis=1)
    return float(reached[0]), float(reached[1])


def layer_profile(found: Products, without: int | None = None) -> Array:
    """Return the cross-fitted d' of every layer, (layers,), seeing nothing of the topic `without`."""
    ones = np.ones((1, found.gram.shape[-1]))
    projections = cross_fitted(found, ones, without)[0]
    kept = slice(None) if without is None else found.topics != without
    return separation(projections[kept])


def nested(found: Products) -> tuple[Array, tuple[int, ...]]:
    """Return scores (pairs, 2) of every topic by a vector *and a layer* that were chosen without it, and the layers.

    Scores of a topic are in units of the spread that the other topics have on their own vectors at that layer, counted
    from their middle, so that scores of different layers can be put together.
    """
    ones = np.ones((1, found.gram.shape[-1]))
    scores, layers = np.empty((len(found.topics), 2)), []
    outer = cross_fitted(found, ones)[0]
    for topic in range(found.gram.shape[-1]):
        layer = int(layer_profile(found, topic).argmax())
        rest = cross_fitted(found, ones, topic)[0][found.topics != topic][:, :, layer]
        spread = np.sqrt(rest.var(axis=0, ddof=1).mean())
        scores[found.topics == topic] = (outer[found.topics == topic][:, :, layer] - rest.mean()) / spread
        layers.append(layer)
    return scores, tuple(layers)


def judged(states: Array, topics: Numbers, method: Method, seen: Array | None = None) -> Array:
    """Return projections (pairs, 2) of states (pairs, 2, width) by `method` fitted, topic by topic, on all others.

    seen: (pairs, 2, ..., width), what the method is fitted on, when that is not the states themselves.
    """
    basis, result = states if seen is None else seen, np.empty(states.shape[:2])
    for topic in range(int(topics.max()) + 1):
        inside = topics == topic
        result[inside] = states[inside] @ method(basis[~inside])
    return result


def judged_by_shams(states: Array, topics: Numbers, signs: Array) -> Array:
    """Return d' (draws,) of vectors made from other topics' pairs with their labels swapped by signs (draws, pairs)."""
    differences = states[:, 0] - states[:, 1]
    projections = np.empty((len(signs), *states.shape[:2]))
    for topic in range(int(topics.max()) + 1):
        inside = topics == topic
        vectors = unit(signs[:, ~inside] @ differences[~inside])
        projections[:, inside] = np.einsum("psw,dw->dps", states[inside], vectors)
    result: Array = separation(projections[..., None])[:, 0]
    return result


def figures(projections: Array) -> tuple[float, float]:
    """Return d' and the area under the curve of projections (pairs, 2)."""
    return float(separation(projections[..., None])[0]), auc(projections[:, 0], projections[:, 1])
