"""The profiled (restricted) likelihood of a linear mixed model, from cross-products that are computed once.

Model:  y = X beta + Z u + e,  u ~ N(0, sigma^2 Lambda Lambda'),  e ~ N(0, sigma^2 I).  Lambda is block-diagonal: one
lower triangular (k, k) factor T for all levels of a term.
Source: Bates, Maechler, Bolker & Walker 2015, J Stat Softw 67(1).

Inside, the columns of X are orthonormal, those of Z have mean square 1, and y is its residual on X with mean square 1:
neither units nor an origin far away costs digits. `Products` remembers the way back.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import NamedTuple

import numpy as np
from scipy import sparse
from scipy.linalg import LinAlgError, solve_triangular

from neuromod_core.kernel.errors import DataError
from neuromod_core.stats.mixed.design import IntArray, Term
from neuromod_core.stats.sample import ROUNDING, FloatArray

Factors = Sequence[FloatArray]  # one lower triangular (k, k) matrix per term


class Block(NamedTuple):
    """Where a term stands among the q columns of Z: `levels` groups of `k` columns."""

    start: int
    levels: int
    k: int

    @property
    def span(self) -> slice:
        """Return the columns of the term."""
        return slice(self.start, self.start + self.levels * self.k)


@dataclass(frozen=True)
class Products:
    """Cross-products of Z (rows, q), orthonormal X (rows, p) and y; X'X = I, X'y = 0, y'y = rows.

    back: (p, p), coefficients of the given columns = back @ coefficients of the orthonormal ones.
    beta: (p,), least-squares coefficients of the orthonormal columns.  unit: root mean square of the residual of y.
    sizes: root mean square of each column of each term.
    lead: the block that comes first in Z: it has the most columns, and its levels do not meet each other in Z'Z.
    """

    blocks: tuple[Block, ...]
    lead: Block
    sizes: tuple[FloatArray, ...]
    zz: FloatArray
    zx: FloatArray
    zy: FloatArray
    rows: int
    back: FloatArray
    beta: FloatArray
    unit: float
    reml: bool

    @property
    def dof(self) -> int:
        """Return the rows, less the fixed effects under REML."""
        return self.rows - self.zx.shape[1] if self.reml else self.rows

    @property
    def offset(self) -> float:
        """Return what the units of X and y add to the criterion."""
        determinant = -2 * math.log(abs(np.linalg.det(self.back))) if self.reml else 0.0
        return determinant + 2 * self.dof * math.log(self.unit)


def products(x: FloatArray, y: FloatArray, terms: Sequence[Term], *, reml: bool) -> Products:
    """Return the cross-products of a design (rows, p), a response (rows,) and terms of random effects.

    Raises:
        DataError: when the fixed effects leave nothing of y, or there are not fewer random effects than rows.
    """
    rows = len(y)
    for term in terms:
        if term.levels * len(term.names) >= rows:
            raise DataError(
                f"The term {' + '.join(term.names)} | {term.group} has {term.levels * len(term.names)} random effects "
                f"for {rows} rows; fewer than rows are needed, or they cannot be told from the residual."
            )
    q, r = np.linalg.qr(x)
    beta = q.T @ y
    residual = y - q @ beta
    residual -= q @ (q.T @ residual)
    unit = float(np.linalg.norm(residual)) / math.sqrt(rows)
    if unit <= ROUNDING * float(np.linalg.norm(y)) / math.sqrt(rows):
        raise DataError("The fixed effects reproduce the response exactly: nothing varies for a mixed model.")
    blocks, z, sizes = _random_design(terms)
    return Products(
        blocks=blocks,
        lead=min(blocks, key=lambda block: block.start),
        sizes=sizes,
        zz=(z.T @ z).toarray(),
        zx=z.T @ q,
        zy=z.T @ (residual / unit),
        rows=rows,
        back=np.linalg.inv(r),
        beta=beta,
        unit=unit,
        reml=reml,
    )


def _random_design(terms: Sequence[Term]) -> tuple[tuple[Block, ...], sparse.csr_array, tuple[FloatArray, ...]]:
    """Return the blocks, the sparse (rows, q) matrix Z with columns of mean square 1, and their sizes before."""
    by_size = sorted(range(len(terms)), key=lambda at: -terms[at].levels * len(terms[at].names))
    blocks, parts, start = {}, [], 0
    sizes = tuple(np.sqrt(np.mean(term.columns**2, axis=0)) for term in terms)
    for at in by_size:
        term = terms[at]
        rows, k = term.columns.shape
        places = np.repeat(np.arange(rows), k), (term.codes[:, None] * k + np.arange(k)).ravel()
        parts.append(sparse.csr_array(((term.columns / sizes[at]).ravel(), places), shape=(rows, term.levels * k)))
        blocks[at] = Block(start, term.levels, k)
        start += term.levels * k
    return tuple(blocks[at] for at in range(len(terms))), sparse.hstack(parts, format="csr"), sizes


@dataclass(frozen=True)
class Half:
    """L^-1 Lambda' Z'Z, where L L' = Lambda' Z'Z Lambda + I, so that  Z'H^-1 Z = Z'Z - half' half.

    Its first rows are those of the lead, where it is block-diagonal, corner (levels, k, k), but for the columns of the
    other terms, edge (lead, others); bottom (others, q) are the rest.
    """

    corner: FloatArray
    edge: FloatArray
    bottom: FloatArray

    def times(self, top: FloatArray, rest: FloatArray) -> FloatArray:
        """Return half' @ the rows (lead, columns) over (others, columns)."""
        out = self.bottom.T @ rest
        m, k = self.corner.shape[:2]
        out[: m * k] += (self.corner.transpose(0, 2, 1) @ top.reshape(m, k, -1)).reshape(m * k, -1)
        out[m * k :] += self.edge.T @ top
        return np.asarray(out)

    def square(self) -> FloatArray:
        """Return half' half, (q, q)."""
        m, k = self.corner.shape[:2]
        first = m * k
        out = self.bottom.T @ self.bottom
        turned = self.corner.transpose(0, 2, 1)
        cross = (turned @ self.edge.reshape(m, k, -1)).reshape(first, -1)
        out[:first, first:] += cross
        out[first:, :first] += cross.T
        out[first:, first:] += self.edge.T @ self.edge
        diagonal = out[:first, :first].reshape(m, k, m, k)
        diagonal[np.arange(m), :, np.arange(m)] += turned @ self.corner
        return np.asarray(out)

    def diagonal(self, block: Block) -> FloatArray:
        """Return the sum over the levels of a block of its (k, k) parts of half' half."""
        first = self.corner.shape[0] * self.corner.shape[1]
        if block.start == 0:
            upper = self.corner.reshape(-1, block.k)
        else:
            upper = self.edge[:, block.start - first : block.span.stop - first].reshape(-1, block.k)
        lower = self.bottom[:, block.span].reshape(-1, block.k)
        return np.asarray(upper.T @ upper + lower.T @ lower)


@dataclass(frozen=True)
class Solution:
    """What one Lambda determines:  H = I + Z Lambda Lambda' Z'  and  y'Py = min over beta of the H-weighted residual.

    root: lower triangular (p, p), root root' = X'H^-1 X.
    zhx: Z'H^-1 X.  zpy: Z'Py.  beta: generalised least squares.  rss: y'Py.  criterion: -2 log (restricted) likelihood.
    """

    half: Half
    root: FloatArray
    zhx: FloatArray
    zpy: FloatArray
    beta: FloatArray
    rss: float
    criterion: float

    @property
    def across(self) -> FloatArray:
        """Return (q, p) A with  A A' = Z'H^-1 X (X'H^-1 X)^-1 X'H^-1 Z."""
        return np.asarray(solve_triangular(self.root, self.zhx.T, lower=True).T)


def solve(given: Products, factors: Factors) -> Solution:
    """Return the solution at the relative covariance factors.

    Formula:  -2 log REML = log|L|^2 + log|X'H^-1 X| + dof (1 + log(2 pi y'Py / dof)); ML without the second term.
    """
    p, first, k = given.zx.shape[1], given.lead.span.stop, given.lead.k
    pairs = list(zip(given.blocks, factors, strict=True))
    lead = next(factor for block, factor in pairs if block == given.lead)
    others = [(block._replace(start=block.start - first), factor) for block, factor in pairs if block != given.lead]
    ahead = given.zz[:first, :first].reshape(-1, k, first // k, k)[np.arange(first // k), :, np.arange(first // k)]
    corners = np.linalg.cholesky(lead.T @ ahead @ lead + np.eye(k))
    known = np.column_stack([given.zx, given.zy, given.zz[:, first:]])  # (q, p + 1 + others)
    upper = np.concatenate([lead.T @ known[:first].reshape(-1, k, known.shape[1]), lead.T @ ahead], axis=2)
    solved = np.linalg.solve(corners, upper)
    corner, top = solved[:, :, -k:], solved[:, :, :-k].reshape(first, -1)
    edge = top[:, p + 1 :]
    side = _turned(others, edge.T)  # (others, lead): L below the lead
    inner = _turned(others, _turned(others, known[first:, p + 1 :]).T) + np.eye(len(side))
    lower = np.linalg.cholesky(inner - side @ side.T)
    across = (
        (side.reshape(-1, first // k, 1, k).transpose(1, 2, 0, 3)[:, 0] @ corner).transpose(1, 0, 2).reshape(-1, first)
    )
    rest = _turned(others, np.hstack([known[first:], known[:first, p + 1 :].T]))
    rest = solve_triangular(lower, rest - np.hstack([side @ top, across]), lower=True)
    bottom = np.hstack([rest[:, p + 1 + len(side) :], rest[:, p + 1 : p + 1 + len(side)]])
    logs = float(np.log(np.diagonal(corners, axis1=1, axis2=2)).sum() + np.log(np.diag(lower)).sum())
    return _least_squares(given, Half(corner, edge, bottom), top[:, : p + 1], rest[:, : p + 1], logs)


def _least_squares(given: Products, half: Half, top: FloatArray, rest: FloatArray, logs: float) -> Solution:
    """Return the solution from L^-1 Lambda' (Z'X, Z'y), in two parts, and log|L|."""
    p = given.zx.shape[1]
    both = np.vstack([top, rest])
    rzx, cu = both[:, :p], both[:, p]
    root = np.asarray(np.linalg.cholesky(np.eye(p) - rzx.T @ rzx), dtype=np.float64)
    cb = solve_triangular(root, -rzx.T @ cu, lower=True)
    rss = float(given.rows - cu @ cu - cb @ cb)
    if rss <= 0:
        raise LinAlgError("no residual is left")
    beta = solve_triangular(root, cb, lower=True, trans="T")
    less = half.times(top, rest)
    zhx = given.zx - less[:, :p]
    logs += float(np.log(np.diag(root)).sum()) if given.reml else 0.0
    criterion = 2 * logs + given.dof * (1 + math.log(2 * math.pi * rss / given.dof))
    return Solution(half, root, zhx, given.zy - less[:, p] - zhx @ beta, beta, rss, criterion)


def _turned(pairs: Sequence[tuple[Block, FloatArray]], matrix: FloatArray) -> FloatArray:
    """Return Lambda' @ matrix for the columns of Z that the blocks span."""
    out = np.empty_like(matrix)
    for block, factor in pairs:
        part = matrix[block.span].reshape(block.levels, block.k, -1)
        out[block.span] = np.matmul(factor.T, part).reshape(block.levels * block.k, -1)
    return out


def slopes(given: Products, found: Solution) -> list[FloatArray]:
    """Return per term the (k, k) derivative A of the criterion by the relative covariance S = T T':  d = tr(A dS).

    Formula:  A = sum over levels of [Z'PZ]_level - (dof / y'Py) [Z'Py][Z'Py]'_level; H^-1 for P in the first under ML.
    """
    out, ratio = [], given.dof / found.rss
    across = found.across if given.reml else None
    for block in given.blocks:
        m, k = block.levels, block.k
        diagonal = given.zz[block.span, block.span].reshape(m, k, m, k)[np.arange(m), :, np.arange(m)].sum(0)
        score = found.zpy[block.span].reshape(m, k)
        slope = diagonal - found.half.diagonal(block) - ratio * score.T @ score
        if across is not None:
            part = across[block.span].reshape(m, k, -1).transpose(0, 2, 1).reshape(-1, k)
            slope = slope - part.T @ part
        out.append(slope)
    return out


@lru_cache(maxsize=64)
def triangle(k: int) -> tuple[IntArray, IntArray]:
    """Return rows and columns of the lower triangle of (k, k), row by row."""
    return np.tril_indices(k)


def pack(factors: Factors) -> FloatArray:
    """Return the lower triangles, row by row, term after term."""
    return np.concatenate([factor[triangle(len(factor))] for factor in factors])


def unpack(given: Products, theta: FloatArray) -> list[FloatArray]:
    """Return the factors whose lower triangles are `theta`."""
    return factors_of([block.k for block in given.blocks], theta)


def factors_of(sizes: Sequence[int], entries: FloatArray) -> list[FloatArray]:
    """Return lower triangular factors of these sizes whose entries are given row by row, one factor after another."""
    out, at = [], 0
    for k in sizes:
        factor = np.zeros((k, k))
        lower = triangle(k)
        factor[lower] = entries[at : at + len(lower[0])]
        at += len(lower[0])
        out.append(factor)
    return out
