"""Random effects of models without a normal residual: how they are integrated out, and their covariance factors."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from neuromod_core.kernel.errors import DataError, OutOfRange
from neuromod_core.stats.mixed.criterion import factors_of, pack
from neuromod_core.stats.mixed.design import IntArray, Term
from neuromod_core.stats.mixed.marginal import Integral, clustered, crossed
from neuromod_core.stats.mixed.result import Component, component
from neuromod_core.stats.sample import FloatArray

DEFAULT_POINTS, MOST_POINTS = 9, 50
STARTS = (0.5, 1.5)  # standard deviations of the random effects
RUNAWAY = 30.0  # standard deviation on the scale of the link that no data can tell from infinity
SINGULAR = 1e-4


def integral(terms: Sequence[Term], points: int | None) -> tuple[Integral, str]:
    """Return how the random effects are integrated out, and its name; rows are sorted by the level of the first term.

    Raises:
        OutOfRange: for a number of points outside 1 .. 50, or more than one for several terms or three dimensions.
    """
    small = len(terms) == 1 and len(terms[0].names) <= 2
    chosen = (DEFAULT_POINTS if small else 1) if points is None else points
    if not 1 <= chosen <= MOST_POINTS:
        raise OutOfRange(f"{chosen} quadrature points are asked for; 1 (Laplace) to {MOST_POINTS} are possible.")
    if chosen > 1 and not small:
        raise OutOfRange(
            f"{chosen} quadrature points are asked for {len(terms)} terms of random effects; quadrature is for one "
            "term of one or two effects: leave points out for Laplace's approximation."
        )
    name = "Laplace" if chosen == 1 else f"adaptive Gauss-Hermite with {chosen} points"
    return (clustered(terms[0], chosen) if len(terms) == 1 else crossed(terms)), name


def sorted_rows(terms: Sequence[Term]) -> tuple[IntArray, list[Term], list[FloatArray]]:
    """Return an order of the rows by the level of the first term, the terms in it, and the sizes of their columns.

    The columns of the terms are brought to mean square 1.
    """
    order = np.argsort(terms[0].codes, kind="stable")
    sizes = [np.sqrt(np.mean(term.columns**2, axis=0)) for term in terms]
    ready = [
        term._replace(columns=term.columns[order] / size, codes=term.codes[order])
        for term, size in zip(terms, sizes, strict=True)
    ]
    return order, ready, sizes


def lower_factors(terms: Sequence[Term], entries: FloatArray) -> list[FloatArray]:
    """Return the lower triangular factors whose entries are given row by row, term after term."""
    return factors_of([len(term.names) for term in terms], entries)


def start_entries(terms: Sequence[Term], sd: float) -> FloatArray:
    """Return the entries of factors sd I."""
    return pack([sd * np.eye(len(term.names)) for term in terms])


def entry_scale(terms: Sequence[Term]) -> FloatArray:
    """Return about the standard error of each entry."""
    return np.concatenate([np.full(len(t.names) * (len(t.names) + 1) // 2, t.levels**-0.5) for t in terms])


def settled(terms: Sequence[Term], entries: FloatArray) -> list[FloatArray]:
    """Return the estimated factors.

    Raises:
        DataError: when a standard deviation has run away.
    """
    factors = lower_factors(terms, entries)
    for term, factor in zip(terms, factors, strict=True):
        if np.abs(factor).max() > RUNAWAY:
            raise DataError(
                f"The standard deviation of {term.group} grows without end: the outcomes agree within its levels, so "
                "that the likelihood has no maximum. Leave that factor out or collect more rows per level."
            )
    return factors


def is_singular(factors: Sequence[FloatArray]) -> bool:
    """Return whether a covariance has a direction without variance."""
    return any(float(np.linalg.svd(factor, compute_uv=False).min()) < SINGULAR for factor in factors)


def components(
    terms: Sequence[Term], factors: Sequence[FloatArray], sizes: Sequence[FloatArray]
) -> tuple[Component, ...]:
    """Return the components in the units of the given columns."""
    scaled = [factor / size[:, None] for factor, size in zip(factors, sizes, strict=True)]
    return tuple(
        component(term.group, term.levels, term.names, factor @ factor.T)
        for term, factor in zip(terms, scaled, strict=True)
    )
