"""Dominance of one sample over another, one pair at a time, as Cliff 1993 writes it."""

from __future__ import annotations

from collections.abc import Sequence
from statistics import fmean


def sign(number: float) -> int:
    return (number > 0) - (number < 0)


def dominance(x: Sequence[float], y: Sequence[float]) -> tuple[float, float]:
    """Return delta and its unbiased variance."""
    m, n = len(x), len(y)
    delta = fmean(sign(a - b) for a in x for b in y)
    rows = sum((fmean(sign(a - b) for b in y) - delta) ** 2 for a in x)
    columns = sum((fmean(sign(a - b) for a in x) - delta) ** 2 for b in y)
    pairs = sum((sign(a - b) - delta) ** 2 for a in x for b in y)
    return delta, (n**2 * rows + m**2 * columns - pairs) / (m * n * (m - 1) * (n - 1))
