"""What models without finite-sample theory have in common: tests by likelihood ratio, referred to t and F."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import NamedTuple

import numpy as np

from neuromod_core.kernel.errors import DataError, OutOfRange
from neuromod_core.stats.mixed.design import Term
from neuromod_core.stats.mixed.lmm import LinearFit
from neuromod_core.stats.mixed.maximum import Maximum
from neuromod_core.stats.mixed.result import (
    Coefficient,
    Component,
    TermTest,
    interval,
    position,
    two_sided,
    upper_tail,
)
from neuromod_core.stats.result import Cell
from neuromod_core.stats.sample import FloatArray


@dataclass(frozen=True, kw_only=True)
class LikelihoodFit:
    """A model fitted by maximum likelihood; `str()` is one sentence per coefficient and one per grouping factor.

    coefficients: on the scale of the link, tested by likelihood ratio, with Wald's intervals; see `tested`.
    terms: a likelihood-ratio test per term.
    covariance: (p, p) of the coefficients.  parameters: their number, with those of the covariances.
    converged: whether the gradient vanishes and the likelihood curves down.
    singular: whether a covariance has a direction without variance.
    """

    coefficients: tuple[Coefficient, ...]
    terms: tuple[TermTest, ...]
    components: tuple[Component, ...]
    covariance: FloatArray = field(compare=False)
    log_likelihood: float
    parameters: int
    rows: int
    converged: bool
    singular: bool
    method: str

    def __str__(self) -> str:
        return "\n".join([*map(str, self.coefficients), *map(str, self.components), self._state()])

    def _state(self) -> str:
        notes = [] if self.converged else ["NOT CONVERGED"]
        notes += ["singular: a variance or a direction of effects is zero"] if self.singular else []
        return ", ".join([f"Log likelihood = {self.log_likelihood:.2f}", f"{self.rows} rows", *notes])

    @property
    def aic(self) -> float:
        """Return  -2 log likelihood + 2 parameters."""
        return -2 * self.log_likelihood + 2 * self.parameters

    def as_rows(self) -> list[dict[str, Cell]]:
        """Return one row of a verdicts table per coefficient."""
        return [coefficient.as_row() for coefficient in self.coefficients]

    def coefficient(self, name: str) -> Coefficient:
        """Return the coefficient called `name`.

        Raises:
            UnknownName: when there is none.
        """
        return self.coefficients[position(name, (c.name for c in self.coefficients), "fixed effect")]

    def term(self, name: str) -> TermTest:
        """Return the likelihood-ratio test of the term called `name`.

        Raises:
            UnknownName: when there is none.
        """
        return self.terms[position(name, (term.name for term in self.terms), "term")]


def likelihood_ratio(
    full: LikelihoodFit | LinearFit, reduced: LikelihoodFit | LinearFit, name: str = "likelihood ratio"
) -> TermTest:
    """Return the asymptotic test that the reduced model, nested in the full one, is enough for the same rows.

    Formula:  chi2 = 2 (log L_full - log L_reduced) on the difference in their numbers of parameters.
    Source: Wilks 1938. For a variance, which cannot be negative, p is too large (Self & Liang 1987).

    Raises:
        OutOfRange: for models fitted by REML, whose likelihoods of different fixed effects cannot be compared.
        DataError: for different rows or outcomes, or a reduced model that has as many parameters or fits better.

    >>> from neuromod_core.stats.mixed import glmm
    >>> cells = {"unit": [1, 1, 2, 2, 3, 3, 4, 4], "pack": [0, 1] * 4, "yes": [2, 5, 1, 3, 6, 8, 0, 4], "of": [9] * 8}
    >>> full, reduced = (glmm(cells, f"yes ~ {terms}", "1 | unit", trials="of") for terms in ("pack", "1"))
    >>> print(str(likelihood_ratio(full, reduced, "pack")).partition(" (")[0])
    pack: chi2(1) = 8.70, p = .003
    """
    for fit in (full, reduced):
        if isinstance(fit, LinearFit) and fit.reml:
            raise OutOfRange("A likelihood ratio needs fits by maximum likelihood; one is by REML: use reml=False.")
    if full.rows != reduced.rows or full.method != reduced.method:
        raise DataError(
            f"The models are of {full.rows} rows ({full.method}) and {reduced.rows} rows ({reduced.method}); "
            "the same rows and the same kind of model are needed."
        )
    df = full.parameters - reduced.parameters
    statistic = 2 * (full.log_likelihood - reduced.log_likelihood)
    if df < 1 or statistic < -1e-6:
        raise DataError(
            f"The full model has {full.parameters} parameters and the reduced one {reduced.parameters}, and its log "
            f"likelihood is higher by {statistic / 2:.3g}: the models are not nested in this order."
        )
    statistic = max(statistic, 0.0)
    return TermTest(
        name=name,
        statistic=statistic,
        df1=df,
        df2=math.inf,
        pvalue=upper_tail(statistic, df, math.inf),
        n=full.components[0].levels,
        method=f"likelihood ratio, asymptotic; {full.method}",
    )


class Effects(NamedTuple):
    """Coefficients of the link scale: names, values (p,), covariance (p, p), and how they come from the parameters.

    rows: (p, s), so that the values are rows @ parameters.  spans: columns of each term.
    """

    names: Sequence[str]
    spans: Mapping[str, tuple[int, ...]]
    values: FloatArray
    covariance: FloatArray
    rows: FloatArray


def wald(name: str, estimate: float, variance: float, df: float, level: float, n: int, method: str) -> Coefficient:
    """Return a coefficient with Wald's test and interval, by Student's t."""
    se = math.sqrt(variance)
    return Coefficient(
        estimate=estimate,
        ci=interval(estimate, se, df, level),
        statistic=estimate / se,
        pvalue=two_sided(estimate / se, df),
        n=n,
        method=method,
        name=name,
        se=se,
        df=df,
    )


def tested(
    effects: Effects, found: Maximum, terms: Sequence[Term], level: float, method: str
) -> tuple[tuple[Coefficient, ...], tuple[TermTest, ...]]:
    """Return the coefficients and the terms with their likelihood-ratio tests.

    With LR the statistic of d constraints and df = units - 1, those of the grouping factor with the fewest levels:
    sign(b) sqrt(LR) is referred to t on df, and LR / d to F on (d, df), as in designs that treat within units; for many
    units that is Wilks' chi-squared. Intervals are Wald's, by the same t.
    Source: Wilks 1938; Schluchter & Elashoff 1990, J Stat Comput Simul 37:69;  Pinheiro & Bates 2000, section 2.4.
    """
    n, df = terms[0].levels, float(min(term.levels for term in terms) - 1)
    label = f"{method}, likelihood ratio"
    losses = [found.loss(row[None], np.zeros(1)) for row in effects.rows]
    coefficients = []
    for name, b, v, loss in zip(
        effects.names, effects.values.tolist(), np.diag(effects.covariance).tolist(), losses, strict=True
    ):
        root = math.copysign(math.sqrt(loss), b)
        plain = wald(name, b, v, df, level, n, label)
        coefficients.append(replace(plain, statistic=root, pvalue=two_sided(root, df)))
    joint = []
    for name, columns in effects.spans.items():
        at, d = list(columns), len(columns)
        loss = losses[at[0]] if d == 1 else found.loss(effects.rows[at], np.zeros(d))
        p = upper_tail(loss / d, d, df)
        joint.append(TermTest(name=name, statistic=loss / d, df1=d, df2=df, pvalue=p, n=n, method=label))
    return tuple(coefficients), tuple(joint)
