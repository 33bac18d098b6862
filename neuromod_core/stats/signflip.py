"""Sign-flip tests: if nothing happened, each unit's differences could as well have had the opposite sign.

One pass serves a single contrast and a family. For flipped column sums S = sum_i s_i d_i, the sum of squares
Q = sum_i d_i^2 stays, so the studentised statistic

    t = S / sqrt((n Q - S^2) / (n - 1)) = r sqrt((n - 1) / (1 - r^2))      with r = S / sqrt(n Q) in [-1, 1]

rises with r by the same function in every contrast. Comparing r compares t, orders flips as their means do, and needs
one matrix product; |r| = 1, a constant difference, needs no special case.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from typing import NamedTuple, TypeAlias

import numpy as np
import numpy.typing as npt

from neuromod_core.kernel.errors import OutOfRange
from neuromod_core.kernel.register import unknown
from neuromod_core.stats.arrangements import Alternative
from neuromod_core.stats.result import Adjusted, Result
from neuromod_core.stats.sample import ROUNDING, FloatArray, constant, matrix, vector

_Codes: TypeAlias = npt.NDArray[np.uint64]

EXACT_UNITS = 16  # up to here all 2^n flips are enumerated
_SIDES: tuple[Alternative, ...] = ("greater", "less")
_CHUNK = 2**22  # numbers held at once: 32 MB
_TIE = 1e-12  # in r: flips that are equal on paper may differ by rounding; a tie counts against the hypothesis


_Count: TypeAlias = Callable[[FloatArray, Iterator[FloatArray]], npt.NDArray[np.int64]]


class _Test(NamedTuple):
    """Per contrast: studentised statistic, (contrasts,), and p, unadjusted and for a family also step-down max-T.

    p: (1 or 2, contrasts).
    """

    statistic: FloatArray
    p: FloatArray


def sign_flip(
    differences: npt.ArrayLike,
    *,
    minimum: float = 0.0,
    alternative: Alternative = "two-sided",
    draws: int = 100_000,
    generator: np.random.Generator,
) -> Result:
    """Return the sign-flip test that the mean of (units,) differences is beyond a smallest effect of interest.

    "greater" tests mean > minimum by flipping d - minimum; "less" tests mean < -minimum by flipping -d - minimum;
    "two-sided" tests |mean| > minimum: by |t| for minimum 0, else as twice the smaller of both one-sided p.
    Up to 16 units all 2^n flips are counted, p = b / 2^n; beyond, `draws` random ones, p = (1 + b) / (1 + draws).
    Differences that all agree have t = inf and p = 1 / 2^n one-sided; all at the minimum, or all zero, t = 0 and p = 1:
    ask `constant_by_construction` first.
    Source: Fisher 1935; Phipson & Smyth 2010, Statistical Applications in Genetics and Molecular Biology 9:39.

    Raises:
        DataError: for fewer than two units, or a value that is not finite.
        OutOfRange: for a negative minimum, or fewer than one draw.
        UnknownName: for another alternative.

    >>> print(sign_flip([1.2, 2.4, 1.3, 1.3, 0.4, 1.0], generator=np.random.default_rng(0)))
    M = 1.27, t(5) = 4.77, p = .031 (sign-flip, mean != 0, all 64 flips, n = 6)
    """
    return _results(vector(differences)[:, None], minimum, alternative, draws, generator)[0]


def sign_flips(
    differences: npt.ArrayLike,
    *,
    minimum: float = 0.0,
    alternative: Alternative = "two-sided",
    draws: int = 100_000,
    generator: np.random.Generator,
) -> tuple[Result, ...]:
    """Return `sign_flip` of each column of (units, contrasts) differences; one set of flips serves all of them.

    Source: as `sign_flip`.

    Raises:
        DataError: for fewer than two units, no contrasts, or a value that is not finite.
        OutOfRange: for a negative minimum, or fewer than one draw.
        UnknownName: for another alternative.

    >>> columns = [[1.2, 0.3], [2.4, -0.2], [1.3, 0.5], [1.3, -0.1], [0.4, 0.0], [1.0, -0.6]]
    >>> [test.pvalue for test in sign_flips(columns, generator=np.random.default_rng(0))]
    [0.03125, 1.0]
    """
    return _results(matrix(differences), minimum, alternative, draws, generator)


def _results(
    data: FloatArray, minimum: float, alternative: Alternative, draws: int, generator: np.random.Generator
) -> tuple[Result, ...]:
    """Return one result per column of (units, contrasts) differences."""
    test = _test(data, minimum, alternative, draws, generator, _single)
    method = f"sign-flip, {_described(minimum, alternative, draws, len(data))}"
    columns = zip(data.mean(axis=0).tolist(), test.statistic.tolist(), test.p[0].tolist(), strict=True)
    return tuple(
        Result(estimate=mean, ci=None, statistic=statistic, pvalue=p, n=len(data), method=method)
        for mean, statistic, p in columns
    )


def max_t(
    differences: npt.ArrayLike,
    *,
    minimum: float = 0.0,
    alternative: Alternative = "two-sided",
    draws: int = 100_000,
    generator: np.random.Generator,
) -> tuple[Adjusted, ...]:
    """Return the tests of a family of contrasts, (units, contrasts), adjusted by step-down max-T, in the order given.

    Each flip turns a unit's whole vector, which keeps the dependence between contrasts. With |t| (or t) falling in k,

        p_(k) = max over j <= k of the share of flips where the largest t* among contrasts j, j + 1, ... reaches t_(j),

    which controls the family-wise error strongly. Alternatives, flips and constant differences are as in `sign_flip`;
    a two-sided test with a minimum takes twice the smaller of the adjusted one-sided p.
    Source: Westfall & Young 1993, algorithm 4.1; Ge, Dudoit & Speed 2003, Test 12:1.

    Raises:
        DataError: for fewer than two units, no contrasts, or a value that is not finite.
        OutOfRange: for a negative minimum, or fewer than one draw.
        UnknownName: for another alternative.

    >>> family = [[1.2, 0.3], [2.4, -0.2], [1.3, 0.5], [1.3, -0.1], [0.4, 0.0], [1.0, -0.6]]
    >>> [(test.pvalue, test.p_adj) for test in max_t(family, generator=np.random.default_rng(0))]
    [(0.03125, 0.03125), (1.0, 1.0)]
    """
    data = matrix(differences)
    test = _test(data, minimum, alternative, draws, generator, _single_and_joint)
    method = f"step-down max-T sign-flip, {_described(minimum, alternative, draws, len(data))}"
    return tuple(
        Adjusted(
            estimate=float(mean),
            ci=None,
            statistic=float(statistic),
            pvalue=float(p),
            n=len(data),
            method=method,
            p_adj=float(p_adj),
            family=data.shape[1],
        )
        for mean, statistic, p, p_adj in zip(data.mean(axis=0), test.statistic, *test.p, strict=True)
    )


def flip_pvalues(
    differences: npt.ArrayLike, *, minimum: float, alternative: Alternative, draws: int, generator: np.random.Generator
) -> FloatArray:
    """Return the unadjusted p of each of (units, contrasts) as `sign_flip` gives it, one set of flips serving all.

    Raises:
        DataError: for fewer than two units, no contrasts, or a value that is not finite.
        OutOfRange: for a negative minimum, or fewer than one draw.
        UnknownName: for another alternative.
    """
    p: FloatArray = _test(matrix(differences), minimum, alternative, draws, generator, _single).p[0]
    return p


def _test(
    data: FloatArray,
    minimum: float,
    alternative: Alternative,
    draws: int,
    generator: np.random.Generator,
    count: _Count,
) -> _Test:
    """Return the tests of (units, contrasts) differences."""
    if not (0 <= minimum < math.inf and draws >= 1):
        raise OutOfRange(
            f"A sign-flip test has minimum {minimum} and {draws} draws; minimum >= 0, draws >= 1 are needed."
        )
    match alternative:
        case "greater":
            return _flip(_beyond(data, minimum), np.positive, draws, generator, count)
        case "less":
            test = _flip(_beyond(-data, minimum), np.positive, draws, generator, count)
            return test._replace(statistic=-test.statistic)
        case "two-sided" if minimum == 0:
            return _flip(data, np.abs, draws, generator, count)
        case "two-sided":
            return _either(*(_test(data, minimum, side, draws, generator, count) for side in _SIDES))
        case _:
            raise unknown("alternative", alternative, [*_SIDES, "two-sided"])


def _either(greater: _Test, less: _Test) -> _Test:
    """Return the two-sided test that two one-sided ones make: each may spend half of the error."""
    return _Test(
        statistic=np.where(greater.p[0] <= less.p[0], greater.statistic, less.statistic),
        p=np.minimum(2 * np.minimum(greater.p, less.p), 1.0),
    )


def _beyond(data: FloatArray, minimum: float) -> FloatArray:
    """Return data - minimum, exactly zero where they agree up to rounding: a tie must not look like an effect."""
    excess = data - minimum
    return np.where(np.abs(excess) <= ROUNDING * np.maximum(np.abs(data), minimum), 0.0, excess)


def _flip(excess: FloatArray, fold: np.ufunc, draws: int, generator: np.random.Generator, count: _Count) -> _Test:
    """Return the test that (units, contrasts) numbers are centred at zero; `fold` is np.abs when either tail counts."""
    terms = _terms(excess)
    observed = fold(terms.sum(axis=0))
    order = np.argsort(-observed, kind="stable")
    exact = len(terms) <= EXACT_UNITS
    total, own = (2 ** len(terms), 0) if exact else (draws, 1)  # all flips hold the observed one; random draws do not
    counts = count(observed[order] - _TIE, _flipped(terms[:, order], fold, total, generator))
    shares = (counts + own) / (total + own)
    shares[1:] = np.maximum.accumulate(shares[1:], axis=1)
    p = np.empty_like(shares)
    p[:, order] = shares
    return _Test(_statistics(terms), p)


def _terms(excess: FloatArray) -> FloatArray:
    """Return the terms of r = S / sqrt(n Q), so that `signs @ terms` is r: (units, contrasts). Zeros stay zero."""
    largest = np.abs(excess).max(axis=0)
    scaled = excess / np.where(largest > 0, largest, 1.0)  # the squares neither overflow nor vanish
    length = np.sqrt(len(excess) * np.square(scaled).sum(axis=0))
    terms: FloatArray = scaled / np.where(length > 0, length, 1.0)
    return terms


def _statistics(terms: FloatArray) -> FloatArray:
    """Return t of each column, infinite for a constant and 0 for zeros: (units, contrasts) to (contrasts,)."""
    mean = terms.mean(axis=0)
    limit = np.where(mean == 0, 0.0, np.copysign(np.inf, mean))
    error = terms.std(axis=0, ddof=1) / math.sqrt(len(terms))
    statistics: FloatArray = np.divide(mean, error, out=limit, where=~constant(terms))
    return statistics


def _flipped(terms: FloatArray, fold: np.ufunc, total: int, generator: np.random.Generator) -> Iterator[FloatArray]:
    """Yield the folded r of all 2^n flips, or of `total` random ones: (flips, contrasts), a bounded number at once."""
    units, contrasts = terms.shape
    for start, stop in _spans(total, max(_CHUNK // (units + 2 * contrasts), 1)):
        exact = units <= EXACT_UNITS
        codes = _enumerated(start, stop) if exact else _random(stop - start, units, generator)
        flipped = _signs(codes, units) @ terms
        fold(flipped, out=flipped)
        yield flipped


def _single(threshold: FloatArray, flips: Iterator[FloatArray]) -> npt.NDArray[np.int64]:
    """Count the flips in which each contrast reaches its threshold: (1, contrasts)."""
    counts = np.zeros((1, threshold.size), dtype=np.int64)
    for flipped in flips:
        counts += np.count_nonzero(flipped >= threshold, axis=0)
    return counts


def _single_and_joint(threshold: FloatArray, flips: Iterator[FloatArray]) -> npt.NDArray[np.int64]:
    """Count them, and those in which any contrast from there on does, thresholds falling: (2, contrasts)."""
    counts = np.zeros((2, threshold.size), dtype=np.int64)
    for flipped in flips:
        counts[0] += np.count_nonzero(flipped >= threshold, axis=0)
        np.maximum.accumulate(flipped[:, ::-1], axis=1, out=flipped[:, ::-1])
        counts[1] += np.count_nonzero(flipped >= threshold, axis=0)
    return counts


def _spans(total: int, size: int) -> Iterator[tuple[int, int]]:
    """Yield (start, stop) of consecutive spans of at most `size`."""
    for start in range(0, total, size):
        yield start, min(start + size, total)


def _enumerated(start: int, stop: int) -> _Codes:
    """Return flips number start .. stop - 1 of all, as bits: (flips, 1)."""
    return np.arange(start, stop, dtype=np.uint64)[:, None]


def _random(flips: int, units: int, generator: np.random.Generator) -> _Codes:
    """Return random flips as bits, (flips, words): a flip uses whole words, so chunking does not change the stream."""
    return generator.integers(0, 2**64, size=(flips, -(-units // 64)), dtype=np.uint64)


def _signs(codes: _Codes, units: int) -> FloatArray:
    """Return the flips as +1 and -1: (flips, words) to (flips, units)."""
    octets = codes.astype("<u8", copy=False).view(np.uint8)
    bits = np.unpackbits(octets, axis=1, count=units, bitorder="little")
    return 1.0 - 2.0 * bits.astype(np.float64)


def _described(minimum: float, alternative: Alternative, draws: int, units: int) -> str:
    """Return the hypothesis and the flips, for the method of a result."""
    claim = {
        "greater": f"mean > {minimum:g}",
        "less": f"mean < {-minimum if minimum else 0:g}",
        "two-sided": f"|mean| > {minimum:g}" if minimum else "mean != 0",
    }
    flips = f"all {2**units} flips" if units <= EXACT_UNITS else f"{draws} random flips"
    return f"{claim[alternative]}, {flips}"
