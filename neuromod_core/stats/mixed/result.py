"""What a mixed model returns: coefficients, tests of terms, variance components; each prints itself and is a row."""

from __future__ import annotations

import difflib
import math
import sys
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from scipy.special import chdtrc, fdtrc, ndtr, ndtri, stdtr, stdtrit

from neuromod_core.kernel.errors import UnknownName
from neuromod_core.stats.result import Cell, Interval, Result, probability, rounded
from neuromod_core.stats.sample import FloatArray, open_unit


@dataclass(frozen=True, kw_only=True)
class Coefficient(Result):
    """One fixed effect or one contrast of them, with a t on `df` degrees of freedom.

    statistic: estimate / se, or the signed root of the likelihood ratio where the method says so.

    name: of the column of the design matrix, or of the contrast.
    se: standard error, in the unit of the estimate.
    df: denominator degrees of freedom.
    n: number of levels of the first grouping factor (units), not of rows.
    """

    name: str
    se: float
    df: float

    def __str__(self) -> str:
        return f"{self.name}: {super().__str__()}"

    def _clauses(self) -> list[str]:
        distribution = f"t({self.df:.1f})" if math.isfinite(self.df) else "z"
        return [
            f"b = {rounded(self.estimate)}",
            f"SE = {rounded(self.se)}",
            *([str(self.ci)] if self.ci else []),
            f"{distribution} = {rounded(self.statistic)}",
            probability("p", self.pvalue),
        ]


@dataclass(frozen=True, kw_only=True)
class LatentCoefficient(Coefficient):
    """A coefficient of a cumulative-link model; `latent` is it in standard deviations of the latent variable."""

    latent: float

    def _clauses(self) -> list[str]:
        return [*super()._clauses(), f"{rounded(self.latent)} latent SD"]


@dataclass(frozen=True, kw_only=True)
class TermTest:
    """A test that all columns of a term, or all rows of a contrast matrix, are zero.

    statistic: F on (df1, df2), scaled as its method says; chi-squared on df1 where df2 is infinite.
    """

    name: str
    statistic: float
    df1: int
    df2: float
    pvalue: float
    n: int
    method: str

    def __str__(self) -> str:
        law = f"F({self.df1}, {self.df2:.1f})" if math.isfinite(self.df2) else f"chi2({self.df1})"
        p = probability("p", self.pvalue)
        return f"{self.name}: {law} = {rounded(self.statistic)}, {p} ({self.method}, n = {self.n})"

    def as_row(self) -> dict[str, Cell]:
        """Return the row of a verdicts table: a joint test has no single estimate, so those cells are None."""
        empty = dict.fromkeys(("estimate", "ci_low", "ci_high", "g_z"))
        return {
            **empty,
            "statistic": self.statistic,
            "p": self.pvalue,
            "p_adj": None,
            "n": self.n,
            "method": self.method,
        }


@dataclass(frozen=True, kw_only=True)
class Component:
    """Standard deviations of the effects of one grouping factor and their correlations, (k,) and (k, k).

    A correlation with an effect whose standard deviation is zero is NaN.
    """

    group: str
    levels: int
    names: tuple[str, ...]
    sds: tuple[float, ...]
    correlations: tuple[tuple[float, ...], ...]

    def __str__(self) -> str:
        parts = [f"SD({name}) = {rounded(sd)}" for name, sd in zip(self.names, self.sds, strict=True)]
        pairs = [(i, j) for i in range(len(self.names)) for j in range(i)]
        parts += [f"r({self.names[j]}, {self.names[i]}) = {rounded(self.correlations[i][j])}" for i, j in pairs]
        return f"{self.group}: {', '.join(parts)} ({self.levels} levels)"


def component(group: str, levels: int, names: tuple[str, ...], covariance: FloatArray) -> Component:
    """Return the component with this (k, k) covariance."""
    sds = np.sqrt(np.diag(covariance))
    scale = np.where(sds > 0, sds, np.nan)
    correlations = np.clip(covariance / np.outer(scale, scale), -1.0, 1.0)  # rounding must not make them impossible
    rows = tuple(tuple(float(value) for value in row) for row in correlations)
    return Component(group=group, levels=levels, names=names, sds=tuple(float(sd) for sd in sds), correlations=rows)


def noted(method: str, *, converged: bool, singular: bool) -> str:
    """Return the method with what a reader of a single row must know of the fit that it came from."""
    notes = [note for note, holds in (("singular fit", singular), ("NOT CONVERGED", not converged)) if holds]
    return ", ".join([method, *notes])


def two_sided(statistic: float, df: float) -> float:
    """Return P(|T| >= |statistic|) for Student's T, normal where df is infinite, never zero."""
    tail = stdtr(df, -abs(statistic)) if math.isfinite(df) else ndtr(-abs(statistic))
    return max(2 * float(tail), sys.float_info.min)


def interval(estimate: float, se: float, df: float, level: float) -> Interval:
    """Return the t interval, or the normal one where df is infinite."""
    upper = (1 + open_unit(level, "The confidence level")) / 2
    half = float(stdtrit(df, upper) if math.isfinite(df) else ndtri(upper)) * se
    return Interval(estimate - half, estimate + half, level)


def upper_tail(statistic: float, df1: int, df2: float) -> float:
    """Return P(F >= statistic), or P(chi2 >= statistic) where df2 is infinite, never zero."""
    tail = fdtrc(df1, df2, statistic) if math.isfinite(df2) else chdtrc(df1, statistic)
    return max(float(tail), sys.float_info.min)


def position(name: str, known: Iterable[str], kind: str) -> int:
    """Return the index of `name`.

    Raises:
        UnknownName: when there is none of that name.
    """
    names = list(known)
    if name not in names:
        near = difflib.get_close_matches(name, names, n=1)
        hint = f" Did you mean {near[0]!r}?" if near else ""
        raise UnknownName(f"No {kind} is called {name!r}; there are {', '.join(names) or 'none'}.{hint}")
    return names.index(name)
