"""The likelihood of clustered outcomes with the random effects integrated out.

One grouping factor: adaptive Gauss-Hermite quadrature per level.  Several: Laplace's approximation over all at once.
Source: Pinheiro & Bates 1995, J Comput Graph Stat 4:12;  Tierney & Kadane 1986, JASA 81:82.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import NamedTuple, Protocol

import numpy as np
from numpy.polynomial.hermite import hermgauss
from scipy import sparse
from scipy.linalg import cho_factor, cho_solve

from neuromod_core.kernel.errors import DataError
from neuromod_core.stats.mixed.design import IntArray, Term
from neuromod_core.stats.mixed.likelihood import RowLikelihood
from neuromod_core.stats.sample import FloatArray

ROUNDS, HALVINGS = 100, 30
TOLERANCE = 1e-9  # of a mode, in standard deviations of the random effect


class Marginal(NamedTuple):
    """Log likelihood, and the modes of the spherical random effects: where the next search for them starts."""

    value: float
    modes: FloatArray


class Integral(Protocol):
    """The marginal log likelihood as a function of predictors and covariance factors."""

    def start(self) -> FloatArray:
        """Return modes to start from."""

    def over(self, rows: RowLikelihood, eta: FloatArray, factors: Sequence[FloatArray], modes: FloatArray) -> Marginal:
        """Return the integral at fixed predictors (rows,) and one lower triangular factor per term."""


@dataclass(frozen=True)
class Clustered:
    """Levels of one grouping factor, which stand together in the rows: level g begins at `starts[g]`.

    columns: (rows, k).  points: per dimension.
    """

    columns: FloatArray
    codes: IntArray
    starts: IntArray
    points: int

    def start(self) -> FloatArray:
        """Return (levels, k) zeros."""
        return np.zeros((len(self.starts), self.columns.shape[1]))

    def over(self, rows: RowLikelihood, eta: FloatArray, factors: Sequence[FloatArray], modes: FloatArray) -> Marginal:
        """Return the sum over levels of the log of the integral over N(0, I).

        Formula:  integral = pi^(-k/2) |C| sum_j w_j exp(|x_j|^2 + l(u_j) - |u_j|^2 / 2),  u_j = mode + sqrt(2) C x_j,
        C C' = -[Hessian of l - |u|^2 / 2]^-1 at the mode.
        """
        seen = self.columns @ factors[0]
        modes, curvature = self._modes(rows, eta, seen, modes)
        spread = np.linalg.cholesky(np.linalg.inv(curvature))
        nodes, weights = _grid(self.points, modes.shape[1])
        at = modes + math.sqrt(2) * np.einsum("gab,jb->jga", spread, nodes)  # (nodes, levels, k)
        heights = self._heights(rows, eta, seen, at) + (np.log(weights) + (nodes**2).sum(1))[:, None]
        top = heights.max(axis=0)
        logs = top + np.log(np.exp(heights - top).sum(axis=0)) + np.log(np.linalg.det(spread))
        return Marginal(float(logs.sum()) - modes.size / 2 * math.log(math.pi), modes)

    def _heights(self, rows: RowLikelihood, eta: FloatArray, seen: FloatArray, at: FloatArray) -> FloatArray:
        """Return l(u) - |u|^2 / 2 per level at (nodes, levels, k) effects."""
        predictors = eta + sum(at[:, self.codes, a] * seen[:, a] for a in range(seen.shape[1]))
        return np.asarray(np.add.reduceat(rows.value(predictors), self.starts, axis=1) - (at**2).sum(2) / 2)

    def _modes(
        self, rows: RowLikelihood, eta: FloatArray, seen: FloatArray, modes: FloatArray
    ) -> tuple[FloatArray, FloatArray]:
        """Return the mode of each level and minus the Hessian there, by Newton steps that never lead down."""
        squares = np.einsum("ra,rb->rab", seen, seen)
        height = self._heights(rows, eta, seen, modes[None])[0]
        for _ in range(ROUNDS):
            first, second = rows.derivatives(eta + (seen * modes[self.codes]).sum(1))
            gradient = np.add.reduceat(first[:, None] * seen, self.starts, axis=0) - modes
            curvature = np.eye(modes.shape[1]) - np.add.reduceat(second[:, None, None] * squares, self.starts, axis=0)
            step = np.linalg.solve(curvature, gradient[..., None])[..., 0]
            if np.abs(step).max() < TOLERANCE:
                return modes, curvature
            for _ in range(HALVINGS):
                reached = self._heights(rows, eta, seen, (modes + step)[None])[0]
                worse = reached < height - 1e-9 * (1 + np.abs(height))
                if not worse.any():
                    break
                step[worse] /= 2
            modes, height = modes + step, reached
        raise DataError("The mode of a random effect was not found: the predictors or their variances run away.")


def clustered(term: Term, points: int) -> Clustered:
    """Return the levels of a term whose rows are sorted by level."""
    starts = np.flatnonzero(np.diff(term.codes, prepend=-1))
    return Clustered(term.columns, term.codes, starts, points)


@lru_cache(maxsize=64)
def _grid(points: int, k: int) -> tuple[FloatArray, FloatArray]:
    """Return (points^k, k) nodes and (points^k,) weights for the weight function exp(-|x|^2)."""
    nodes, weights = hermgauss(points)
    grid = np.stack(np.meshgrid(*[nodes] * k, indexing="ij"), axis=-1).reshape(-1, k)
    each = np.stack(np.meshgrid(*[weights] * k, indexing="ij"), axis=-1).reshape(-1, k)
    return grid, each.prod(axis=1)


@dataclass(frozen=True)
class Crossed:
    """Several terms at once, whose effects stand level by level, one term after another.

    columns: (rows, k) of each term.  places: (rows, sum of k), the effect that each column belongs to.  count: q.
    """

    columns: tuple[FloatArray, ...]
    places: IntArray
    count: int

    def design(self, factors: Sequence[FloatArray]) -> sparse.csr_array:
        """Return Z Lambda, (rows, q)."""
        parts = [columns @ factor for columns, factor in zip(self.columns, factors, strict=True)]
        rows, width = self.places.shape
        ends = np.arange(0, rows * width + 1, width)
        return sparse.csr_array((np.hstack(parts).ravel(), self.places.ravel(), ends), shape=(rows, self.count))

    def start(self) -> FloatArray:
        """Return (q,) zeros."""
        return np.zeros(self.count)

    def over(self, rows: RowLikelihood, eta: FloatArray, factors: Sequence[FloatArray], modes: FloatArray) -> Marginal:
        """Return Laplace's approximation:  l(mode) - |mode|^2 / 2 - log|I + Lambda'Z'WZ Lambda| / 2."""
        seen = self.design(factors)
        turned = seen.T.tocsr()
        height = float(rows.value(eta + seen @ modes).sum() - modes @ modes / 2)
        for _ in range(ROUNDS):
            first, second = rows.derivatives(eta + seen @ modes)
            inner = (turned @ sparse.diags_array(-second) @ seen).toarray() + np.eye(len(modes))
            root = cho_factor(inner, lower=True)
            step = cho_solve(root, turned @ first - modes)
            if np.abs(step).max() < TOLERANCE:
                return Marginal(height - float(np.log(np.diag(root[0])).sum()), modes)
            for _ in range(HALVINGS):
                reached = float(rows.value(eta + seen @ (modes + step)).sum() - ((modes + step) ** 2).sum() / 2)
                if reached >= height - 1e-9 * (1 + abs(height)):
                    break
                step = step / 2
            modes, height = modes + step, reached
        raise DataError("The modes of the random effects were not found: the predictors or variances run away.")


def crossed(terms: Sequence[Term]) -> Crossed:
    """Return the terms as one sparse design."""
    places, start = [], 0
    for term in terms:
        k = len(term.names)
        places.append(start + term.codes[:, None] * k + np.arange(k))
        start += term.levels * k
    return Crossed(tuple(term.columns for term in terms), np.hstack(places), start)
