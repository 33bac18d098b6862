"""Cumulative-link mixed models of ordered responses, such as those of a rating scale."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import NamedTuple

import numpy as np
import pandas as pd

from neuromod_core.kernel.errors import DataError
from neuromod_core.stats.mixed import random_effects as effects
from neuromod_core.stats.mixed.asymptotic import Effects, LikelihoodFit, tested, wald
from neuromod_core.stats.mixed.design import Fixed, IntArray, Table, Term, ordinal_design, random_terms, table
from neuromod_core.stats.mixed.likelihood import LATENT_VARIANCE, Cumulative, Link
from neuromod_core.stats.mixed.marginal import Integral
from neuromod_core.stats.mixed.maximum import Maximum, maximise
from neuromod_core.stats.mixed.result import Coefficient, LatentCoefficient, noted, position
from neuromod_core.stats.mixed.separation import refuse_separated_ordinal
from neuromod_core.stats.sample import FloatArray, open_unit


@dataclass(frozen=True, kw_only=True)
class OrdinalFit(LikelihoodFit):
    """A fitted cumulative-link mixed model.

    categories: lowest first.  thresholds: one between each two neighbours, increasing, with Wald's intervals.
    latent_sd: of the latent variable, given the fixed effects.
    """

    categories: tuple[str, ...]
    thresholds: tuple[Coefficient, ...]
    latent_sd: float


class _Scale(NamedTuple):
    """Categories of the rows (rows,) and their names, lowest first."""

    codes: IntArray
    names: tuple[str, ...]


def clmm(
    data: Table,
    fixed: str,
    random: str | Sequence[str] = "1 | unit",
    *,
    link: Link = "logit",
    levels: Sequence[str | int | float] | None = None,
    points: int | None = None,
    level: float = 0.95,
) -> OrdinalFit:
    """Return the cumulative-link mixed model of the rows of `data`, a table or a mapping from names to (rows,) columns.

    Model:  P(y <= k) = F(threshold_k - X beta - Z u),  u ~ N(0, Sigma),  F logistic or standard normal; so a positive
    coefficient raises the response. Its `latent` value is beta / sqrt(var Z u + var F):  var F = pi^2 / 3 or 1.
    fixed, random: formulas as in `lmm`; the thresholds take the place of the intercept.
    levels: the categories, lowest first; without it numbers and ordered categories come in their own order.
    points, tests and intervals: as in `glmm`.
    Source: McCullagh 1980, JRSS B 42:109; Hedeker & Gibbons 1994, Biometrics 50:933.

    Raises:
        DataError: as `lmm`, for fewer than two categories, words without an order, and separated outcomes.
        UnknownName: for a column that the data do not have, or a link that is none.
        OutOfRange: for a number of points that cannot be used, or a level outside (0, 1).

    >>> rated = {"unit": [1, 1, 1, 2, 2, 2, 3, 3, 3, 4, 4, 4], "dose": [0, 1, 2] * 4,
    ...          "answer": [1, 2, 2, 0, 0, 1, 1, 1, 2, 0, 2, 1]}
    >>> fit = clmm(rated, "answer ~ dose", "1 | unit")
    >>> print(str(fit.coefficient("dose")).partition(" (")[0])
    dose: b = 2.14, SE = 1.17, 95% CI [-1.59, 5.86], t(3.0) = 2.33, p = .102, 0.83 latent SD
    >>> [f"{cut.name} at {cut.estimate:.2f}" for cut in fit.thresholds]
    ['0|1 at 0.09', '1|2 at 3.58']
    """
    position(link, LATENT_VARIANCE, "link")
    open_unit(level, "The confidence level")
    frame = table(data)
    design = ordinal_design(frame, fixed)
    scale = _scale(design.response, levels)
    refuse_separated_ordinal(design.matrix, scale.codes, len(scale.names), design.names)
    terms = random_terms(frame, random)
    order, ready, sizes = effects.sorted_rows(terms)
    integral, how = effects.integral(ready, points)
    centre = design.matrix.mean(axis=0)
    q, r = np.linalg.qr(design.matrix[order] - centre)
    found = _maximum(scale, order, 2 * q, ready, integral, link)
    back = 2 * np.linalg.inv(r)
    method = f"cumulative {link} mixed model, {how}"
    return _fit(
        design, scale, terms, found, _natural(len(scale.names) - 1, back, centre, found), sizes, method, level, link
    )


def _scale(response: pd.Series, levels: Sequence[str | int | float] | None) -> _Scale:
    """Return the ordered categories of the response."""
    if levels is not None:
        known = list(levels)
    elif isinstance(response.dtype, pd.CategoricalDtype) and response.cat.ordered:
        known = list(response.cat.categories)
    elif pd.api.types.is_numeric_dtype(response.dtype):
        known = sorted(set(response.tolist()))
    else:
        raise DataError("The responses are words without an order; name the categories, lowest first, in `levels`.")
    codes = pd.Index(known).get_indexer(pd.Index(response.tolist()))
    if (codes < 0).any():
        raise DataError(f"The response {response.tolist()[int(np.argmax(codes < 0))]!r} is not one of {known}.")
    used = np.unique(codes)
    if len(used) < 2:
        raise DataError(f"All {len(codes)} responses are {known[int(used[0])]}; at least two categories must occur.")
    return _Scale(np.searchsorted(used, codes), tuple(str(known[int(at)]) for at in used))


def _maximum(
    scale: _Scale, order: IntArray, x: FloatArray, terms: Sequence[Term], integral: Integral, link: Link
) -> Maximum:
    """Return the maximum over (first threshold, logs of the gaps, coefficients, covariance factors)."""
    cuts, p = len(scale.names) - 1, x.shape[1]
    categories = scale.codes[order]
    modes = integral.start()

    def log_likelihood(at: FloatArray) -> float:
        nonlocal modes
        rows = Cumulative(categories, _thresholds(at[:cuts]), link)
        factors = effects.lower_factors(terms, at[cuts + p :])
        value, modes = integral.over(rows, x @ at[cuts : cuts + p], factors, modes)
        return value

    below = np.cumsum(np.bincount(categories))[:-1] / len(categories)
    logits = np.log(below / (1 - below)) * (1.0 if link == "logit" else 0.6)
    flat = np.concatenate([logits[:1], np.log(np.diff(logits)), np.zeros(p)])
    starts = [np.concatenate([flat, effects.start_entries(terms, sd)]) for sd in effects.STARTS]
    sizes = [np.full(cuts, 2 / math.sqrt(len(x))), np.ones(p), effects.entry_scale(terms)]
    return maximise(log_likelihood, starts, np.concatenate(sizes))


def _thresholds(raw: FloatArray) -> FloatArray:
    """Return increasing thresholds from the first one and the logs of the gaps."""
    return np.cumsum(np.concatenate([raw[:1], np.exp(raw[1:])]))


class _Natural(NamedTuple):
    """Thresholds and coefficients in the units of the data, (cuts + p,), and their covariance.

    back: (p, p), from the coefficients of the search to those of the data.
    """

    values: FloatArray
    covariance: FloatArray
    back: FloatArray


def _natural(cuts: int, back: FloatArray, centre: FloatArray, found: Maximum) -> _Natural:
    """Return what the parameters of the search mean: the columns were centred and made orthogonal."""
    p = len(centre)
    raw = found.parameters[: cuts + p]
    jacobian = np.zeros((cuts + p, cuts + p))
    jacobian[:cuts, 0] = 1.0
    jacobian[:cuts, 1:cuts] = np.tril(np.ones((cuts, cuts - 1)), -1) * np.exp(raw[1:cuts])
    jacobian[cuts:, cuts:] = back
    jacobian[:cuts, cuts:] = centre @ back
    beta = back @ raw[cuts:]
    values = np.concatenate([_thresholds(raw[:cuts]) + centre @ beta, beta])
    return _Natural(values, jacobian @ found.covariance[: cuts + p, : cuts + p] @ jacobian.T, back)


def _fit(
    design: Fixed,
    scale: _Scale,
    terms: Sequence[Term],
    found: Maximum,
    natural: _Natural,
    sizes: Sequence[FloatArray],
    method: str,
    level: float,
    link: Link,
) -> OrdinalFit:
    """Return the fit in the units of the data."""
    cuts, p = len(scale.names) - 1, len(design.names)
    factors = effects.settled(terms, found.parameters[cuts + p :])
    label = noted(method, converged=found.converged, singular=effects.is_singular(factors))
    spread = sum(float(((t.columns / s @ f) ** 2).sum()) for t, s, f in zip(terms, sizes, factors, strict=True))
    latent_sd = math.sqrt(spread / len(design.matrix) + LATENT_VARIANCE[link])
    between = [f"{low}|{high}" for low, high in zip(scale.names, scale.names[1:], strict=False)]
    variances = np.diag(natural.covariance).tolist()
    thresholds = tuple(
        wald(name, b, v, terms[0].levels - 1, level, terms[0].levels, label)
        for name, b, v in zip(between, natural.values.tolist(), variances, strict=False)
    )
    covariance = natural.covariance[cuts:, cuts:]
    rows = np.zeros((p, len(found.parameters)))
    rows[:, cuts : cuts + p] = natural.back
    fixed = Effects(design.names, design.terms, natural.values[cuts:], covariance, rows)
    coefficients, joint = tested(fixed, found, terms, level, label)
    return OrdinalFit(
        coefficients=tuple(_latent(each, latent_sd) for each in coefficients),
        terms=joint,
        components=effects.components(terms, factors, sizes),
        covariance=covariance,
        log_likelihood=found.value,
        parameters=len(found.parameters),
        rows=len(design.matrix),
        converged=found.converged,
        singular=effects.is_singular(factors),
        method=method,
        categories=scale.names,
        thresholds=thresholds,
        latent_sd=latent_sd,
    )


def _latent(given: Coefficient, latent_sd: float) -> LatentCoefficient:
    """Return the coefficient with its size in latent standard deviations."""
    values = {each.name: getattr(given, each.name) for each in fields(given)}
    return LatentCoefficient(**values, latent=given.estimate / latent_sd)
