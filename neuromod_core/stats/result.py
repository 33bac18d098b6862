"""What a statistic returns: a frozen value that prints itself as a sentence and becomes a row of a table.

A result does not know its hypothesis, arm or scale: whoever asked for it adds those columns.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import NamedTuple, TypeAlias

Cell: TypeAlias = "str | int | float | None"


class Interval(NamedTuple):
    """A confidence interval at `level` (0.95 for 95 %)."""

    low: float
    high: float
    level: float

    def __str__(self) -> str:
        return f"{100 * self.level:g}% CI [{rounded(self.low)}, {rounded(self.high)}]"


@dataclass(frozen=True, kw_only=True)
class Result:
    """Outcome of one test.

    estimate: mean difference, in the unit of the data.
    ci: confidence interval of the estimate, None when the method gives none.
    statistic: studentised; infinite when differences that all agree are tested by sign flips.
    pvalue: unadjusted, above 0.
    n: number of units.
    """

    estimate: float
    ci: Interval | None
    statistic: float
    pvalue: float
    n: int
    method: str

    def __str__(self) -> str:
        return f"{', '.join(self._clauses())} ({self.method}, n = {self.n})"

    def as_row(self) -> dict[str, Cell]:
        """Return the row of a verdicts table: the same columns for every result, None where there is no value.

        An infinite statistic has no value in a table.
        """
        return {
            "estimate": self.estimate,
            "ci_low": self.ci.low if self.ci else None,
            "ci_high": self.ci.high if self.ci else None,
            "g_z": None,
            "statistic": self.statistic if math.isfinite(self.statistic) else None,
            "p": self.pvalue,
            "p_adj": None,
            "n": self.n,
            "method": self.method,
        }

    def _clauses(self) -> list[str]:
        """Return what the sentence says, clause by clause."""
        interval = [str(self.ci)] if self.ci else []
        statistic = f"t({self.n - 1}) = {rounded(self.statistic)}"
        return [f"M = {rounded(self.estimate)}", *interval, statistic, probability("p", self.pvalue)]


@dataclass(frozen=True, kw_only=True)
class Estimate:
    """A number that is reported with its interval and tested against nothing.

    symbol: what it is called in a sentence, such as "alpha".
    ci: None when the method gives none.
    n: number of units.
    """

    symbol: str
    estimate: float
    ci: Interval | None
    n: int
    method: str

    def __str__(self) -> str:
        clauses = [f"{self.symbol} = {rounded(self.estimate)}", *([str(self.ci)] if self.ci else [])]
        return f"{', '.join(clauses)} ({self.method}, n = {self.n})"

    def as_row(self) -> dict[str, Cell]:
        """Return the row of a verdicts table: the columns of a test, None where an estimate has no value."""
        return {
            "estimate": self.estimate,
            "ci_low": self.ci.low if self.ci else None,
            "ci_high": self.ci.high if self.ci else None,
            **dict.fromkeys(("g_z", "statistic", "p", "p_adj")),
            "n": self.n,
            "method": self.method,
        }


@dataclass(frozen=True, kw_only=True)
class Named(Result):
    """A test of something else than a mean by t: `symbol` names the estimate, `label` the statistic."""

    symbol: str
    label: str

    def _clauses(self) -> list[str]:
        """Return what the sentence says, clause by clause."""
        interval = [str(self.ci)] if self.ci else []
        statistic = f"{self.label} = {rounded(self.statistic)}"
        return [f"{self.symbol} = {rounded(self.estimate)}", *interval, statistic, probability("p", self.pvalue)]


@dataclass(frozen=True, kw_only=True)
class Paired(Result):
    """A paired t test with its effect sizes:  d_z = mean / SD of the differences,  g_z = J d_z (None for two units)."""

    d_z: float
    g_z: float | None

    def as_row(self) -> dict[str, Cell]:
        """Return the row of a verdicts table."""
        return {**super().as_row(), "g_z": self.g_z}

    def _clauses(self) -> list[str]:
        return [*super()._clauses(), *([] if self.g_z is None else [f"g_z = {rounded(self.g_z)}"])]


@dataclass(frozen=True, kw_only=True)
class Equivalence(Result):
    """Two one-sided tests against -margin and +margin: `pvalue` is the larger of the two, `statistic` belongs to it."""

    margin: float
    p_lower: float
    p_upper: float


@dataclass(frozen=True, kw_only=True)
class Adjusted(Result):
    """A test within a family of `family` hypotheses: `p_adj` controls the family-wise error."""

    p_adj: float
    family: int

    def as_row(self) -> dict[str, Cell]:
        """Return the row of a verdicts table."""
        return {**super().as_row(), "p_adj": self.p_adj}

    def _clauses(self) -> list[str]:
        return [*super()._clauses(), f"{probability('adjusted p', self.p_adj)} of {self.family}"]


def rounded(value: float) -> str:
    """Return two decimals, or two digits for a small value that would vanish."""
    return f"{value:.2f}" if value == 0 or abs(value) >= 0.095 else f"{value:.2g}"


def probability(name: str, value: float) -> str:
    """Return a probability in APA style: three decimals without the leading zero."""
    return f"{name} < .001" if value < 0.001 else f"{name} = {value:.3f}".replace("= 0.", "= .")
