"""How far scores repeat themselves: over raters, paraphrases or option orders (icc), and over items (alpha, halves).

Say over what the units vary: the reliability of contexts under one model is not that of models.
"""

from __future__ import annotations

import itertools
import math
import sys
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import Literal, NamedTuple, TypeAlias

import numpy as np
import numpy.typing as npt
from scipy.special import fdtrc, fdtri

from neuromod_core.kernel.errors import DataError, OutOfRange
from neuromod_core.kernel.register import unknown
from neuromod_core.stats.arrangements import EXACT, check_draws
from neuromod_core.stats.result import Estimate, Interval, Named
from neuromod_core.stats.sample import FloatArray, grid, open_unit

Form: TypeAlias = Literal["1,1", "2,1", "3,1", "1,k", "2,k", "3,k"]

FORMS: tuple[Form, ...] = ("1,1", "2,1", "3,1", "1,k", "2,k", "3,k")
_BLOCK = 4096  # splits made at once
SOME = 200  # of the halvings, in a bootstrap sample
ENOUGH = 0.95  # of bootstrap samples must have a value


class Item(NamedTuple):
    """One item of a scale: its correlation with the sum of the others, and alpha without it (None for two items)."""

    r: float
    alpha_without: float | None


class _Anova(NamedTuple):
    """Mean squares of a (targets, raters) table: between targets, within them, between raters, residual."""

    targets: float
    within: float
    raters: float
    error: float
    n: int
    k: int


def icc(ratings: npt.ArrayLike, form: Form = "2,1", *, level: float = 0.95) -> Named:
    """Return an intraclass correlation of (targets, raters) ratings in one of the six forms of Shrout and Fleiss.

    With mean squares B between targets, W within, J between raters and E residual, n targets and k raters:
        "1,1"  (B - W) / (B + (k - 1) W)                         each target has raters of its own
        "2,1"  (B - E) / (B + (k - 1) E + k (J - E) / n)         raters are a sample; their level counts: agreement
        "3,1"  (B - E) / (B + (k - 1) E)                         these raters only; their level does not: consistency
        "1,k"  (B - W) / B;   "2,k"  (B - E) / (B + (J - E) / n);   "3,k"  (B - E) / B     the same of the mean of k
    F = B / W (form 1) or B / E tests that it is zero, one-sided. An estimate below zero is reported as it is.
    Source: Shrout & Fleiss 1979, Psychological Bulletin 86:420 (estimates, F and intervals).

    Raises:
        DataError: for fewer than two targets or raters, values that are not finite, no residual to compare with, or
            targets that all have the same mean.
        OutOfRange: for a level outside (0, 1).
        UnknownName: for another form.

    >>> ratings = [[9, 2, 5, 8], [6, 1, 3, 2], [8, 4, 6, 8], [7, 1, 2, 6], [10, 5, 6, 9], [6, 2, 4, 7]]
    >>> print(icc(ratings, "3,k"))
    ICC(3,k) = 0.91, 95% CI [0.68, 0.99], F(5, 15) = 11.03, p < .001 (Shrout-Fleiss, 4 raters, n = 6)
    """
    if form not in FORMS:
        raise unknown("intraclass correlation", form, list(FORMS))
    table = _anova(grid(ratings, "ratings", ("targets", "raters")))
    tail = (1 - open_unit(level, "The confidence level")) / 2
    n, k = table.n, table.k
    against, df = (table.within, n * (k - 1)) if form[0] == "1" else (table.error, (n - 1) * (k - 1))
    f = table.targets / against
    bounds = _agreement_bounds(table, tail) if form[0] == "2" else _ratio_bounds(f, n - 1, df, k, tail)
    single = _agreement(table) if form[0] == "2" else (f - 1) / (f + k - 1)
    low, high = (_averaged(bound, k) for bound in bounds) if form[2] == "k" else bounds
    return Named(
        symbol=f"ICC({form})",
        estimate=_averaged(single, k) if form[2] == "k" else single,
        ci=Interval(low, high, level),
        label=f"F({n - 1}, {df})",
        statistic=f,
        pvalue=max(float(fdtrc(n - 1, df, f)), sys.float_info.min),
        n=n,
        method=f"Shrout-Fleiss, {k} raters",
    )


def alpha(items: npt.ArrayLike, *, level: float = 0.95) -> Estimate:
    """Return Cronbach's alpha of (units, items) scores, all keyed in one direction.

    Formula:  alpha = k / (k - 1) (1 - sum of item variances / variance of the sum),  with the limits
    1 - (1 - alpha) F_(1-a/2)  and  1 - (1 - alpha) F_(a/2)  on n - 1 and (n - 1)(k - 1) degrees of freedom. It equals
    ICC(3,k). A lower bound of reliability when errors are uncorrelated; no proof of one dimension.
    Source: Cronbach 1951; Feldt 1965, Psychometrika 30:357.

    Raises:
        DataError: for fewer than two units or items, values that are not finite, or a sum without spread.
        OutOfRange: for a level outside (0, 1).

    >>> ratings = [[9, 2, 5, 8], [6, 1, 3, 2], [8, 4, 6, 8], [7, 1, 2, 6], [10, 5, 6, 9], [6, 2, 4, 7]]
    >>> print(alpha(ratings))
    alpha = 0.91, 95% CI [0.68, 0.99] (Cronbach, 4 items, n = 6)
    """
    table = grid(items, "items", ("units", "items"))
    tail = (1 - open_unit(level, "The confidence level")) / 2
    n, k = table.shape
    value = _alpha(covariance(table))
    low, high = (1 - (1 - value) * float(fdtri(n - 1, (n - 1) * (k - 1), share)) for share in (1 - tail, tail))
    return Estimate(symbol="alpha", estimate=value, ci=Interval(low, high, level), n=n, method=f"Cronbach, {k} items")


def split_half(
    items: npt.ArrayLike,
    *,
    draws: int = 10_000,
    level: float = 0.95,
    resamples: int = 0,
    generator: np.random.Generator,
) -> Estimate:
    """Return the reliability of (units, items) scores from their halves, averaged over the ways to halve them.

    Formula:  r the correlation of the sums of two halves (for odd k one has an item more);  2 r / (1 + r),  averaged
    over all halvings up to 2^16, else over `draws` random ones.
    resamples: of the units, for a percentile interval; 0: no interval; see `resampled`.
    Source: Spearman 1910; Brown 1910, British Journal of Psychology 3:271 and 3:296; Efron 1981 (the interval).

    Raises:
        DataError: for fewer than two units or items, values that are not finite, a half without spread, or halves that
            correlate at -1.
        OutOfRange: for fewer than one draw, too few resamples for the level, or a level outside (0, 1).

    >>> ratings = [[9, 2, 5, 8], [6, 1, 3, 2], [8, 4, 6, 8], [7, 1, 2, 6], [10, 5, 6, 9], [6, 2, 4, 7]]
    >>> print(split_half(ratings, generator=np.random.default_rng(0)))
    r_SB = 0.92 (split half, Spearman-Brown, all 3 halvings, n = 6)
    """
    check_draws(draws)
    table = grid(items, "items", ("units", "items"))
    shared = covariance(table)
    count = halvings(table.shape[1])
    splits = _every_half(table.shape[1]) if count <= EXACT else _random_halves(table.shape[1], draws, generator)
    halves = np.concatenate(list(splits))
    stepped = _spearman_brown(shared, halves)
    some = halves[:: -(-len(halves) // SOME)]
    which = f"all {count} halvings" if count <= EXACT else f"{draws} random halvings"
    return Estimate(
        symbol="r_SB",
        estimate=float(stepped.mean()),
        ci=resampled(
            table, lambda rows: float(_spearman_brown(covariance(rows), some).mean()), level, resamples, generator
        ),
        n=len(table),
        method=f"split half, Spearman-Brown, {which}",
    )


def resampled(
    table: FloatArray,
    statistic: Callable[[FloatArray], float],
    level: float,
    resamples: int,
    generator: np.random.Generator | None,
) -> Interval | None:
    """Return the percentile interval of a statistic of (units, items) over bootstrap samples of the units.

    None for no resamples, and where more than one sample in twenty has no value. It covers somewhat less than it
    says with few units.

    Raises:
        OutOfRange: for resamples without a generator or too few for the level, or a level outside (0, 1).
    """
    tail = (1 - open_unit(level, "The confidence level")) / 2
    if resamples == 0:
        return None
    if generator is None or resamples < 1 / tail:
        raise OutOfRange(
            f"An interval at level {level:g} needs a generator and at least {math.ceil(1 / tail)} resamples; "
            f"{resamples} {'without a generator ' if generator is None else ''}given."
        )
    found = []
    for _ in range(resamples):
        with suppress(DataError):  # a sample of few distinct units may have no value
            found.append(statistic(table[generator.integers(len(table), size=len(table))]))
    if len(found) < ENOUGH * resamples:
        return None
    low, high = np.quantile(found, [tail, 1 - tail])
    return Interval(float(low), float(high), level)


def item_total(items: npt.ArrayLike) -> tuple[Item, ...]:
    """Return, for each of (units, items), its correlation with the sum of the other items and alpha without it.

    Formula:  r_j = (cov(x_j, T) - var(x_j)) / (SD(x_j) SD(T - x_j)),  T the sum of all items.
    Source: Nunnally & Bernstein 1994, Psychometric Theory, chapter 8.

    Raises:
        DataError: for fewer than two units or items, values that are not finite, or an item, or the rest of one,
            without spread.

    >>> [round(item.r, 2) for item in item_total([[1, 2, 3], [2, 2, 5], [3, 4, 1], [4, 5, 2], [5, 5, 4]])]
    [0.76, 0.39, -0.26]
    """
    table = grid(items, "items", ("units", "items"))
    shared = covariance(table)
    own, total = np.diag(shared), shared.sum(axis=1)
    rest = total.sum() - 2 * total + own
    flat = (own <= 0) | (rest <= 1e-12 * np.abs(shared).sum())
    if flat.any():
        raise DataError(f"Item {int(flat.argmax())}, or the sum of the others, is constant over {len(table)} units.")
    others = [np.delete(np.delete(shared, j, 0), j, 1) for j in range(len(own))]
    r = (total - own) / np.sqrt(own * rest)
    return tuple(
        Item(float(value), _alpha(other) if len(other) > 1 else None) for value, other in zip(r, others, strict=True)
    )


def covariance(table: FloatArray) -> FloatArray:
    """Return the covariances of (units, items): (items, items), exactly zero for an item that is constant."""
    away = table - table.mean(axis=0)
    away[:, np.ptp(table, axis=0) == 0] = 0.0
    product: FloatArray = away.T @ away / (len(table) - 1)
    return product


def halvings(size: int) -> int:
    """Return in how many ways `size` items fall into two halves, one of them larger by one for an odd size."""
    ways = math.comb(size, size // 2)
    return ways // 2 if size % 2 == 0 else ways


def _alpha(shared: FloatArray) -> float:
    """Return alpha from the covariances of at least two items."""
    k, total = len(shared), float(shared.sum())
    if total <= 1e-12 * float(np.abs(shared).sum()):
        raise DataError(f"The sum of {k} items is constant over the units: alpha has no variance to explain.")
    return k / (k - 1) * (1 - float(np.trace(shared)) / total)


def _anova(table: FloatArray) -> _Anova:
    """Return the mean squares of (targets, raters) ratings whose residual varies."""
    n, k = table.shape
    targets, raters = table.mean(axis=1) - table.mean(), table.mean(axis=0) - table.mean()
    residual = table - table.mean() - targets[:, None] - raters
    within, error = table - table.mean(axis=1, keepdims=True), float(np.square(residual).sum())
    if error <= 1e-24 * float(np.square(table).sum()):
        raise DataError(
            f"The ratings of {n} targets by {k} raters leave no residual: there is nothing to compare with."
        )
    if not (np.abs(targets) > 1e-12 * np.abs(table).max()).any():
        raise DataError(f"All {n} targets have the same mean rating: there are no differences to be reliable about.")
    return _Anova(
        targets=k * float(np.square(targets).sum()) / (n - 1),
        within=float(np.square(within).sum()) / (n * (k - 1)),
        raters=n * float(np.square(raters).sum()) / (k - 1),
        error=error / ((n - 1) * (k - 1)),
        n=n,
        k=k,
    )


def _agreement(table: _Anova) -> float:
    """Return ICC(2,1)."""
    b, _, j, e, n, k = table
    return (b - e) / (b + (k - 1) * e + k * (j - e) / n)


def _ratio_bounds(f: float, df1: int, df2: int, k: int, tail: float) -> tuple[float, float]:
    """Return the limits of ICC(1,1) or ICC(3,1) from their F ratio."""
    low = f / float(fdtri(df1, df2, 1 - tail))
    high = f * float(fdtri(df2, df1, 1 - tail))
    return (low - 1) / (low + k - 1), (high - 1) / (high + k - 1)


def _agreement_bounds(table: _Anova, tail: float) -> tuple[float, float]:
    """Return the limits of ICC(2,1), by Satterthwaite's degrees of freedom."""
    b, _, j, e, n, k = table
    rho, ratio = _agreement(table), j / e
    level = n * (1 + (k - 1) * rho) - k * rho
    numerator = (k - 1) * (n - 1) * (k * rho * ratio + level) ** 2
    df = numerator / ((n - 1) * (k * rho * ratio) ** 2 + level**2)
    upper, lower = float(fdtri(n - 1, df, 1 - tail)), float(fdtri(df, n - 1, 1 - tail))
    rest = k * j + (k * n - k - n) * e
    return n * (b - upper * e) / (upper * rest + n * b), n * (lower * b - e) / (rest + n * lower * b)


def _averaged(single: float, k: int) -> float:
    """Return the reliability of the mean of k from that of one (Spearman-Brown)."""
    return k * single / (1 + (k - 1) * single)


def _every_half(size: int) -> Iterator[FloatArray]:
    """Yield the halvings as masks, (splits, items), each once: for an even size the first item stays in its half."""
    fixed = size % 2 == 0
    chosen = itertools.combinations(range(int(fixed), size), size // 2 - int(fixed))
    while block := list(itertools.islice(chosen, _BLOCK)):
        half = np.zeros((len(block), size))
        np.put_along_axis(half, np.array(block, dtype=np.int64).reshape(len(block), -1), 1.0, axis=1)
        if fixed:
            half[:, 0] = 1.0
        yield half


def _random_halves(size: int, draws: int, generator: np.random.Generator) -> Iterator[FloatArray]:
    """Yield random halvings as masks, (splits, items)."""
    half = np.where(np.arange(size) < size // 2, 1.0, 0.0)
    for start in range(0, draws, _BLOCK):
        yield generator.permuted(np.broadcast_to(half, (min(_BLOCK, draws - start), size)), axis=1)


def _spearman_brown(shared: FloatArray, half: FloatArray) -> FloatArray:
    """Return 2 r / (1 + r) of each halving: (splits, items) to (splits,)."""
    with_half, with_other = half @ shared, (1 - half) @ shared
    one, other = (with_half * half).sum(axis=1), (with_other * (1 - half)).sum(axis=1)
    if min(float(one.min()), float(other.min())) <= 1e-12 * float(np.abs(shared).sum()):
        raise DataError("A half of the items has a constant sum over the units: halves cannot be correlated.")
    r = (with_half * (1 - half)).sum(axis=1) / np.sqrt(one * other)
    if float(r.min()) <= -1 + 1e-12:
        raise DataError("Two halves of the items correlate at -1: key all items in one direction.")
    stepped: FloatArray = 2 * r / (1 + r)
    return stepped
