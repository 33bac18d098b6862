"""Carry-over the slow way: designs as explicit columns, made orthogonal one by one, residuals by projection."""

from __future__ import annotations

import numpy as np


def residual(columns: list[np.ndarray], y: np.ndarray) -> tuple[np.ndarray, int]:
    """Return what projections on orthogonalised columns leave of y, and how many columns were independent."""
    basis: list[np.ndarray] = []
    for column in columns:
        left = column.astype(float)
        for _ in range(2):
            for direction in basis:
                left = left - (left @ direction) * direction
        if np.linalg.norm(left) > 1e-9:
            basis.append(left / np.linalg.norm(left))
    for direction in basis:
        y = y - (y @ direction) * direction
    return y, len(basis)


def nested_f(y: np.ndarray, base: list[list[object]], extra: list[object]) -> tuple[float, int, int]:
    """Return F and its degrees of freedom for a factor beside others; factors are columns of labels."""
    columns = [np.array([label == level for label in factor]) for factor in base for level in dict.fromkeys(factor)]
    more = [np.array([label == level for label in extra]) for level in dict.fromkeys(extra)]
    (without, rank_0), (within, rank_1) = residual(columns, y), residual(columns + more, y)
    gained, left = rank_1 - rank_0, len(y) - rank_1
    return float((without @ without - within @ within) / gained / (within @ within / left)), gained, left
