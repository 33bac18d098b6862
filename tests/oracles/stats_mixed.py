"""Mixed models written out: the whole rows x rows covariance, and integrals over a fixed fine grid."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import numpy as np
import numpy.typing as npt
from scipy.special import expit

Array = npt.NDArray[np.float64]


def indicator(codes: npt.NDArray[np.intp]) -> Array:
    return (codes[:, None] == np.unique(codes)).astype(np.float64)


def derivatives(columns: Array, codes: npt.NDArray[np.intp]) -> list[Array]:
    """Return dV for each entry of the lower triangle of a term's covariance: (rows, rows) each."""
    z = indicator(codes)
    return [
        np.outer(columns[:, i], columns[:, j]) * (z @ z.T)
        if i == j
        else (np.outer(columns[:, i], columns[:, j]) + np.outer(columns[:, j], columns[:, i])) * (z @ z.T)
        for i in range(columns.shape[1])
        for j in range(i + 1)
    ]


def covariance(gamma: Sequence[float], parts: Sequence[Array]) -> Array:
    """Return V = gamma_0 I + sum gamma_i V_i."""
    v = gamma[0] * np.eye(len(parts[0]))
    for value, part in zip(gamma[1:], parts, strict=True):
        v = v + value * part
    return v


def criterion(y: Array, x: Array, v: Array, *, reml: bool = True) -> float:
    """Return -2 log (restricted) likelihood by its definition (Harville 1974)."""
    inverse = np.linalg.inv(v)
    information = x.T @ inverse @ x
    beta = np.linalg.solve(information, x.T @ inverse @ y)
    residual = y - x @ beta
    value = np.linalg.slogdet(v)[1] + residual @ inverse @ residual
    dof = len(y) - (x.shape[1] if reml else 0)
    return float(value + dof * math.log(2 * math.pi) + (np.linalg.slogdet(information)[1] if reml else 0.0))


def kenward_roger(x: Array, gamma: Sequence[float], parts: Sequence[Array]) -> tuple[Array, Array, Array, list[Array]]:
    """Return Phi, the adjusted covariance, W and the P_i, from matrices of rows x rows as in the paper of 1997."""
    v = np.linalg.inv(covariance(gamma, parts))
    every = [np.eye(len(x)), *parts]
    phi = np.linalg.inv(x.T @ v @ x)
    p = [-x.T @ v @ d @ v @ x for d in every]
    q = [[x.T @ v @ d @ v @ e @ v @ x for e in every] for d in every]
    size = range(len(every))
    information = np.array(
        [
            [
                np.trace(v @ every[i] @ v @ every[j]) - 2 * np.trace(phi @ q[i][j]) + np.trace(phi @ p[i] @ phi @ p[j])
                for j in size
            ]
            for i in size
        ]
    )
    w = 2 * np.linalg.inv(information)
    middle = sum(w[i, j] * (q[i][j] - p[i] @ phi @ p[j]) for i in size for j in size)
    return phi, phi + 2 * phi @ middle @ phi, w, p


def kenward_roger_f(phi: Array, w: Array, p: list[Array], contrast: Array) -> tuple[float, float]:
    """Return the denominator degrees of freedom and the scale of F for a (d, p) contrast."""
    d = len(contrast)
    theta = contrast.T @ np.linalg.inv(contrast @ phi @ contrast.T) @ contrast
    m = [theta @ phi @ each @ phi for each in p]
    size = range(len(p))
    a1 = sum(w[i, j] * np.trace(m[i]) * np.trace(m[j]) for i in size for j in size)
    a2 = sum(w[i, j] * np.trace(m[i] @ m[j]) for i in size for j in size)
    b = (a1 + 6 * a2) / (2 * d)
    g = ((d + 1) * a1 - (d + 4) * a2) / ((d + 2) * a2)
    c1, c2, c3 = (top / (3 * d + 2 * (1 - g)) for top in (g, d - g, d + 2 - g))
    expected = 1 / (1 - a2 / d)
    variance = 2 / d * (1 + c1 * b) / ((1 - c2 * b) ** 2 * (1 - c3 * b))
    rho = variance / (2 * expected**2)
    df = 4 + (d + 2) / (d * rho - 1)
    return df, df / (expected * (df - 2))


def satterthwaite(
    y: Array, x: Array, gamma: Array, parts: Sequence[Array], contrast: Array, *, reml: bool = True
) -> float:
    """Return nu = 2 f^2 / (g' A g) with all derivatives by differences."""

    def variance(at: Array) -> float:
        return float(contrast @ np.linalg.inv(x.T @ np.linalg.inv(covariance(at, parts)) @ x) @ contrast)

    def deviance(at: Array) -> float:
        return criterion(y, x, covariance(at, parts), reml=reml)

    steps = np.diag(1e-3 * np.maximum(np.abs(gamma), 0.05 * gamma[0]))
    h = np.diag(steps)
    slope = np.array([(variance(gamma + s) - variance(gamma - s)) for s in steps]) / (2 * h)
    curvature = np.array(
        [
            [
                deviance(gamma + s + t) - deviance(gamma + s - t) - deviance(gamma - s + t) + deviance(gamma - s - t)
                for t in steps
            ]
            for s in steps
        ]
    ) / (4 * np.outer(h, h))
    return float(2 * variance(gamma) ** 2 / (slope @ (2 * np.linalg.inv(curvature)) @ slope))


def integrated(
    rows: Callable[[Array], Array], codes: npt.NDArray[np.intp], root: Array, z: Array, points: int
) -> float:
    """Return the log likelihood with N(0, root root') integrated out per level on a grid that does not adapt.

    rows: log likelihood of each row at an offset (rows,).  z: (rows, k).
    """
    nodes, weights = np.polynomial.hermite_e.hermegauss(points)
    k = z.shape[1]
    grid = np.stack(np.meshgrid(*[nodes] * k), -1).reshape(-1, k)
    mass = np.stack(np.meshgrid(*[weights] * k), -1).reshape(-1, k).prod(1) / math.sqrt(2 * math.pi) ** k
    levels = indicator(codes).T
    heights = np.array([levels @ rows(z @ root @ node) for node in grid])
    top = heights.max(axis=0)
    return float((top + np.log(mass @ np.exp(heights - top))).sum())


def binomial_rows(successes: Array, trials: Array, eta: Array) -> Callable[[Array], Array]:
    ways = np.array([math.log(math.comb(int(m), int(s))) for s, m in zip(successes, trials, strict=True)])
    return lambda offset: (
        ways + successes * np.log(expit(eta + offset)) + (trials - successes) * np.log(expit(-eta - offset))
    )


def ordinal_rows(
    categories: npt.NDArray[np.intp], cuts: Array, eta: Array, cdf: Callable[[Array], Array]
) -> Callable[[Array], Array]:
    ends = np.concatenate([[-np.inf], cuts, [np.inf]])
    return lambda offset: np.log(
        np.maximum(cdf(ends[categories + 1] - eta - offset) - cdf(ends[categories] - eta - offset), 1e-300)
    )
