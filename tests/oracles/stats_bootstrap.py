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
