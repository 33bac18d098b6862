"""Linear mixed models with degrees of freedom by Kenward and Roger or by Satterthwaite; there is no z-based p-value."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
import numpy.typing as npt

from neuromod_core.kernel.errors import DataError, OutOfRange
from neuromod_core.stats.mixed import kenward_roger, satterthwaite
from neuromod_core.stats.mixed.criterion import Products, pack, products
from neuromod_core.stats.mixed.design import Fixed, Table, Term, fixed_design, numeric_response, random_terms, table
from neuromod_core.stats.mixed.estimate import Estimate, estimate
from neuromod_core.stats.mixed.kenward_roger import Adjusted, FixedEffects, Joint
from neuromod_core.stats.mixed.result import (
    Coefficient,
    Component,
    TermTest,
    component,
    interval,
    noted,
    position,
    two_sided,
    upper_tail,
)
from neuromod_core.stats.result import Cell
from neuromod_core.stats.sample import FloatArray

Method = Literal["kenward-roger", "satterthwaite"]
LABELS: dict[str, str] = {"kenward-roger": "Kenward-Roger", "satterthwaite": "Satterthwaite"}


@dataclass(frozen=True)
class Inference:
    """From contrasts of the given columns to t and F: the estimate, its covariance and how degrees of freedom come."""

    given: Products
    found: Estimate
    fixed: FixedEffects
    small: Adjusted | None

    @property
    def covariance(self) -> FloatArray:
        """Return the (p, p) covariance in the units of `Products`: adjusted where the method adjusts it."""
        return self.fixed.plain if self.small is None else self.small.covariance

    def turned(self, contrast: FloatArray) -> FloatArray:
        """Return a contrast of the given columns as one of the orthonormal ones."""
        return contrast @ self.given.back

    def estimate(self, contrast: FloatArray) -> tuple[float, float, float]:
        """Return estimate, standard error and degrees of freedom of a (p,) contrast."""
        turned = self.turned(contrast)
        unit = self.given.unit
        value = float(turned @ (self.given.beta + unit * self.fixed.beta))
        se = unit * float(np.sqrt(turned @ self.covariance @ turned))
        if self.small is None:
            return value, se, satterthwaite.degrees(self.found, self.fixed, turned)
        return value, se, kenward_roger.degrees(self.fixed, self.small, turned[None])

    def joint(self, contrast: FloatArray) -> Joint:
        """Return the F test of a (d, p) contrast."""
        turned = self.turned(contrast)
        shifted = FixedEffects(self.given.beta / self.given.unit + self.fixed.beta, self.fixed.plain, self.fixed.slopes)
        if self.small is None:
            return satterthwaite.joint(self.found, shifted, turned)
        return kenward_roger.joint(shifted, self.small, turned)


@dataclass(frozen=True, kw_only=True)
class LinearFit:
    """A fitted linear mixed model; `str()` is one sentence per coefficient and one per grouping factor.

    coefficients: of the fixed effects, in the order of the design matrix.
    components: standard deviations and correlations per term of random effects.  residual_sd: in the unit of y.
    covariance: (p, p) of the fixed effects, adjusted under Kenward-Roger.
    criterion: -2 log (restricted) likelihood.  aic: criterion + 2 parameters.
    parameters: fixed effects, entries of the covariances, and the residual variance.
    converged: whether the gradient vanishes and the criterion curves up around it.
    singular: whether a covariance has a direction without variance.
    """

    coefficients: tuple[Coefficient, ...]
    components: tuple[Component, ...]
    residual_sd: float
    covariance: FloatArray = field(compare=False)
    criterion: float
    log_likelihood: float
    aic: float
    parameters: int
    reml: bool
    rows: int
    converged: bool
    singular: bool
    method: str
    level: float
    _inference: Inference = field(repr=False, compare=False)
    _spans: Mapping[str, tuple[int, ...]] = field(repr=False)
    _variances: tuple[float, ...] = field(repr=False)

    def __str__(self) -> str:
        kind = "REML" if self.reml else "ML"
        state = f"{kind} criterion = {self.criterion:.2f}, {self.rows} rows"
        notes = [] if self.converged else ["NOT CONVERGED"]
        notes += ["singular: a variance or a direction of effects is zero"] if self.singular else []
        residual = f"Residual: SD = {self.residual_sd:.4g} ({', '.join([state, *notes])})"
        return "\n".join([*map(str, self.coefficients), *map(str, self.components), residual])

    def as_rows(self) -> list[dict[str, Cell]]:
        """Return one row of a verdicts table per coefficient."""
        return [coefficient.as_row() for coefficient in self.coefficients]

    def coefficient(self, name: str) -> Coefficient:
        """Return the coefficient called `name`.

        Raises:
            UnknownName: when there is none.
        """
        return self.coefficients[position(name, (c.name for c in self.coefficients), "fixed effect")]

    @property
    def terms(self) -> tuple[TermTest, ...]:
        """Return the F test of each term.

        Raises:
            DataError: as `term`.
        """
        return tuple(self.term(name) for name in self._spans)

    def term(self, name: str) -> TermTest:
        """Return the F test that all coefficients of the term called `name` are zero.

        Raises:
            UnknownName: when there is none.
            DataError: when Kenward-Roger's moments of the test do not exist, as can be with very few levels.
        """
        position(name, self._spans, "term")
        return self.test(np.eye(len(self.coefficients))[list(self._spans[name])], name)

    def contrast(self, parts: Mapping[str, float], name: str = "contrast") -> Coefficient:
        """Return the t test of a sum of coefficients, each times its part.

        Raises:
            UnknownName: for a coefficient that there is not.
            DataError: when all parts are zero.
        """
        row = np.zeros(len(self.coefficients))
        for each, part in parts.items():
            row[position(each, (c.name for c in self.coefficients), "fixed effect")] = part
        if not row.any():
            raise DataError(f"The contrast {name!r} has no part that is not zero.")
        return self._coefficient(name, row)

    def test(self, matrix: npt.ArrayLike, name: str = "contrast") -> TermTest:
        """Return the F test that every row of a (d, coefficients) contrast matrix is zero.

        Raises:
            DataError: for another shape, or rows that are linearly dependent.
        """
        rows = np.atleast_2d(np.asarray(matrix, dtype=np.float64))
        if rows.ndim != 2 or rows.shape[1] != len(self.coefficients):
            raise DataError(f"The contrast has shape {rows.shape}; (rows, {len(self.coefficients)}) is needed.")
        if np.linalg.matrix_rank(rows) < len(rows):
            raise DataError(f"The {len(rows)} rows of the contrast are linearly dependent.")
        found = self._inference.joint(rows)
        p = upper_tail(found.statistic, found.df1, found.df2)
        n = self.coefficients[0].n
        return TermTest(
            name=name, statistic=found.statistic, df1=found.df1, df2=found.df2, pvalue=p, n=n, method=self._noted
        )

    def icc(self, group: str) -> float:
        """Return the share of the variance of a response that lies between the levels of `group`.

        Formula:  ICC = s_group / (sum of s over groups + sigma^2),  s = mean over rows of z' Sigma z.
        Source: Johnson 2014, Methods Ecol Evol 5:944; for random intercepts s is their variance (Shrout & Fleiss 1979).

        Raises:
            UnknownName: when no such grouping factor is in the model.
        """
        groups = [part.group for part in self.components]
        position(group, groups, "grouping factor")
        own = sum(s for s, name in zip(self._variances, groups, strict=True) if name == group)
        return own / (sum(self._variances) + self.residual_sd**2)

    @property
    def _noted(self) -> str:
        return noted(self.method, converged=self.converged, singular=self.singular)

    def _coefficient(self, name: str, row: FloatArray) -> Coefficient:
        return _coefficient(self._inference, name, row, self.level, self.components[0].levels, self._noted)


def lmm(
    data: Table,
    fixed: str,
    random: str | Sequence[str],
    *,
    df: Method = "kenward-roger",
    reml: bool = True,
    level: float = 0.95,
) -> LinearFit:
    """Return the linear mixed model of the rows of `data`, a table or a mapping from names to (rows,) columns.

    Model:  y = X beta + Z u + e,  u ~ N(0, Sigma) per level of each grouping factor,  e ~ N(0, sigma^2 I).
    fixed: "y ~ terms"; factors get treatment contrasts, the first level in sorted order being the reference, which
    `C(arm, contr.treatment(base='placebo'))` changes.
    random: "effects | group" with correlated, "effects || group" with uncorrelated effects; a list of them for crossed
    factors; `a:b` combines two columns, `a/b` nests b in a.
    df: of t and F tests; Kenward-Roger also adjusts the covariance of the fixed effects, and needs REML.
    Source: Bates et al. 2015, J Stat Softw 67(1); Kenward & Roger 1997, Biometrics 53:983;
    Halekoh & Hojsgaard 2014, J Stat Softw 59(9); Giesbrecht & Burns 1985; Kuznetsova et al. 2017, J Stat Softw 82(13).

    Raises:
        DataError: for missing values, a factor with one level, a constant response, dependent fixed effects, as many
            random effects as rows, a formula that is none, or too few levels for Kenward-Roger's moments to exist.
        UnknownName: for a column that the data do not have, or an unknown method.
        OutOfRange: for Kenward-Roger without REML, or a level outside (0, 1).

    >>> sleep = {"patient": [1, 1, 2, 2, 3, 3, 4, 4], "drug": ["a", "b"] * 4,
    ...          "hours": [0.7, 1.9, -1.6, 0.8, -0.2, 1.1, -1.2, 0.1]}
    >>> fit = lmm(sleep, "hours ~ drug", "1 | patient")
    >>> print(str(fit.coefficient("drug[T.b]")).partition(" (")[0])
    drug[T.b]: b = 1.55, SE = 0.28, 95% CI [0.65, 2.45], t(3.0) = 5.45, p = .012
    >>> print(fit.term("drug"))
    drug: F(1, 3.0) = 29.72, p = .012 (linear mixed model, Kenward-Roger, n = 4)
    """
    position(df, LABELS, "method for degrees of freedom")
    if df == "kenward-roger" and not reml:
        raise OutOfRange("Kenward-Roger is defined for REML and reml=False is given; ask for df='satterthwaite'.")
    frame = table(data)
    design = fixed_design(frame, fixed)
    response = numeric_response(design.response)
    terms = random_terms(frame, random)
    if not design.names:
        raise DataError(f"The formula {fixed!r} names no fixed effect; at least an intercept is needed.")
    given = products(design.matrix, response, terms, reml=reml)
    found = estimate(given)
    effects = kenward_roger.fixed_effects(given, found)
    small = kenward_roger.adjusted(given, found, effects) if df == "kenward-roger" else None
    return _fit(design, terms, Inference(given, found, effects, small), f"linear mixed model, {LABELS[df]}", level)


def _fit(design: Fixed, terms: tuple[Term, ...], inference: Inference, method: str, level: float) -> LinearFit:
    """Return the fit in the units of the data."""
    given, found = inference.given, inference.found
    n, identity = terms[0].levels, np.eye(len(design.names))
    label = noted(method, converged=found.converged, singular=found.singular)
    coefficients = tuple(
        _coefficient(inference, name, row, level, n, label) for name, row in zip(design.names, identity, strict=True)
    )
    covariances = _covariances(inference)
    criterion = found.solution.criterion + given.offset
    parameters = len(design.names) + len(pack(found.factors)) + 1
    return LinearFit(
        coefficients=coefficients,
        components=tuple(component(t.group, t.levels, t.names, s) for t, s in zip(terms, covariances, strict=True)),
        residual_sd=given.unit * float(np.sqrt(found.information.gamma[0])),
        covariance=given.unit**2 * given.back @ inference.covariance @ given.back.T,
        criterion=criterion,
        log_likelihood=-criterion / 2,
        aic=criterion + 2 * parameters,
        parameters=parameters,
        reml=given.reml,
        rows=given.rows,
        converged=found.converged,
        singular=found.singular,
        method=method,
        level=level,
        _inference=inference,
        _spans=design.terms,
        _variances=tuple(
            float(np.einsum("na,ab,nb->", t.columns, s, t.columns)) / given.rows
            for t, s in zip(terms, covariances, strict=True)
        ),
    )


def _covariances(inference: Inference) -> list[FloatArray]:
    """Return the (k, k) covariance of each term, in the units of the data."""
    given, found = inference.given, inference.found
    variance = float(found.information.gamma[0]) * given.unit**2
    return [
        variance * (factor @ factor.T) / np.outer(size, size)
        for factor, size in zip(found.factors, given.sizes, strict=True)
    ]


def _coefficient(inference: Inference, name: str, row: FloatArray, level: float, n: int, method: str) -> Coefficient:
    """Return the t test of a (p,) contrast."""
    value, se, df = inference.estimate(row)
    return Coefficient(
        estimate=value,
        ci=interval(value, se, df, level),
        statistic=value / se,
        pvalue=two_sided(value / se, df),
        n=n,
        method=method,
        name=name,
        se=se,
        df=df,
    )
