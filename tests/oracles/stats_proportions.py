"""Paired proportions from their likelihoods and their binomial, without formulas."""

from __future__ import annotations

import math

from scipy.optimize import minimize_scalar


def tango_z(b: int, c: int, n: int, delta: float) -> float:
    """Return the score statistic of p_x - p_y = delta with "y only" at its likeliest, found by search."""

    def loss(q: float) -> float:
        cells = ((b, q + delta), (c, q), (n - b - c, 1 - 2 * q - delta))
        return -sum(count * math.log(max(p, 1e-300)) for count, p in cells if count)

    low, high = max(0.0, -delta), (1 - delta) / 2
    q = minimize_scalar(loss, bounds=(low, high), method="bounded", options={"xatol": 1e-13}).x
    return (b - c - n * delta) / math.sqrt(n * (2 * q + delta * (1 - delta)))


def mcnemar_p(b: int, c: int, *, mid: bool) -> float:
    """Return P(as extreme or more) of a fair coin tossed b + c times, half the ties counted when `mid`."""
    toss = [math.comb(b + c, k) / 2 ** (b + c) for k in range(b + c + 1)]
    away = [abs(2 * k - b - c) for k in range(b + c + 1)]
    more = sum(p for p, distance in zip(toss, away, strict=True) if distance > abs(b - c))
    same = sum(p for p, distance in zip(toss, away, strict=True) if distance == abs(b - c))
    return more + (same / 2 if mid else same)
