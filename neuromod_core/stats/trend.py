"""Several arms or doses within a unit: do they differ at all, and do they rise with the dose?

All permutation tests here rearrange the scores within each unit, on its own: the null hypothesis is that a unit's arms
are exchangeable.
"""

from __future__ import annotations

import itertools
import math
import sys
from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
from scipy.special import fdtrc
from scipy.stats import rankdata

from neuromod_core.kernel.errors import DataError
from neuromod_core.stats.arrangements import Alternative, within_rows
from neuromod_core.stats.result import Named, Result
from neuromod_core.stats.sample import FloatArray, grid, vector
from neuromod_core.stats.signflip import sign_flip


@dataclass(frozen=True, kw_only=True)
class Friedman(Named):
    """Friedman's test: `pvalue` is by permutation, `p_f` from the F distribution, `estimate` Kendall's W."""

    p_f: float


def friedman(scores: npt.ArrayLike, *, draws: int = 9_999, generator: np.random.Generator) -> Friedman:
    """Return the test that (units, arms) scores do not depend on the arm, by ranks within the unit, ties averaged.

    Formula:  with n units, k arms and rank sums R_j,
        chi2 = (k - 1) sum_j (R_j - n (k + 1) / 2)^2 / (sum of squared ranks - n k (k + 1)^2 / 4),
        W = chi2 / (n (k - 1)),
        F = (n - 1) chi2 / (n (k - 1) - chi2)  on  k - 1 and (n - 1)(k - 1)  degrees of freedom.
    p rearranges ranks within units, all (k!)^n ways up to 2^16, else `draws` random ones.
    Source: Friedman 1937; Iman & Davenport 1980, Communications in Statistics A 9:571.

    Raises:
        DataError: for fewer than two units or arms, values that are not finite, or units without any spread.
        OutOfRange: for fewer than one draw.

    >>> scores = [[1.0, 2.0, 4.0], [2.0, 3.0, 3.5], [0.5, 0.7, 2.0], [1.0, 0.9, 3.0], [2.0, 2.5, 2.7]]
    >>> print(friedman(scores, generator=np.random.default_rng(0)))
    W = 0.84, F(2, 8) = 21.00, p = .008 (Friedman, all 7776 arrangements, n = 5)
    """
    ranks = _ranks(scores)
    n, k = ranks.shape
    centred = ranks - (k + 1) / 2

    def spread(tables: FloatArray) -> FloatArray:
        total: FloatArray = np.square(tables.sum(axis=-2)).sum(axis=-1)
        return total

    observed = float(spread(centred))
    null = within_rows(centred, spread, draws, generator)
    w = observed / (n * float(np.square(centred).sum()))  # 1 - w is exactly 0 when all units agree
    f = (n - 1) * w / (1 - w) if w < 1 - 1e-12 else math.inf
    return Friedman(
        symbol="W",
        estimate=w,
        ci=None,
        label=f"F({k - 1}, {(n - 1) * (k - 1)})",
        statistic=f,
        pvalue=null.p(observed, "greater"),
        p_f=max(float(fdtrc(k - 1, (n - 1) * (k - 1), f)), sys.float_info.min),
        n=n,
        method=f"Friedman, {null}",
    )


def page(
    scores: npt.ArrayLike,
    *,
    alternative: Alternative = "greater",
    draws: int = 9_999,
    generator: np.random.Generator,
) -> Named:
    """Return Page's test that (units, doses) scores rise from column to column: doses in rising order.

    Formula:  L = sum_j j R_j,  R_j the sum over units of the rank of dose j.  The estimate is the mean over units of
    the rank correlation with dose,  rho = 12 (L - n k (k + 1)^2 / 4) / (n k (k^2 - 1)).  "less" tests a fall.
    p as in `friedman`.
    Source: Page 1963, Journal of the American Statistical Association 58:216.

    Raises:
        DataError: for fewer than two units or doses, values that are not finite, or units without any spread.
        OutOfRange: for fewer than one draw.
        UnknownName: for another alternative.

    >>> scores = [[1.0, 2.0, 4.0], [2.0, 3.0, 3.5], [0.5, 0.7, 2.0], [1.0, 0.9, 3.0], [2.0, 2.5, 2.7]]
    >>> print(page(scores, generator=np.random.default_rng(0)))
    rho = 0.90, L = 69.00, p = .001 (Page's trend, greater, all 7776 arrangements, n = 5)
    """
    ranks = _ranks(scores)
    n, k = ranks.shape
    weights = np.arange(k) - (k - 1) / 2

    def trend(tables: FloatArray) -> FloatArray:
        total: FloatArray = (tables @ weights).sum(axis=-1)
        return total

    most = n * k * (k**2 - 1) / 12
    found = _rising(ranks, trend, most, ("rho", "L", "Page"), alternative, draws, generator)
    return replace(found, statistic=found.statistic + n * k * (k + 1) ** 2 / 4)


def jonckheere(
    scores: npt.ArrayLike,
    *,
    alternative: Alternative = "greater",
    draws: int = 9_999,
    generator: np.random.Generator,
) -> Named:
    """Return Jonckheere's test that (units, doses) scores rise from column to column, by pairs within the unit.

    Formula:  J = number of pairs of doses a < b in a unit with y_a < y_b, ties counting one half, summed over units.
    The estimate is the mean over units of Kendall's  tau = (rising - falling pairs) / (k (k - 1) / 2).  "less" tests a
    fall. p as in `friedman`.
    Source: Jonckheere 1954, British Journal of Statistical Psychology 7:93.

    Raises:
        DataError: for fewer than two units or doses, values that are not finite, or units without any spread.
        OutOfRange: for fewer than one draw.
        UnknownName: for another alternative.

    >>> scores = [[1.0, 2.0, 4.0], [2.0, 3.0, 3.5], [0.5, 0.7, 2.0], [1.0, 0.9, 3.0], [2.0, 2.5, 2.7]]
    >>> print(jonckheere(scores, generator=np.random.default_rng(0)))
    tau = 0.87, J = 14.00, p = .001 (Jonckheere's trend, greater, all 7776 arrangements, n = 5)
    """
    ranks = _ranks(scores)
    n, k = ranks.shape
    pairs = list(itertools.combinations(range(k), 2))

    def rise(tables: FloatArray) -> FloatArray:
        signs = (np.sign(tables[..., b] - tables[..., a]).sum(axis=-1) for a, b in pairs)
        return np.asarray(sum(signs), dtype=np.float64)

    most = n * len(pairs)
    found = _rising(ranks, rise, most, ("tau", "J", "Jonckheere"), alternative, draws, generator)
    return replace(found, statistic=(found.statistic + most) / 2)


def dose_trend(
    scores: npt.ArrayLike,
    doses: npt.ArrayLike,
    *,
    minimum: float = 0.0,
    alternative: Alternative = "two-sided",
    draws: int = 100_000,
    generator: np.random.Generator,
) -> Result:
    """Return the sign-flip test that (units, doses) scores change with the dose: the estimate is the mean slope.

    Formula:  slope_u = sum_j (x_j - mean x) y_uj / sum_j (x_j - mean x)^2,  in score per unit of dose; `sign_flip`
    then tests the slopes, `minimum` in the same unit. At least three doses, the undosed arm being dose 0.
    Source: Senn 2002, Cross-over Trials in Clinical Research, chapter 9; Fisher 1935.

    Raises:
        DataError: for fewer than two units, three different doses, or as many doses as columns; for values that are
            not finite.
        OutOfRange: for a negative minimum, or fewer than one draw.
        UnknownName: for another alternative.

    >>> scores = [[0.1, 1.2, 2.0], [0.3, 0.9, 2.2], [0.0, 1.4, 1.8], [0.2, 0.7, 2.5], [0.1, 1.1, 1.9], [0.4, 1.0, 2.1]]
    >>> print(dose_trend(scores, [0.0, 0.5, 1.0], generator=np.random.default_rng(0)))
    M = 1.90, t(5) = 22.19, p = .031 (linear trend over 3 doses, sign-flip, mean != 0, all 64 flips, n = 6)
    """
    table, dose = grid(scores, axes=("units", "doses")), vector(doses, "doses")
    if dose.size != table.shape[1]:
        raise DataError(f"There are {dose.size} doses for {table.shape[1]} columns of scores; one each is needed.")
    if np.unique(dose).size < 3:
        raise DataError(f"{np.unique(dose).size} different doses have no trend to test; at least 3 are needed.")
    away = dose - dose.mean()
    slopes = table @ away / np.square(away).sum()
    test = sign_flip(slopes, minimum=minimum, alternative=alternative, draws=draws, generator=generator)
    return replace(test, method=f"linear trend over {dose.size} doses, {test.method}")


def _rising(
    ranks: FloatArray,
    statistic: Callable[[FloatArray], FloatArray],
    most: float,
    names: tuple[str, str, str],
    alternative: Alternative,
    draws: int,
    generator: np.random.Generator,
) -> Named:
    """Return the permutation test that a statistic, centred at zero and at most `most`, is larger than by chance.

    names: of the estimate, which is the statistic as a share of `most`, of the statistic, and of the test.
    """
    observed = float(statistic(ranks))
    null = within_rows(ranks, statistic, draws, generator)
    symbol, label, test = names
    return Named(
        symbol=symbol,
        estimate=observed / most,
        ci=None,
        label=label,
        statistic=observed,
        pvalue=null.p(observed, alternative),
        n=len(ranks),
        method=f"{test}'s trend, {alternative}, {null}",
    )


def _ranks(scores: npt.ArrayLike) -> FloatArray:
    """Return (units, arms) ranks within the unit, ties averaged, or raise when no unit has different scores."""
    table = grid(scores)
    ranks: FloatArray = np.asarray(rankdata(table, axis=1), dtype=np.float64)
    if not np.ptp(ranks, axis=1).any():
        raise DataError(f"Each of {len(table)} units scores the same in every arm: there is no order to test.")
    return ranks
