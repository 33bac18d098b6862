"""Ways to make one direction of pairs of states. All give a unit vector that points to the positive pole, but `legacy`.

With pairs i, states h+_i and h-_i (width,), differences D_i = h+_i - h-_i:

    mean_difference   v ~ mean_i D_i                                    Rimsky et al. 2024; Marks & Tegmark 2024
    pca               v ~ first right singular vector of D, not centred  (the methodology's recipe)
    logistic          v ~ weights of a logistic regression of +-D without intercept (paired data)
    lda               v ~ S^-1 mean_i D_i, S the shrunken covariance of states within a pole   Ledoit & Wolf 2004
    legacy            v ~ first component of D *centred*, of all layers stacked, sign as it falls

`pca` on differences that are not centred and PCA of states centred within their pair are one and the same: the second
matrix is that of +-D/2. Centring D takes its mean away, which is the concept; `legacy` does so because published code
does, and is here to be compared: a vector made by it never counts as valid.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from neuromod_core.kernel.register import Register

Array: TypeAlias = NDArray[np.float64]
Method: TypeAlias = Callable[[Array], Array]

LEGACY = "legacy"
METHODS: Register[Method] = Register("extraction method")


def unit(vector: Array) -> Array:
    """Return a vector divided by its norm, along its last axis."""
    result: Array = vector / np.linalg.norm(vector, axis=-1, keepdims=True)
    return result


def towards(vector: Array, differences: Array) -> Array:
    """Return the unit vector with the sign that the mean difference has along it."""
    return unit(vector) * (1.0 if differences.mean(0) @ vector >= 0 else -1.0)


@METHODS.add("mean_difference")
def mean_difference(states: Array) -> Array:
    """Return the direction of states (pairs, 2, width): the mean of the differences."""
    return unit((states[:, 0] - states[:, 1]).mean(0))


@METHODS.add("pca")
def pca(states: Array) -> Array:
    """Return the direction of states (pairs, 2, width): the first component of the differences, not centred."""
    differences = states[:, 0] - states[:, 1]
    return towards(first_component(differences)[0], differences)


@METHODS.add("logistic")
def logistic(states: Array) -> Array:
    """Return the direction of states (pairs, 2, width): weights of a ridge-penalised logistic regression of +-D."""
    from sklearn.linear_model import LogisticRegression  # here: a kept calibration is read without it

    differences = states[:, 0] - states[:, 1]
    scaled = differences / differences.std()
    both, label = np.concatenate([scaled, -scaled]), np.repeat([1, 0], len(scaled))
    fitted = LogisticRegression(C=1e-2, fit_intercept=False, max_iter=1000, tol=1e-6).fit(both, label)
    return towards(fitted.coef_[0], differences)


@METHODS.add("lda")
def lda(states: Array) -> Array:
    """Return the direction of states (pairs, 2, width): the mean difference whitened by the shrunken covariance."""
    from sklearn.covariance import ledoit_wolf

    differences = states[:, 0] - states[:, 1]
    within = (states - states.mean(0)).reshape(-1, states.shape[-1])
    covariance, _ = ledoit_wolf(within, assume_centered=True)
    return towards(np.linalg.solve(covariance, differences.mean(0)), differences)


def first_component(rows: Array) -> tuple[Array, float]:
    """Return the first right singular vector of rows (n, width), and its share of the sum of squares."""
    tall = len(rows) > rows.shape[1]
    values, vectors = np.linalg.eigh(rows.T @ rows if tall else rows @ rows.T)
    component = vectors[:, -1] if tall else vectors[:, -1] @ rows
    return component, float(values[-1] / values.sum())


@METHODS.add(LEGACY)
def legacy(states: Array) -> Array:
    """Return one direction for all layers of states (pairs, 2, layers, width), as published code makes it.

    First component of the centred differences of all layers stacked. The sign is whatever the decomposition gives; here
    it makes the largest component positive, so that it is the same on every machine: it says nothing of the concept.
    Source: neuromod-llm-poc (2026), in its own words a principal component of differences.
    """
    stacked = (states[:, 0] - states[:, 1]).reshape(-1, states.shape[-1])
    component, _ = first_component(stacked - stacked.mean(0))
    return unit(component) * float(np.sign(component[np.abs(component).argmax()]))
