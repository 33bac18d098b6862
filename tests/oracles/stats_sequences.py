"""A crossover by least squares: unit, period and arm as dummies, one arrangement of the sequences at a time."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt


def dummies(levels: npt.ArrayLike) -> npt.NDArray[np.float64]:
    levels = np.asarray(levels)
    return (levels[:, None] == np.unique(levels)).astype(float)


def contrast_of(scores: npt.NDArray[np.float64], rows: npt.NDArray[np.int64], weights: npt.ArrayLike) -> float:
    """Return the contrast of arms adjusted for unit and period."""
    units, periods = scores.shape
    arms = dummies(rows.ravel())
    blocks = dummies(np.repeat(np.arange(units), periods)), dummies(np.tile(np.arange(periods), units))
    fit = np.linalg.lstsq(np.hstack([arms, *blocks]), scores.ravel(), rcond=None)[0]
    return float(np.asarray(weights) @ fit[: arms.shape[1]])


def t_of(scores: npt.NDArray[np.float64], rows: npt.NDArray[np.int64], weights: npt.NDArray[np.float64]) -> float:
    """Return Student's t of the contrast per unit of scores adjusted for period, for a design balanced over periods."""
    adjusted = scores - scores.mean(axis=0)
    per_unit = [sum(weights[arm] * score for arm, score in zip(row, unit, strict=True))
                for row, unit in zip(rows, adjusted, strict=True)]  # fmt: skip
    return float(np.mean(per_unit) / (np.std(per_unit, ddof=1) / np.sqrt(len(per_unit))))
