"""Re-randomisation of a crossover: had the registered sequences been dealt otherwise, what would have been seen?

Unlike a sign flip this test needs no symmetric differences and no assumption on periods: the randomisation that was
carried out is its only premise.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from neuromod_core.kernel.errors import DataError
from neuromod_core.stats.arrangements import Alternative, within_blocks
from neuromod_core.stats.result import Named
from neuromod_core.stats.sample import FloatArray, IntArray, codes, grid


def rerandomise(
    scores: npt.ArrayLike,
    sequences: npt.ArrayLike,
    contrast: npt.ArrayLike,
    *,
    block: npt.ArrayLike | None = None,
    alternative: Alternative = "two-sided",
    draws: int = 100_000,
    generator: np.random.Generator,
) -> Named:
    """Return the test of a contrast of arms in a crossover by dealing the units' sequences out anew.

    scores: (units, periods), in the order in which the cells ran.
    sequences: (units, periods), the arm 0 .. arms - 1 of each cell; every row is a permutation of the arms.
    contrast: (arms,), weights that add up to zero, such as [1, -1, 0, 0].
    block: (units,), the block within which sequences were randomised; all units form one block when not given.

    With e the scores less their unit and period means, N the (arms, periods) counts and n units, least squares on
    unit + period + arm gives

        estimate = sum over u, p of w[arm(u, p)] e[u, p] = mean over u of L_u,   w = C^+ contrast,  C = n I - N N' / n,

    and the statistic is t = mean(L) / (SD(L) / sqrt(n)). Re-dealing the rows leaves e, N and w as they are, so each
    arrangement costs one look-up per unit. Up to 2^16 arrangements are enumerated; beyond, `draws` random ones.
    The null hypothesis is sharp: no cell would have scored otherwise under another arm.
    Source: Edgington & Onghena 2007, Randomization Tests; Jones & Kenward 2014, Cross-Over Trials, chapter 5.

    Raises:
        DataError: for scores that are not finite or not (units, periods), sequences of another shape or with a row
            that is no permutation of the arms, a contrast that does not add up to zero or that these sequences confound
            with periods, or scores without any spread.
        OutOfRange: for fewer than one draw.
        UnknownName: for another alternative.

    >>> rows = [[0, 1], [1, 0]] * 4
    >>> scores = [[3.1, 1.0], [1.4, 3.6], [2.8, 1.1], [0.9, 3.0], [3.3, 1.2], [1.0, 2.9], [3.0, 0.7], [1.3, 3.4]]
    >>> print(rerandomise(scores, rows, [1, -1], draws=999, generator=np.random.default_rng(0)))
    contrast = 2.06, t(7) = 31.67, p = .029 (re-randomised sequences, all 40320 arrangements, n = 8)
    """
    table = grid(scores, axes=("units", "periods"))
    rows = _sequences(sequences, table)
    dealt = _residual(table) @ _weights(contrast, rows)[rows].T  # [u, v]: L of unit u, had it the sequence of v
    units = np.arange(len(table))
    groups = np.zeros(len(table), dtype=np.int64) if block is None else codes(block, len(table), "block labels")
    null = within_blocks(groups, lambda places: _studentised(dealt[units, places]), draws, generator)
    observed = float(_studentised(dealt[units, units][None])[0])
    return Named(
        symbol="contrast",
        estimate=float(dealt[units, units].mean()),
        ci=None,
        label=f"t({len(table) - 1})",
        statistic=_t(observed, len(table)),
        pvalue=null.p(observed, alternative),
        n=len(table),
        method=f"re-randomised sequences, {null}",
    )


def _sequences(sequences: npt.ArrayLike, table: FloatArray) -> IntArray:
    """Return the sequences as whole numbers, (units, periods), or raise."""
    rows = np.asarray(sequences)
    if rows.shape != table.shape:
        raise DataError(f"The sequences have shape {rows.shape} and the scores {table.shape}; both need the same.")
    if not (np.sort(rows, axis=1) == np.arange(table.shape[1])).all():
        raise DataError(f"A row of the sequences is not a permutation of the arms 0 .. {table.shape[1] - 1}.")
    return rows.astype(np.int64)


def _residual(table: FloatArray) -> FloatArray:
    """Return (units, periods) scores less their unit and period means, or raise when nothing is left."""
    residual: FloatArray = table - table.mean(axis=1, keepdims=True) - table.mean(axis=0) + table.mean()
    if not (np.abs(residual) > 1e-12 * np.abs(table).max()).any():
        raise DataError(f"All {len(table)} units have the same course over the periods: nothing varies between arms.")
    return residual


def _weights(contrast: npt.ArrayLike, rows: IntArray) -> FloatArray:
    """Return n w, the weight of each arm's residuals in L_u: (arms,)."""
    weights = np.asarray(contrast, dtype=np.float64)
    n, arms = rows.shape
    if weights.shape != (arms,) or not np.isfinite(weights).all() or not weights.any():
        raise DataError(f"The contrast is {weights.tolist()}; {arms} finite weights, not all zero, are needed.")
    if abs(weights.sum()) > 1e-9 * np.abs(weights).max():
        raise DataError(f"The weights of the contrast add up to {weights.sum():g}; they must add up to 0.")
    counts = np.array([(rows == arm).sum(axis=0) for arm in range(arms)], dtype=np.float64)
    information = n * np.eye(arms) - counts @ counts.T / n
    solved: FloatArray = np.linalg.pinv(information, rcond=1e-9, hermitian=True) @ weights
    if not np.allclose(information @ solved, weights, atol=1e-9 * np.abs(weights).max()):
        raise DataError("These sequences confound the contrast with periods: it cannot be estimated.")
    scaled: FloatArray = n * solved
    return scaled


def _studentised(totals: FloatArray) -> FloatArray:
    """Return r = sum(L) / sqrt(n sum(L^2)), which rises with t: (arrangements, units) to (arrangements,)."""
    length = np.sqrt(totals.shape[1] * np.square(totals).sum(axis=1))
    share: FloatArray = np.divide(totals.sum(axis=1), length, out=np.zeros_like(length), where=length > 0)
    return share


def _t(r: float, n: int) -> float:
    """Return t = r sqrt((n - 1) / (1 - r^2)), infinite when all L agree."""
    rest = 1 - r * r
    return float(r * np.sqrt((n - 1) / rest)) if rest > 1e-15 else float(np.copysign(np.inf, r))
