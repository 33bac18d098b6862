"""Was the blind kept? Indices of what guessers, human or model, make of the arms they could not see.

A pack that works may be recognised by its effect: an index away from chance is a finding, not by itself a leak.
"""

from __future__ import annotations

import math
from typing import Literal, TypeAlias

import numpy as np
import numpy.typing as npt
from scipy.special import ndtri

from neuromod_core.kernel.errors import DataError
from neuromod_core.kernel.register import unknown
from neuromod_core.stats.proportions import tango_interval
from neuromod_core.stats.result import Estimate, Interval
from neuromod_core.stats.sample import FloatArray, open_unit

Limits: TypeAlias = Literal["score", "wald"]

WRONG = 0.5  # James' weight of a wrong guess; a right one weighs 0, "don't know" 1


def guesses(assigned: npt.ArrayLike, guessed: npt.ArrayLike, *, arms: tuple[str, str], unsure: str) -> FloatArray:
    """Return the (2, 3) counts that `bang` and `james` take: by arm; guess of arm 1, guess of arm 2, unsure.

    assigned, guessed: (guesses,) names of arms; `guessed` may also be `unsure`.

    Raises:
        DataError: for unequal lengths, or another name.

    >>> guesses(["a", "a", "b"], ["a", "?", "a"], arms=("a", "b"), unsure="?").tolist()
    [[1.0, 0.0, 1.0], [1.0, 0.0, 0.0]]
    """
    given, said = np.asarray(assigned), np.asarray(guessed)
    if given.ndim != 1 or given.shape != said.shape:
        raise DataError(f"Arms have shape {given.shape} and guesses {said.shape}; one guess for each assigned arm.")
    for values, allowed in ((given, arms), (said, (*arms, unsure))):
        strange = sorted(set(values.tolist()) - set(allowed), key=str)
        if strange:
            raise DataError(f"{strange[0]!r} is none of {', '.join(map(repr, allowed))}.")
    return np.array(
        [[((given == arm) & (said == guess)).sum() for guess in (*arms, unsure)] for arm in arms], dtype=float
    )


def bang(counts: npt.ArrayLike, *, level: float = 0.95, limits: Limits = "wald") -> tuple[Estimate, Estimate]:
    """Return Bang's blinding index of each of two arms from (2, 3) counts as `guesses` gives them.

    Formula:  BI = (right - wrong) / n = p1 - p2  in [-1, 1]: 0 for guessing at random, 1 for every guess right, -1 for
    every guess wrong.  "wald":  BI +- z SE,  SE^2 = (p1 (1 - p1) + p2 (1 - p2) + 2 p1 p2) / n,  as in the paper; it may
    pass 1 and has no width when all say the same.  "score": Tango's interval of a difference of paired proportions,
    which BI is; it stays within [-1, 1] and always has a width.
    Source: Bang, Ni & Davis 2004, Controlled Clinical Trials 25:143.

    Raises:
        DataError: for another shape, counts that are not whole and positive or zero, or an arm without guesses; for
            "wald" when all guesses of an arm fall in one column.
        OutOfRange: for a level outside (0, 1).
        UnknownName: for other limits.

    >>> treated, control = bang([[82, 25, 170], [27, 29, 83]])
    >>> print(treated)
    BI = 0.21, 95% CI [0.14, 0.27] (Bang's blinding index, n = 277)
    """
    table = _counts(counts)
    return _bang(table[0, 0], table[0, 1], table[0, 2], level, limits), _bang(
        table[1, 1], table[1, 0], table[1, 2], level, limits
    )


def james(counts: npt.ArrayLike, *, level: float = 0.95) -> Estimate:
    """Return James' blinding index of a trial of two arms from (2, 3) counts as `guesses` gives them.

    Formula:  BI = (1 + P_u + (1 - P_u) K) / 2,  K = (P_o - P_e) / P_e,  P_u the share of "unsure", P_o the weighted
    share of wrong guesses among the others and P_e what their margins make of it by chance, the weight being 1/2:
        BI = P_u + (1 - P_u)^2 W / (2 E),  W = share of wrong guesses, E = sum over i != j of row_i column_j.
    1: all unsure;  1/2: guessing at random;  0: all right. The interval is BI +- z SE by the delta method for
    multinomial counts; None when all are unsure, where nothing varies.
    Source: James et al. 1996, Statistics in Medicine 15:1421.

    Raises:
        DataError: for another shape, counts that are not whole and positive or zero, an arm without guesses, or guesses
            that by their margins could not be wrong.
        OutOfRange: for a level outside (0, 1).

    >>> print(james([[82, 25, 170], [27, 29, 83]]))
    BI = 0.75, 95% CI [0.71, 0.79] (James' blinding index, n = 416)
    """
    table = _counts(counts)
    z, n = float(ndtri((1 + open_unit(level, "The confidence level")) / 2)), int(table.sum())
    share = table / n
    index, slope = 1.0, np.zeros_like(share)
    if share[:, :2].any():
        index, slope = _james(share[:, :2])
    half = z * math.sqrt(max(float((share * slope**2).sum() - (share * slope).sum() ** 2), 0.0) / n)
    interval = Interval(index - half, index + half, level) if half > 0 else None
    return Estimate(symbol="BI", estimate=index, ci=interval, n=n, method="James' blinding index")


def _james(sure: FloatArray) -> tuple[float, FloatArray]:
    """Return James' index from the shares (2, 2) of guesses, and its derivatives by all shares (2, 3)."""
    known, rows, columns = float(sure.sum()), sure.sum(axis=1), sure.sum(axis=0)
    wrong, expected = float(sure[0, 1] + sure[1, 0]), float(rows[0] * columns[1] + rows[1] * columns[0])
    if expected == 0:
        raise DataError("All guesses come from one arm and name it: by chance alone none of them could be wrong.")
    ratio = wrong / expected
    by_expected = (known - columns)[None, :] + (known - rows)[:, None]
    is_wrong = 1 - np.eye(2)
    slope = np.zeros((2, 3))
    slope[:, :2] = -1 + 2 * WRONG * known * ratio + WRONG * known**2 * (is_wrong - ratio * by_expected) / expected
    return 1 - known + WRONG * known**2 * ratio, slope


def _bang(right: float, wrong: float, unsure: float, level: float, limits: Limits) -> Estimate:
    """Return Bang's index of one arm from its counts."""
    n = int(right + wrong + unsure)
    index, p1, p2 = (right - wrong) / n, right / n, wrong / n
    z = float(ndtri((1 + open_unit(level, "The confidence level")) / 2))
    match limits:
        case "score":
            interval = tango_interval(int(right), int(wrong), n, level=level)
        case "wald":
            variance = (p1 * (1 - p1) + p2 * (1 - p2) + 2 * p1 * p2) / n
            if max(right, wrong, unsure) == n:
                raise DataError(f'All {n} guesses of an arm are alike: no Wald interval; ask for limits="score".')
            interval = Interval(index - z * math.sqrt(variance), index + z * math.sqrt(variance), level)
        case _:
            raise unknown("kind of limits", limits, ["score", "wald"])
    return Estimate(symbol="BI", estimate=index, ci=interval, n=n, method="Bang's blinding index")


def _counts(counts: npt.ArrayLike) -> FloatArray:
    """Return (2, 3) counts, or raise."""
    table = np.asarray(counts, dtype=np.float64)
    if table.shape != (2, 3):
        raise DataError(
            f"The guesses have shape {table.shape}; (2 arms, 3: guess of arm 1, of arm 2, unsure) is needed."
        )
    if not (np.isfinite(table).all() and (table >= 0).all() and (table == np.floor(table)).all()):
        raise DataError(f"The guesses are {table.tolist()}; whole numbers >= 0 are needed.")
    if not table.any(axis=1).all():
        raise DataError(f"The guesses are {table.tolist()}; each arm needs at least one.")
    return table
