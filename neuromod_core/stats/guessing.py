"""Can arms be told apart from what should tell nothing? The area under the curve of a score that guesses."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from scipy.stats import rankdata

from neuromod_core.kernel.errors import DataError
from neuromod_core.stats.arrangements import Alternative, within_blocks
from neuromod_core.stats.effectsize import dominance_interval
from neuromod_core.stats.result import Interval, Named
from neuromod_core.stats.sample import FloatArray, IntArray, codes, vector


def auc(
    scores: npt.ArrayLike,
    labels: npt.ArrayLike,
    *,
    block: npt.ArrayLike | None = None,
    alternative: Alternative = "two-sided",
    level: float = 0.95,
    draws: int = 9_999,
    generator: np.random.Generator,
) -> Named:
    """Return how well (cases,) scores tell labels 1 from 0: the area under the receiver operating characteristic.

    scores: from a guesser that has not seen the case: fitted on other units.
    block: (cases,), the unit of each case; labels are then rearranged within units only, as they were dealt.

    Formula:  AUC = P(score of a 1 > score of a 0) + P(equal) / 2, 1/2 by chance.  p rearranges the labels, all ways up
    to 2^16, else `draws` random ones.  The interval is that of the dominance 2 AUC - 1 with DeLong's variance
    var = S_1^2 / m + S_0^2 / n,  S^2 the variance of a case's mean dominance over the other group: it stays within
    [0, 1] and has a width at AUC = 1. It takes cases as independent; one that holds 1/2 excludes no leak it reaches.
    Source: DeLong, DeLong & Clarke-Pearson 1988, Biometrics 44:837; Feng & Cliff 2004; Good 2005, Permutation Tests.

    Raises:
        DataError: for scores that are not finite or all equal, labels of another length or other than 0 and 1, fewer
            than two cases of either label, or blocks in none of which both labels occur.
        OutOfRange: for a level outside (0, 1), or fewer than one draw.
        UnknownName: for another alternative.

    >>> print(auc([0.1, 0.4, 0.35, 0.8, 0.7, 0.2], [0, 0, 1, 1, 1, 0], generator=np.random.default_rng(0)))
    AUC = 0.89, 95% CI [0.41, 0.99], U = 8.00, p = .200 (rearranged labels, all 720 arrangements, n = 6)
    """
    values = vector(scores, "scores")
    if not np.ptp(values):
        raise DataError(
            f"All {values.size} scores are {values[0]:g}: they tell nothing apart, nor that nothing can be."
        )
    positive = _labels(labels, values.size)
    groups = np.zeros(values.size, dtype=np.int64) if block is None else codes(block, values.size, "block labels")
    _check_blocks(groups, positive)
    m, n = int(positive.sum()), int((1 - positive).sum())
    ranks: FloatArray = np.asarray(rankdata(values), dtype=np.float64)
    middle = _middle(ranks, positive, groups)

    def excess(places: IntArray) -> FloatArray:
        total: FloatArray = positive[places] @ ranks - middle
        return total

    null = within_blocks(groups, excess, draws, generator)
    u = float(positive @ ranks) - m * (m + 1) / 2
    return Named(
        symbol="AUC",
        estimate=u / (m * n),
        ci=_interval(values[positive == 1], values[positive == 0], level),
        label="U",
        statistic=u,
        pvalue=null.p(u + m * (m + 1) / 2 - middle, alternative),
        n=values.size,
        method=f"rearranged labels, {null}",
    )


def _labels(labels: npt.ArrayLike, size: int) -> FloatArray:
    """Return labels as 0.0 and 1.0, (cases,), or raise."""
    positive = vector(labels, "labels")
    if positive.size != size:
        raise DataError(f"There are {size} scores and {positive.size} labels; one each is needed.")
    if not np.isin(positive, (0.0, 1.0)).all():
        raise DataError(f"A label is 0 or 1; given: {positive[~np.isin(positive, (0.0, 1.0))][0]:g}.")
    if min(positive.sum(), (1 - positive).sum()) < 2:
        raise DataError(f"{int(positive.sum())} of {size} labels are 1; at least 2 of either label are needed.")
    return positive


def _check_blocks(groups: IntArray, positive: FloatArray) -> None:
    """Refuse blocks within which no label could have fallen otherwise."""
    share = np.bincount(groups, weights=positive) / np.bincount(groups)
    if not ((share > 0) & (share < 1)).any():
        raise DataError(f"None of {share.size} blocks holds both labels: there is nothing to rearrange.")


def _middle(ranks: FloatArray, positive: FloatArray, groups: IntArray) -> float:
    """Return the rank sum of label 1 that rearrangement within blocks expects."""
    size = np.bincount(groups)
    return float(np.sum(np.bincount(groups, weights=positive) * np.bincount(groups, weights=ranks) / size))


def _interval(ones: FloatArray, zeros: FloatArray, level: float) -> Interval:
    """Return the interval of the area from the scores of either label."""
    signs = np.sign(ones[:, None] - zeros)
    variance = signs.mean(axis=1).var(ddof=1) / ones.size + signs.mean(axis=0).var(ddof=1) / zeros.size
    low, high, _ = dominance_interval(float(signs.mean()), float(variance), least=min(signs.shape), level=level)
    return Interval((1 + low) / 2, (1 + high) / 2, level)
