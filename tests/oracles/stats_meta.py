"""Random effects from the likelihood, by search."""

from __future__ import annotations

import math
from collections.abc import Sequence

from scipy.optimize import minimize_scalar


def restricted_deviance(tau2: float, y: Sequence[float], v: Sequence[float]) -> float:
    """Return -2 log restricted likelihood of tau^2, but for a constant."""
    weight = [1 / (one + tau2) for one in v]
    mean = sum(w * e for w, e in zip(weight, y, strict=True)) / sum(weight)
    squares = sum(w * (e - mean) ** 2 for w, e in zip(weight, y, strict=True))
    return -sum(map(math.log, weight)) + math.log(sum(weight)) + squares


def reml(y: Sequence[float], v: Sequence[float]) -> float:
    """Return the tau^2 of the highest restricted likelihood."""
    found = minimize_scalar(lambda s: restricted_deviance(s * s, y, v), bounds=(0, 10), method="bounded",
                            options={"xatol": 1e-12})  # fmt: skip
    return float(found.x**2)
