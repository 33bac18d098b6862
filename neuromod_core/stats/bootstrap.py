"""The studentised bootstrap: an interval for a mean difference that keeps its coverage with few, skewed units."""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np
import numpy.typing as npt

from neuromod_core.kernel.errors import DataError, OutOfRange
from neuromod_core.stats.result import Interval, Result
from neuromod_core.stats.sample import FloatArray, open_unit, varying, vector

_CHUNK = 2**21  # resampled numbers held at once: 16 MB


def bootstrap_t(
    differences: npt.ArrayLike, *, level: float = 0.95, draws: int = 9_999, generator: np.random.Generator
) -> Result:
    """Return the mean of (units,) differences with its bootstrap-t interval, units resampled with replacement.

    Formula:  t*_b = (mean*_b - mean) / SE*_b;  ci = [mean - t*_(1 - a/2) SE, mean - t*_(a/2) SE], the quantiles being
    the k-th largest and smallest t* with k = (draws + 1) a / 2;  p = 2 (1 + #{t*_b at or beyond t}) / (draws + 1) on
    the nearer side, so p <= a exactly when the interval leaves out zero. A resample of equal numbers has infinite t*.
    Source: Efron 1981; Hall 1988, Annals of Statistics 16:927.

    Raises:
        DataError: for fewer than two units, values that are not finite, differences without spread, or so few distinct
            ones that the interval is unbounded.
        OutOfRange: for a level outside (0, 1), or too few draws for it.

    >>> print(bootstrap_t([1.2, 2.4, 1.3, 1.3, 0.0, 1.0, 1.8, 0.8], generator=np.random.default_rng(0)))
    M = 1.22, 95% CI [0.67, 1.80], t(7) = 4.93, p = .001 (bootstrap-t, 9999 draws, n = 8)
    """
    tail = _tail_rank(open_unit(level, "The confidence level"), draws)
    data = varying(vector(differences))
    mean, se = float(data.mean()), float(_standard_errors(data))
    resampled = np.sort(np.concatenate([*_studentised(data, draws, generator)]))
    bounds = mean - se * resampled[-tail], mean - se * resampled[tail - 1]
    if not np.isfinite(bounds).all():
        raise DataError(
            f"The bootstrap-t interval at level {level:g} is unbounded: too few of {data.size} units differ."
        )
    return Result(
        estimate=mean,
        ci=Interval(float(bounds[0]), float(bounds[1]), level),
        statistic=mean / se,
        pvalue=_two_sided(resampled, mean / se),
        n=data.size,
        method=f"bootstrap-t, {draws} draws",
    )


def _tail_rank(level: float, draws: int) -> int:
    """Return how many of the draws lie in each tail, or raise when not even one does."""
    rank = math.floor((draws + 1) * (1 - level) / 2 + 1e-9)
    if rank < 1:
        needed = math.ceil(2 / (1 - level) - 1e-9) - 1
        raise OutOfRange(f"{draws} draws cannot bound an interval at level {level}; it needs at least {needed}.")
    return rank


def _standard_errors(samples: FloatArray) -> FloatArray:
    """Return the standard error of the mean along the last axis: (..., units) to (...)."""
    error: FloatArray = np.std(samples, axis=-1, ddof=1) / math.sqrt(samples.shape[-1])
    return error


def _studentised(data: FloatArray, draws: int, generator: np.random.Generator) -> Iterator[FloatArray]:
    """Yield the t* of resamples, a bounded number at a time."""
    rows = max(_CHUNK // data.size, 1)
    for start in range(0, draws, rows):
        samples = data[generator.integers(data.size, size=(min(rows, draws - start), data.size))]
        shift = samples.mean(axis=1) - data.mean()
        repeated = np.ptp(samples, axis=1) == 0
        yield np.divide(shift, _standard_errors(samples), out=np.copysign(np.inf, shift), where=~repeated)


def _two_sided(resampled: FloatArray, t: float) -> float:
    """Return twice the share of sorted t* at or beyond t, on the side where it is smaller."""
    above = resampled.size - int(np.searchsorted(resampled, t, side="left"))
    below = int(np.searchsorted(resampled, t, side="right"))
    return min(2 * (1 + min(above, below)) / (resampled.size + 1), 1.0)
