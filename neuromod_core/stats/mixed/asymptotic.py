"""What models without finite-sample theory have in common: Wald and likelihood-ratio tests, labelled asymptotic."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np

from neuromod_core.kernel.errors import DataError, OutOfRange
from neuromod_core.stats.mixed.lmm import LinearFit
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

    coefficients: on the scale of the link, with Wald tests and intervals.  terms: a Wald chi-squared test per term.
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
        """Return the Wald test of the term called `name`.

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


def wald(name: str, estimate: float, variance: float, level: float, n: int, method: str) -> Coefficient:
    """Return a coefficient with its asymptotic normal test."""
    se = math.sqrt(variance)
    return Coefficient(
        estimate=estimate,
        ci=interval(estimate, se, math.inf, level),
        statistic=estimate / se,
        pvalue=two_sided(estimate / se, math.inf),
        n=n,
        method=method,
        name=name,
        se=se,
        df=math.inf,
    )


def wald_terms(
    spans: Mapping[str, tuple[int, ...]], estimates: FloatArray, covariance: FloatArray, n: int, method: str
) -> tuple[TermTest, ...]:
    """Return the chi-squared test of each term:  b' V^-1 b."""
    out = []
    for name, columns in spans.items():
        at = list(columns)
        b, v = estimates[at], covariance[np.ix_(at, at)]
        statistic = float(b @ np.linalg.solve(v, b))
        p = upper_tail(statistic, len(at), math.inf)
        out.append(TermTest(name=name, statistic=statistic, df1=len(at), df2=math.inf, pvalue=p, n=n, method=method))
    return tuple(out)
