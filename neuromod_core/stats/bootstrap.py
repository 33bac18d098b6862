"""The studentised bootstrap: an interval for a mean difference that keeps its coverage with few, skewed units."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from neuromod_core.kernel.errors import DataError, OutOfRange
from neuromod_core.stats.result import Interval, Result
from neuromod_core.stats.sample import FloatArray, codes, open_unit, varying, vector

_CHUNK = 2**21  # resampled numbers held at once: 16 MB


class _Clusters(NamedTuple):
    """What is resampled: the number of units of each cluster and the sum of their differences, (..., clusters) each."""

    size: FloatArray
    total: FloatArray

    def take(self, chosen: npt.NDArray[np.int64]) -> _Clusters:
        """Return resamples, (draws, clusters), of the clusters numbered by `chosen`."""
        return _Clusters(self.size[chosen], self.total[chosen])

    def mean(self) -> FloatArray:
        """Return the mean over units: (...)."""
        mean: FloatArray = self.total.sum(axis=-1) / self.size.sum(axis=-1)
        return mean

    def standard_error(self) -> FloatArray:
        """Return the standard error of that mean, clusters being independent: (...)."""
        count = self.total.shape[-1]
        excess = self.total - self.mean()[..., None] * self.size
        error: FloatArray = np.sqrt(count / (count - 1) * np.square(excess).sum(axis=-1)) / self.size.sum(axis=-1)
        return error


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
    M = 1.22, 95% CI [0.67, 1.80], t(7) = 4.93, p = .001 (bootstrap-t, 9999 draws, n = 8)
    """
    tail = _tail_rank(open_unit(level, "The confidence level"), draws)
    data = varying(vector(differences))
    clusters = _clusters(data, cluster)
    mean, se = float(clusters.mean()), float(clusters.standard_error())
    resampled = np.sort(np.concatenate([*_studentised(clusters, draws, generator)]))
    bounds = mean - se * resampled[-tail], mean - se * resampled[tail - 1]
    if not np.isfinite(bounds).all():
        raise DataError(
            f"The bootstrap-t interval at level {level:g} is unbounded: too few of {clusters.size.size} "
            f"{'units' if cluster is None else 'clusters'} differ."
        )
    within = "" if cluster is None else f" of clusters of {data.size} units"
    return Result(
        estimate=mean,
        ci=Interval(float(bounds[0]), float(bounds[1]), level),
        statistic=mean / se,
        pvalue=_two_sided(resampled, mean / se),
        n=clusters.size.size,
        method=f"bootstrap-t, {draws} draws{within}",
    )


def _clusters(data: FloatArray, labels: npt.ArrayLike | None) -> _Clusters:
    """Return (units,) differences by cluster, each unit its own when there are no labels."""
    if labels is None:
        return _Clusters(np.ones(data.size), data)
    code = codes(labels, data.size, "cluster labels")
    clusters = _Clusters(np.bincount(code).astype(np.float64), np.bincount(code, weights=data).astype(np.float64))
    if clusters.size.size < 2:
        raise DataError(f"All {data.size} units are in one cluster; at least 2 clusters are needed.")
    varying(clusters.total / clusters.size)
    return clusters


def _tail_rank(level: float, draws: int) -> int:
    """Return how many of the draws lie in each tail, or raise when not even one does."""
    rank = math.floor((draws + 1) * (1 - level) / 2 + 1e-9)
    if rank < 1:
        needed = math.ceil(2 / (1 - level) - 1e-9) - 1
        raise OutOfRange(f"{draws} draws cannot bound an interval at level {level}; it needs at least {needed}.")
    return rank


def _studentised(clusters: _Clusters, draws: int, generator: np.random.Generator) -> Iterator[FloatArray]:
    """Yield the t* of resamples, a bounded number at a time."""
    count, mean = clusters.size.size, clusters.mean()
    means = clusters.total / clusters.size
    rows = max(_CHUNK // count, 1)
    for start in range(0, draws, rows):
        chosen = generator.integers(count, size=(min(rows, draws - start), count))
        samples = clusters.take(chosen)
        shift = samples.mean() - mean
        repeated = np.ptp(means[chosen], axis=1) == 0
        yield np.divide(shift, samples.standard_error(), out=np.copysign(np.inf, shift), where=~repeated)


def _two_sided(resampled: FloatArray, t: float) -> float:
    """Return twice the share of sorted t* at or beyond t, on the side where it is smaller."""
    above = resampled.size - int(np.searchsorted(resampled, t, side="left"))
    below = int(np.searchsorted(resampled, t, side="right"))
    return min(2 * (1 + min(above, below)) / (resampled.size + 1), 1.0)
