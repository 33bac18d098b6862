"""The studentised bootstrap: an interval for a mean difference that keeps its coverage with few, skewed units.

One set of resamples serves many contrasts: how often each unit was drawn, times the sums and squares of every contrast,
is one matrix product. The product only orders the resamples. The two that bound an interval are summed again without
rounding, so that an interval does not depend on the processor that found it or on the contrasts beside it.
"""

from __future__ import annotations

import math
from typing import NamedTuple, TypeAlias

import numpy as np
import numpy.typing as npt

from neuromod_core.kernel.errors import DataError, OutOfRange
from neuromod_core.stats.result import Interval, Result
from neuromod_core.stats.sample import FloatArray, codes, matrix, open_unit, varying, vector

_Chosen: TypeAlias = npt.NDArray[np.unsignedinteger]

_CHUNK = 2**21  # resampled numbers held at once: 16 MB
_NARROW = 1e-6  # share of the variance below which a resample may be one of equal means


class _Clusters(NamedTuple):
    """What is resampled: the number of units of each cluster, (clusters,), and the sum of their differences.

    total: (clusters, contrasts).
    """

    size: FloatArray
    total: FloatArray


class _Spread(NamedTuple):
    """A mean over units and its standard error, clusters being independent."""

    mean: float
    error: float


def bootstrap_t(
    differences: npt.ArrayLike,
    *,
    cluster: npt.ArrayLike | None = None,
    level: float = 0.95,
    draws: int = 9_999,
    generator: np.random.Generator,
) -> Result:
    """Return the mean of (units,) differences with its bootstrap-t interval, units resampled with replacement.

    cluster: (units,), labels of units that are not independent, as contexts that share a vignette. Whole clusters are
    then resampled, and n counts them.

    Formula:  t*_b = (mean*_b - mean) / SE*_b;  ci = [mean - t*_(1 - a/2) SE, mean - t*_(a/2) SE], the quantiles being
    the k-th largest and smallest t* with k = (draws + 1) a / 2;  p = 2 (1 + #{t*_b at or beyond t}) / (draws + 1) on
    the nearer side, so p <= a exactly when the interval leaves out zero. A resample of equal means has infinite t*.
    With C clusters of N_c units and sums S_c,  SE^2 = C / (C - 1) sum (S_c - N_c mean)^2 / (sum N_c)^2,  which is
    Student's for clusters of one.
    Source: Efron 1981; Hall 1988, Annals of Statistics 16:927; Field & Welsh 2007, Journal of the Royal Statistical
    Society B 69:369.

    Raises:
        DataError: for fewer than two units or clusters, values that are not finite, labels of another length or
            missing, differences without spread, or so few distinct ones that the interval is unbounded.
        OutOfRange: for a level outside (0, 1), or too few draws for it.

    >>> print(bootstrap_t([1.2, 2.4, 1.3, 1.3, 0.0, 1.0, 1.8, 0.8], generator=np.random.default_rng(0)))
    M = 1.23, 95% CI [0.67, 1.80], t(7) = 4.93, p = .001 (bootstrap-t, 9999 draws, n = 8)
    """
    tail = _tail_rank(open_unit(level, "The confidence level"), draws)
    data = varying(vector(differences))
    within = "" if cluster is None else f" of clusters of {data.size} units"
    clusters = _clusters(data, cluster)
    (found,) = _results(clusters, level, tail, draws, generator, f"bootstrap-t, {draws} draws{within}")
    if isinstance(found, DataError):
        raise found
    return found


def bootstraps(
    differences: npt.ArrayLike, *, level: float = 0.95, draws: int = 9_999, generator: np.random.Generator
) -> tuple[Result | DataError, ...]:
    """Return `bootstrap_t` of each column of (units, contrasts) differences; one set of resamples serves all of them.

    A column that has no interval gets the error that `bootstrap_t` would raise in place of a result.

    Source: as `bootstrap_t`.

    Raises:
        DataError: for fewer than two units, no contrasts, or values that are not finite.
        OutOfRange: for a level outside (0, 1), or too few draws for it.

    >>> columns = [[1.2, 1.0], [2.4, 1.0], [1.3, 1.0], [1.3, 1.0], [0.0, 1.0], [1.0, 1.0], [1.8, 1.0], [0.8, 1.0]]
    >>> for found in bootstraps(columns, generator=np.random.default_rng(0)):
    ...     print(str(found)[:37])
    M = 1.23, 95% CI [0.67, 1.80], t(7) =
    All 8 differences are 1: without spre
    """
    tail = _tail_rank(open_unit(level, "The confidence level"), draws)
    data = matrix(differences)
    return _results(_Clusters(np.ones(len(data)), data), level, tail, draws, generator, f"bootstrap-t, {draws} draws")


def _clusters(data: FloatArray, labels: npt.ArrayLike | None) -> _Clusters:
    """Return (units,) differences by cluster, each unit its own when there are no labels."""
    if labels is None:
        return _Clusters(np.ones(data.size), data[:, None])
    code = codes(labels, data.size, "cluster labels")
    size, total = np.bincount(code).astype(np.float64), np.bincount(code, weights=data).astype(np.float64)
    if size.size < 2:
        raise DataError(f"All {data.size} units are in one cluster; at least 2 clusters are needed.")
    return _Clusters(size, total[:, None])


def _tail_rank(level: float, draws: int) -> int:
    """Return how many of the draws lie in each tail, or raise when not even one does."""
    rank = math.floor((draws + 1) * (1 - level) / 2 + 1e-9)
    if rank < 1:
        needed = math.ceil(2 / (1 - level) - 1e-9) - 1
        raise OutOfRange(f"{draws} draws cannot bound an interval at level {level}; it needs at least {needed}.")
    return rank


def _results(
    clusters: _Clusters, level: float, tail: int, draws: int, generator: np.random.Generator, method: str
) -> tuple[Result | DataError, ...]:
    """Return per contrast a result, or why there is none."""
    count, contrasts = clusters.total.shape
    chosen = generator.integers(count, size=(draws, count)).astype(np.min_scalar_type(count - 1))
    step = max(_CHUNK // draws, 1)
    parts = (_Clusters(clusters.size, clusters.total[:, start : start + step]) for start in range(0, contrasts, step))
    return tuple(
        _result(_Clusters(part.size, part.total[:, at]), column, chosen, level, tail, method)
        for part in parts
        for at, column in enumerate(_studentised(part, chosen).T)
    )


def _result(
    clusters: _Clusters, resampled: FloatArray, chosen: _Chosen, level: float, tail: int, method: str
) -> Result | DataError:
    """Return what the t* of one contrast, (draws,), say of its (clusters,) sums."""
    means = clusters.total / clusters.size
    try:
        varying(means)
    except DataError as error:
        return error
    mean, se = _spread(clusters.size, clusters.total)
    order = np.argpartition(resampled, [tail - 1, resampled.size - tail])
    ends = [order[-tail], order[tail - 1]]
    if not np.isfinite(resampled[ends]).all():
        what = "units" if (clusters.size == 1).all() else "clusters"
        return DataError(
            f"The bootstrap-t interval at level {level:g} is unbounded: too few of {means.size} {what} differ."
        )
    low, high = (mean - se * _t(clusters, chosen[end], mean) for end in ends)
    return Result(
        estimate=mean,
        ci=Interval(low, high, level),
        statistic=mean / se,
        pvalue=_two_sided(resampled, mean / se),
        n=means.size,
        method=method,
    )


def _spread(size: FloatArray, total: FloatArray) -> _Spread:
    """Return the mean over units of (clusters,) sums and its standard error, each rounded once."""
    units, count = math.fsum(size), size.size
    mean = math.fsum(total) / units
    return _Spread(mean, math.sqrt(count / (count - 1) * math.fsum((total - mean * size) ** 2)) / units)


def _t(clusters: _Clusters, chosen: _Chosen, mean: float) -> float:
    """Return the t* of one resample of (clusters,) sums."""
    resample = _spread(clusters.size[chosen], clusters.total[chosen])
    return (resample.mean - mean) / resample.error


def _studentised(clusters: _Clusters, chosen: _Chosen) -> FloatArray:
    """Return the t* of every resample and contrast: (draws, contrasts).

    With w_c how often cluster c was drawn and S_c its sum about the mean,  t* = m / SE*  where  m = sum w S / sum w N
    and  sum w (S - m N)^2 = sum w S^2 - 2 m sum w S N + m^2 sum w N^2.
    """
    size, count = clusters.size[:, None], clusters.size.size
    about = clusters.total - clusters.total.sum(axis=0) / size.sum() * size
    scale = np.sqrt(np.square(about).mean(axis=0))
    about = about / np.where(scale > 0, scale, 1.0)
    found = np.empty((len(chosen), about.shape[1]))
    for start in range(0, len(chosen), max(_CHUNK // count, 1)):
        drawn = chosen[start : start + max(_CHUNK // count, 1)]
        often = _counts(drawn, count)
        units, squares = often @ size, often @ (size * size)
        shift = often @ about / units
        rest = often @ (about * about) - 2 * shift * (often @ (about * size)) + shift * shift * squares
        narrow = rest <= _NARROW * count
        error = np.sqrt(count / (count - 1) * np.where(narrow, 1.0, rest)) / units
        found[start : start + len(drawn)] = shift / error
        for column in np.flatnonzero(narrow.any(axis=0)):
            rows = np.flatnonzero(narrow[:, column])
            one = _Clusters(clusters.size, clusters.total[:, column])
            found[start + rows, column] = _narrow(one, drawn[rows])
    return found


def _counts(chosen: _Chosen, count: int) -> FloatArray:
    """Return how often each of `count` clusters was drawn in each resample: (draws, clusters)."""
    place = chosen + count * np.arange(len(chosen))[:, None]
    return np.bincount(place.ravel(), minlength=count * len(chosen)).reshape(-1, count).astype(np.float64)


def _narrow(clusters: _Clusters, chosen: _Chosen) -> FloatArray:
    """Return the t* of resamples of one contrast that vary little, infinite towards their side when not at all."""
    mean = math.fsum(clusters.total) / math.fsum(clusters.size)
    means = (clusters.total / clusters.size)[chosen]
    found: FloatArray = np.copysign(np.inf, means[:, 0] - mean)
    for row in np.flatnonzero(np.ptp(means, axis=1) > 0):
        found[row] = _t(clusters, chosen[row], mean)
    return found


def _two_sided(resampled: FloatArray, t: float) -> float:
    """Return twice the share of t* at or beyond t, on the side where it is smaller."""
    beyond = min(np.count_nonzero(resampled >= t), np.count_nonzero(resampled <= t))
    return min(2 * (1 + beyond) / (resampled.size + 1), 1.0)
