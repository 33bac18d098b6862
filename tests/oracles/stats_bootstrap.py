"""The whole bootstrap distribution of a studentised mean: every resample there is, one at a time."""

from __future__ import annotations

import itertools
import math
import statistics
from collections.abc import Sequence


def studentised_resamples(numbers: Sequence[float]) -> list[float]:
    """Return t* of all n^n resamples; one of equal numbers is infinite towards its side."""
    mean, n = statistics.fmean(numbers), len(numbers)
    found = []
    for sample in itertools.product(numbers, repeat=n):
        shift = statistics.fmean(sample) - mean
        spread = statistics.stdev(sample) if len(set(sample)) > 1 else 0.0
        found.append(shift / (spread / math.sqrt(n)) if spread else math.copysign(math.inf, shift))
    return found


def studentised(sizes: Sequence[int], sums: Sequence[float], mean: float) -> float:
    """Return t* of one resample of clusters about `mean`."""
    units, count = sum(sizes), len(sizes)
    found = sum(sums) / units
    spread = sum((total - size * found) ** 2 for size, total in zip(sizes, sums, strict=True))
    error = math.sqrt(count / (count - 1) * spread) / units
    return (found - mean) / error if spread > 1e-18 * found**2 else math.copysign(math.inf, found - mean)
