"""First and second derivatives of the (restricted) likelihood by the variance components, from q x q cross-products.

V is linear in its components:  V = sum_i gamma_i V_i,  V_0 = I  and  V_i = Z D_i Z'  for each entry of a covariance.
With V itself as one more direction,  I = (V - sum gamma_i V_i) / sigma^2,  every trace and product that contains the
identity follows from those that do not: nothing of rows x rows is formed.
Source: Kenward & Roger 1997, Biometrics 53:983;  Gilmour, Thompson & Cullis 1995, Biometrics 51:1440.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from neuromod_core.stats.mixed.criterion import Block, Factors, Products, Solution, pack, triangle
from neuromod_core.stats.sample import FloatArray


@dataclass(frozen=True)
class Information:
    """Derivatives by gamma = (sigma^2, entries of each covariance), in the units of `Products`.

    gamma: (r,).  traces: (r, r), tr(P V_i P V_j); V^-1 for P under ML.
    gradient: (r,) and observed: (r, r), of -2 log likelihood.
    """

    gamma: FloatArray
    traces: FloatArray
    gradient: FloatArray
    observed: FloatArray


def basis(k: int) -> FloatArray:
    """Return (k (k + 1) / 2, k, k): the derivative of a covariance by each entry of its lower triangle."""
    rows, columns = triangle(k)
    out = np.zeros((len(rows), k, k))
    at = np.arange(len(rows))
    out[at, rows, columns] = out[at, columns, rows] = 1.0
    return out


def components(given: Products, factors: Factors, variance: float) -> FloatArray:
    """Return gamma at the relative factors and the residual variance."""
    entries = [variance * (factor @ factor.T)[triangle(len(factor))] for factor in factors]
    return np.concatenate([[variance], *entries])


def exchange(gamma: FloatArray) -> FloatArray:
    """Return (r, r): what turns derivatives along (V, V_1, V_2 ...) into those along (I, V_1, V_2 ...)."""
    change = np.eye(len(gamma))
    change[0] = np.concatenate([[1.0], -gamma[1:]]) / gamma[0]
    return change


def directions(given: Products, matrix: FloatArray) -> FloatArray:
    """Return (r - 1, q, columns): D_i @ matrix for each entry of each covariance and a (q, columns) matrix."""
    out = []
    for block in given.blocks:
        part = matrix[block.span].reshape(block.levels, block.k, -1)
        turned = np.einsum("rab,gbc->rgac", basis(block.k), part)
        full = np.zeros((len(turned), *matrix.shape))
        full[:, block.span] = turned.reshape(len(turned), block.levels * block.k, -1)
        out.append(full)
    return np.concatenate(out)


def information(given: Products, factors: Factors, found: Solution) -> Information:
    """Return the derivatives at a solution and its own residual variance."""
    variance = found.rss / given.dof
    gamma = components(given, factors, variance)
    change = exchange(gamma)
    inner = given.zz - found.half.square()
    without = inner - found.across @ found.across.T
    kept = (without if given.reml else inner) / variance
    traces = change @ _traces(given, kept) @ change.T
    score = found.zpy / variance
    moved = directions(given, score[:, None])[..., 0]
    ones = np.concatenate([[found.rss / variance], moved @ score])
    squares = np.empty_like(traces)
    squares[0], squares[:, 0] = ones, ones
    squares[1:, 1:] = moved @ (without / variance) @ moved.T
    squares = change @ squares @ change.T
    firsts = np.concatenate([[given.dof], _singles(given, kept)])
    return Information(gamma, traces, change @ (firsts - ones), 2 * squares - traces)


def _singles(given: Products, kept: FloatArray) -> FloatArray:
    """Return (r - 1,) tr(P V_i)."""
    out = []
    for block in given.blocks:
        m, k = block.levels, block.k
        diagonal = kept[block.span, block.span].reshape(m, k, m, k)[np.arange(m), :, np.arange(m)].sum(0)
        out.append(np.einsum("rab,ab->r", basis(k), diagonal))
    return np.concatenate(out)


def _traces(given: Products, kept: FloatArray) -> FloatArray:
    """Return (r, r) tr(P V_i P V_j), V itself first."""
    single = _singles(given, kept)
    rows = [[_pair(kept, one, other) for other in given.blocks] for one in given.blocks]
    return np.block([[np.full((1, 1), float(given.dof)), single[None]], [single[:, None], np.block(rows)]])


def _pair(kept: FloatArray, one: Block, other: Block) -> FloatArray:
    """Return the traces between the entries of two terms."""
    m, k, n, h = one.levels, one.k, other.levels, other.k
    parts = kept[one.span, other.span].reshape(m, k, n, h).transpose(1, 3, 0, 2).reshape(k * h, m * n)
    products = (parts @ parts.T).reshape(k, h, k, h)  # [a, d, b, c]: sum over levels of M_ad M_bc
    half = np.einsum("rab,adbc->rdc", basis(k), products)
    return np.asarray(np.einsum("rdc,scd->rs", half, basis(h)))


def along_factors(given: Products, factors: Factors, found: Information) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Return the (s, r) Jacobian of gamma, the gradient and the (s, s) Hessian by (sigma, absolute factor entries).

    Where a component is zero its factor is stationary, so a variance at the boundary has no slope here.
    """
    sigma = float(np.sqrt(found.gamma[0]))
    size = len(found.gamma)
    jacobian, curvature = np.zeros((size, size)), np.zeros((size, size))
    jacobian[0, 0], curvature[0, 0] = 2 * sigma, 2 * found.gradient[0]
    at = 1
    for factor in factors:
        k = len(factor)
        rows, columns = triangle(k)
        span = slice(at, at + len(rows))
        unit = np.zeros((len(rows), k, k))
        unit[np.arange(len(rows)), rows, columns] = 1.0
        moved = unit @ (sigma * factor).T
        jacobian[span, span] = (moved + moved.transpose(0, 2, 1))[:, rows, columns]
        slope = np.einsum("r,rab->ab", found.gradient[span], basis(k) / 2)
        slope[np.diag_indices(k)] *= 2
        curvature[span, span] = 2 * slope[np.ix_(rows, rows)] * (columns[:, None] == columns)
        at += len(rows)
    return jacobian, jacobian @ found.gradient, jacobian @ found.observed @ jacobian.T + curvature


def absolute(factors: Factors, sigma: float) -> FloatArray:
    """Return (sigma, absolute factor entries)."""
    return np.concatenate([[sigma], sigma * pack(factors)])
