"""One common factor behind the items of a scale, and the share of the sum score that it explains."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.linalg import eigh
from scipy.optimize import minimize

from neuromod_core.kernel.errors import DataError
from neuromod_core.stats.reliability import covariance, resampled
from neuromod_core.stats.result import Estimate
from neuromod_core.stats.sample import FloatArray, grid

_LEAST = 0.005  # of an item's variance: the smallest unique share the fit admits
_GRADIENT = 1e-6


@dataclass(frozen=True, kw_only=True)
class OneFactor(Estimate):
    """McDonald's omega with the fit behind it.

    loadings, uniqueness: (items,), of standardised items: loading^2 + uniqueness = 1 up to the fit.
    improper: an item's uniqueness lies at its bound, so the one-factor model does not hold: do not quote omega.
    """

    loadings: tuple[float, ...]
    uniqueness: tuple[float, ...]
    improper: bool


def omega(
    items: npt.ArrayLike,
    *,
    level: float = 0.95,
    resamples: int = 0,
    generator: np.random.Generator | None = None,
) -> OneFactor:
    """Return McDonald's omega of (units, items) scores, all keyed in one direction, from a one-factor fit.

    Formula:  omega = (sum l_j s_j)^2 / ((sum l_j s_j)^2 + sum u_j s_j^2),  l loadings, u uniqueness and s standard
    deviations. The fit maximises the normal likelihood: with e the eigenvalues of  U^-1/2 R U^-1/2  falling and R the
    correlations, it minimises  sum over j > 1 of (e_j - log e_j - 1)  over u in [0.005, 1].
    resamples: of the units, for a percentile interval, drawn by `generator`; 0: no interval; see `resampled`.
    Source: McDonald 1999, Test Theory; Joreskog 1967, Psychometrika 32:443; Kelley & Pornprasertmanit 2016,
    Psychological Methods 21:69 (the interval).

    Raises:
        DataError: for fewer than three items, no more units than items, values that are not finite, an item without
            spread, or items of which one is a sum of others.
        OutOfRange: for resamples without a generator or too few for the level, or a level outside (0, 1).

    >>> score = np.random.default_rng(0).normal(size=(60, 1))
    >>> print(omega(score + np.random.default_rng(1).normal(size=(60, 5))))
    omega = 0.79 (one factor, maximum likelihood, 5 items, n = 60)
    """
    table = grid(items, "items", ("units", "items"))
    n, k = table.shape
    if k < 3 or n <= k:
        raise DataError(f"A factor of {k} items and {n} units is not identified; >= 3 items and more units are needed.")
    shared = covariance(table)
    sd = np.sqrt(np.diag(shared))
    if not sd.all():
        raise DataError(f"Item {int(sd.argmin())} is constant over {n} units: it has no correlation.")
    correlations = shared / np.outer(sd, sd)
    if np.linalg.eigvalsh(correlations)[0] < 1e-10:
        raise DataError(f"One of {k} items is a weighted sum of others: the factor has no likelihood.")
    unique = _uniqueness(correlations)
    loadings = _loadings(correlations, unique)
    common, rest = float(loadings @ sd) ** 2, float(unique @ sd**2)
    return OneFactor(
        symbol="omega",
        estimate=common / (common + rest),
        ci=resampled(table, lambda rows: omega(rows).estimate, level, resamples, generator),
        n=n,
        method=f"one factor, maximum likelihood, {k} items",
        loadings=tuple(loadings.tolist()),
        uniqueness=tuple(unique.tolist()),
        improper=bool((unique <= _LEAST * (1 + 1e-6)).any()),
    )


def _uniqueness(correlations: FloatArray) -> FloatArray:
    """Return the uniqueness (items,) of the likeliest single factor."""
    start = np.clip(1 / np.diag(np.linalg.inv(correlations)), 2 * _LEAST, 1.0)  # at least 1 - R^2 on the others
    found = minimize(
        _deviance, start, args=(correlations,), jac=True, method="L-BFGS-B", bounds=[(_LEAST, 1.0)] * len(start),
        options={"ftol": 1e-15, "gtol": 1e-9, "maxiter": 1_000},
    )  # fmt: skip
    at_bound = (found.x <= _LEAST) & (found.jac > 0) | (found.x >= 1) & (found.jac < 0)
    if float(np.abs(np.where(at_bound, 0.0, found.jac)).max()) > _GRADIENT:
        raise DataError(f"The one-factor fit of {len(start)} items did not converge: {found.message}.")
    return np.asarray(found.x, dtype=np.float64)


def _deviance(unique: FloatArray, correlations: FloatArray) -> tuple[float, FloatArray]:
    """Return the minimised function and its gradient by the uniqueness."""
    values, vectors = _scaled(unique, correlations)
    rest = values[:-1]
    loading = _loading(values, vectors, unique)
    implied = np.outer(loading, loading) + np.diag(unique)
    return float((rest - np.log(rest) - 1).sum()), np.diag(implied - correlations) / unique**2


def _scaled(unique: FloatArray, correlations: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Return eigenvalues, rising, and eigenvectors of  U^-1/2 R U^-1/2."""
    root = np.sqrt(unique)
    values, vectors = eigh(correlations / np.outer(root, root))
    return values, vectors


def _loading(values: FloatArray, vectors: FloatArray, unique: FloatArray) -> FloatArray:
    """Return the loadings that the first eigenvector implies."""
    loading: FloatArray = np.sqrt(unique * max(float(values[-1]) - 1, 0.0)) * vectors[:, -1]
    return loading


def _loadings(correlations: FloatArray, unique: FloatArray) -> FloatArray:
    """Return the loadings, signed so that they add up to a positive number."""
    loading = _loading(*_scaled(unique, correlations), unique)
    return loading if loading.sum() >= 0 else -loading
