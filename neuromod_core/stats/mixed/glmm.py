"""Binomial mixed models: logistic regression with random effects that are integrated out."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Literal

import numpy as np
import pandas as pd

from neuromod_core.kernel.errors import DataError
from neuromod_core.stats.mixed import random_effects as effects
from neuromod_core.stats.mixed.asymptotic import Effects, LikelihoodFit, tested
from neuromod_core.stats.mixed.design import Fixed, Table, Term, fixed_design, numeric_response, random_terms, table
from neuromod_core.stats.mixed.likelihood import Binomial
from neuromod_core.stats.mixed.marginal import Integral
from neuromod_core.stats.mixed.maximum import Maximum, maximise
from neuromod_core.stats.mixed.result import noted, position
from neuromod_core.stats.mixed.separation import refuse_separated_binomial
from neuromod_core.stats.sample import FloatArray, open_unit


def glmm(
    data: Table,
    fixed: str,
    random: str | Sequence[str] = "1 | unit",
    *,
    family: Literal["binomial"] = "binomial",
    trials: str | None = None,
    points: int | None = None,
    level: float = 0.95,
) -> LikelihoodFit:
    """Return the logistic mixed model of the rows of `data`, a table or a mapping from names to (rows,) columns.

    Model:  y ~ Binomial(m, p),  logit p = X beta + Z u,  u ~ N(0, Sigma) per level of each grouping factor.
    Coefficients are log odds ratios given the random effects. Tests are by likelihood ratio, referred to t and F on
    units - 1 degrees of freedom; intervals are Wald's, by the same t.
    fixed, random: formulas as in `lmm`.  trials: the column of m; without it y is 0 or 1.
    points: of adaptive Gauss-Hermite quadrature per dimension for one term of one or two effects (9 by default, 1 is
    Laplace); several terms are integrated by Laplace's approximation.
    Source: Pinheiro & Bates 1995, J Comput Graph Stat 4:12; Bates et al. 2015.

    Raises:
        DataError: as `lmm`, for outcomes that are no counts within their trials, and when they are separated, so that
            the estimates would be infinite.
        UnknownName: for a column that the data do not have, or a family that is not binomial.
        OutOfRange: for a number of points that cannot be used, or a level outside (0, 1).

    >>> cells = {"unit": [1, 1, 2, 2, 3, 3, 4, 4], "pack": [0, 1] * 4, "yes": [2, 5, 1, 3, 6, 8, 0, 4], "of": [9] * 8}
    >>> fit = glmm(cells, "yes ~ pack", "1 | unit", trials="of")
    >>> print(str(fit.coefficient("pack")).partition(" (")[0])
    pack: b = 1.66, SE = 0.61, 95% CI [-0.27, 3.59], t(3.0) = 2.95, p = .060
    >>> print(fit.components[0])
    unit: SD(Intercept) = 1.06 (4 levels)
    """
    position(family, ("binomial",), "family")
    open_unit(level, "The confidence level")
    frame = table(data)
    design = fixed_design(frame, fixed)
    outcome = _outcome(frame, design, trials)
    refuse_separated_binomial(design.matrix, outcome.successes, outcome.trials, design.names)
    terms = random_terms(frame, random)
    order, ready, sizes = effects.sorted_rows(terms)
    integral, how = effects.integral(ready, points)
    q, r = np.linalg.qr(design.matrix[order])
    back = 2 * np.linalg.inv(r)  # of coefficients whose standard errors are about 1
    found = _maximum(Binomial(outcome.successes[order], outcome.trials[order]), 2 * q, ready, integral)
    return _fit(design, terms, found, back, sizes, f"binomial mixed model, {how}", level)


def _outcome(frame: pd.DataFrame, design: Fixed, trials: str | None) -> Binomial:
    """Return the successes and trials of each row."""
    successes = numeric_response(design.response)
    if trials is None:
        if not np.isin(successes, (0, 1)).all():
            raise DataError("The responses are not all 0 or 1; name the column of trials for counts.")
        return Binomial(successes, np.ones_like(successes))
    position(trials, (str(name) for name in frame.columns), "column")
    of = np.asarray(frame[trials], dtype=np.float64)
    whole = (successes == np.round(successes)) & (of == np.round(of))
    if not (whole & (successes >= 0) & (successes <= of) & (of > 0)).all():
        raise DataError(f"The responses are not all whole counts from 0 to {trials}, which must be at least 1.")
    return Binomial(successes, of)


def _maximum(rows: Binomial, x: FloatArray, terms: Sequence[Term], integral: Integral) -> Maximum:
    """Return the maximum over (coefficients, covariance factors) of rows sorted by level."""
    p = x.shape[1]
    modes = integral.start()

    def log_likelihood(at: FloatArray) -> float:
        nonlocal modes
        value, modes = integral.over(rows, x @ at[:p], effects.lower_factors(terms, at[p:]), modes)
        return value

    rate = (rows.successes.sum() + 0.5) / (rows.trials.sum() + 1)
    flat = x.T @ np.full(len(x), math.log(rate / (1 - rate))) / 4
    starts = [np.concatenate([flat, effects.start_entries(terms, sd)]) for sd in effects.STARTS]
    return maximise(log_likelihood, starts, np.concatenate([np.ones(p), effects.entry_scale(terms)]))


def _fit(
    design: Fixed,
    terms: Sequence[Term],
    found: Maximum,
    back: FloatArray,
    sizes: Sequence[FloatArray],
    method: str,
    level: float,
) -> LikelihoodFit:
    """Return the fit in the units of the data."""
    p = len(design.names)
    factors = effects.settled(terms, found.parameters[p:])
    label = noted(method, converged=found.converged, singular=effects.is_singular(factors))
    rows = np.hstack([back, np.zeros((p, len(found.parameters) - p))])
    covariance = rows @ found.covariance @ rows.T
    fixed = Effects(design.names, design.terms, rows @ found.parameters, covariance, rows)
    coefficients, joint = tested(fixed, found, terms, level, label)
    return LikelihoodFit(
        coefficients=coefficients,
        terms=joint,
        components=effects.components(terms, factors, sizes),
        covariance=covariance,
        log_likelihood=found.value,
        parameters=len(found.parameters),
        rows=len(design.matrix),
        converged=found.converged,
        singular=effects.is_singular(factors),
        method=method,
    )
