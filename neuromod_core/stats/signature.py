"""Does a pack's profile over scales look like a reference profile? Shape only, and only against a null.

A profile is centred over its scales before anything is compared: of raw profiles even a flat one has a cosine above 0.9
with every reference. A match is an analogy of profiles, no evidence of experience.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from scipy.special import bdtrc

from neuromod_core.kernel.errors import DataError
from neuromod_core.stats.arrangements import Alternative, Null, within_blocks
from neuromod_core.stats.result import Named
from neuromod_core.stats.sample import FloatArray, IntArray, grid, matrix, vector

LEAST = 3  # scales: two centred numbers always correlate at 1 or -1


class Profile(NamedTuple):
    """What a profile says apart from its shape: its mean over scales, and the root mean square around that."""

    elevation: float
    scatter: float


@dataclass(frozen=True, kw_only=True)
class Identification(Named):
    """Which pack is which reference.

    matrix: (packs, references), the shape r of each pair; pack i is named reference i.
    correct: packs whose own reference is the most alike.
    """

    matrix: tuple[tuple[float, ...], ...]
    correct: int


@dataclass(frozen=True, kw_only=True)
class Signs(Named):
    """Signed predictions that came true, `hits` of n; `p_sham` is their place among sham packs, None without those."""

    hits: int
    p_sham: float | None


def profile(values: npt.ArrayLike) -> Profile:
    """Return elevation and scatter of a profile, (scales,): what `shape` leaves out.

    Source: Cronbach & Gleser 1953, Psychological Bulletin 50:456.

    Raises:
        DataError: for fewer than two scales, or a value that is not finite.

    >>> profile([1.0, 2.0, 6.0])
    Profile(elevation=3.0, scatter=2.160246899469287)
    """
    data = vector(values, "scales")
    return Profile(float(data.mean()), float(data.std()))


def shape(
    values: npt.ArrayLike,
    reference: npt.ArrayLike,
    *,
    alternative: Alternative = "greater",
    draws: int = 9_999,
    generator: np.random.Generator,
) -> Named:
    """Return how alike two profiles are in shape, (scales,) each.

    Formula:  r = correlation over scales of the centred profiles.  p rearranges the scales, all orders up to 8 scales,
    else `draws` random ones. Scales that go together make p too small: `sham_null` is the decisive test.
    Source: Cronbach & Gleser 1953; Pitman 1937 (permutation of a correlation).

    Raises:
        DataError: for unequal lengths, fewer than three scales, values that are not finite, or a flat profile.
        OutOfRange: for fewer than one draw.
        UnknownName: for another alternative.

    >>> print(shape([5.0, 1.0, 2.0, 4.0], [60.0, 20.0, 25.0, 35.0], generator=np.random.default_rng(0)))
    r = 0.92, r(2) = 0.92, p = .042 (shape over 4 scales, all 24 arrangements, n = 4)
    """
    one, other = _shapes(np.atleast_2d(values), "profile")[0], _shapes(np.atleast_2d(reference), "reference")[0]
    _same_scales(one[None], other[None])
    r = float(one @ other)

    def likeness(places: IntArray) -> FloatArray:
        found: FloatArray = one[places] @ other
        return found

    null = within_blocks(np.zeros(one.size, dtype=np.int64), likeness, draws, generator)
    return _named(
        "r", r, f"r({one.size - 2})", null.p(r, alternative), one.size, f"shape over {one.size} scales, {null}"
    )


def sham_null(values: npt.ArrayLike, reference: npt.ArrayLike, shams: npt.ArrayLike) -> Named:
    """Return how rarely a sham pack, of the same size and no meaning, is as alike to the reference as the pack is.

    values, reference: (scales,);  shams: (shams, scales), profiles of packs with random vectors of matched norm or
    divergence.
    Formula:  p = (1 + #{r_sham >= r}) / (1 + number of shams):  200 shams reach .005. The statistic is the share of
    shams that are less alike.
    Source: Phipson & Smyth 2010; Barnard 1963 (Monte Carlo test).

    Raises:
        DataError: for unequal lengths, fewer than three scales or two shams, values that are not finite, or a flat
            profile.

    >>> shams = np.random.default_rng(0).normal(size=(199, 4))
    >>> print(sham_null([5.0, 1.0, 2.0, 4.0], [60.0, 20.0, 25.0, 35.0], shams))
    r = 0.92, share below = 0.95, p = .055 (shape against 199 shams, n = 4)
    """
    one, other = _shapes(np.atleast_2d(values), "profile"), _shapes(np.atleast_2d(reference), "reference")
    fakes = _shapes(shams, "sham profiles")
    _same_scales(one, other)
    _same_scales(fakes, other)
    if len(fakes) < 2:
        raise DataError(f"{len(fakes)} sham is no null; at least 2 are needed.")
    r, null = float(one[0] @ other[0]), Null(fakes @ other[0], exact=False)
    p = null.p(r, "greater")
    method = f"shape against {len(fakes)} shams"
    return _named("r", r, "share below", p, other.shape[1], method, statistic=float((null.values < r).mean()))


def identification(
    profiles: npt.ArrayLike, references: npt.ArrayLike, *, draws: int = 9_999, generator: np.random.Generator
) -> Identification:
    """Return the test that packs resemble their own references more than others': (packs, scales) each, in one order.

    Formula:  r_ij the shape r of pack i and reference j;  statistic = mean of r_ii - mean of r_ij, i != j.  p permutes
    which pack bears which name, all K! ways up to 8 packs, else `draws` random ones; no p is below 1 / K!, so three
    packs cannot reach .05. Chance is not r = 0: few references correlate by the way they were chosen.
    Source: Kenny & Winquist 2001 (distinctive profile similarity); Hubert & Schultz 1976 (permutation of a matrix).

    Raises:
        DataError: for different shapes, fewer than two packs or three scales, values that are not finite, or a flat
            profile.
        OutOfRange: for fewer than one draw.

    >>> references = np.random.default_rng(0).normal(size=(4, 11))
    >>> packs = references + np.random.default_rng(1).normal(size=(4, 11))
    >>> print(identification(packs, references, generator=np.random.default_rng(0)))
    own - other r = 0.60, correct of 4 = 3.00, p = .042 (identification matrix, all 24 arrangements, n = 4)
    """
    ours, theirs = (
        _shapes(grid(profiles, "profiles", ("packs", "scales")), "profiles"),
        _shapes(references, "references"),
    )
    if ours.shape != theirs.shape:
        raise DataError(f"The profiles have shape {ours.shape} and the references {theirs.shape}; both need the same.")
    likeness, names = ours @ theirs.T, np.arange(len(ours))
    total, count = float(likeness.sum()), len(ours)

    def advantage(places: IntArray) -> FloatArray:
        own: FloatArray = likeness[names, places].sum(axis=1)
        return own / count - (total - own) / (count * (count - 1))

    null = within_blocks(np.zeros(count, dtype=np.int64), advantage, draws, generator)
    observed = float(advantage(names[None])[0])
    correct = int((likeness.argmax(axis=1) == names).sum())
    return Identification(
        symbol="own - other r",
        estimate=observed,
        ci=None,
        label=f"correct of {count}",
        statistic=float(correct),
        pvalue=null.p(observed, "greater"),
        n=count,
        method=f"identification matrix, {null}",
        matrix=tuple(map(tuple, likeness.tolist())),
        correct=correct,
    )


def concordance(predicted: npt.ArrayLike, observed: npt.ArrayLike, *, shams: npt.ArrayLike | None = None) -> Signs:
    """Return how many signed predictions came true: predicted (predictions,) of +1 and -1, observed effects beside.

    An effect of exactly zero fulfils no prediction.
    shams: (shams, predictions), the same effects of packs without meaning; their hits give `p_sham`.
    Formula:  p = P(X >= hits) for X binomial (n, 1/2).  It takes predictions as independent; where scales go together
    p_sham = (1 + #{hits_sham >= hits}) / (1 + number of shams) is the one to believe.
    Source: Arbuthnott 1710 (sign test); Barnard 1963.

    Raises:
        DataError: for unequal lengths, fewer than two predictions, a prediction other than +1 and -1, or values that
            are not finite.

    >>> print(concordance([1, 1, -1, 1, -1, 1, 1, 1], [0.3, 1.2, -0.4, 0.1, 0.2, 0.9, 0.5, 0.7]))
    hits = 0.88, hits of 8 = 7.00, p = .035 (signed predictions, binomial, n = 8)
    """
    signs, effects = vector(predicted, "predictions"), vector(observed, "observed effects")
    if signs.size != effects.size:
        raise DataError(f"There are {signs.size} predictions and {effects.size} effects; one each is needed.")
    if not (np.abs(signs) == 1).all():
        raise DataError(f"A prediction is +1 or -1; given: {signs[np.abs(signs) != 1][0]:g}. Leave out what has none.")
    hits = int((np.sign(effects) == signs).sum())
    p = float(bdtrc(hits - 1, signs.size, 0.5)) if hits else 1.0
    return Signs(
        symbol="hits",
        estimate=hits / signs.size,
        ci=None,
        label=f"hits of {signs.size}",
        statistic=float(hits),
        pvalue=max(p, sys.float_info.min),
        n=signs.size,
        method="signed predictions, binomial",
        hits=hits,
        p_sham=None if shams is None else _sham_hits(signs, hits, shams),
    )


def _sham_hits(signs: FloatArray, hits: int, shams: npt.ArrayLike) -> float:
    """Return the share of shams that fulfil as many predictions, the pack itself among them."""
    fakes = matrix(shams, "sham effects")
    if fakes.shape[1] != signs.size:
        raise DataError(f"The sham effects have shape {fakes.shape}; (shams, {signs.size} predictions) is needed.")
    return Null((np.sign(fakes) == signs).sum(axis=1).astype(np.float64), exact=False).p(float(hits), "greater")


def _shapes(values: npt.ArrayLike, name: str) -> FloatArray:
    """Return profiles, (profiles, scales), centred over scales and of length one, or raise."""
    try:
        rows = np.asarray(values, dtype=np.float64)
    except (TypeError, ValueError) as cause:
        raise DataError(f"The {name} are not an array of numbers: {cause}.") from cause
    if rows.ndim != 2 or rows.shape[1] < LEAST or not len(rows):
        raise DataError(f"The {name} have shape {rows.shape}; a shape needs at least {LEAST} scales.")
    if not np.isfinite(rows).all():
        raise DataError(
            f"{int((~np.isfinite(rows)).sum())} of {rows.size} values of the {name} are missing or infinite."
        )
    centred = rows - rows.mean(axis=1, keepdims=True)
    length = np.linalg.norm(centred, axis=1, keepdims=True)
    if (length <= 1e-12 * np.abs(rows).max(axis=1, keepdims=True)).any():
        raise DataError(f"A profile among the {name} is flat over {rows.shape[1]} scales: it has no shape.")
    unit: FloatArray = centred / length
    return unit


def _same_scales(one: FloatArray, other: FloatArray) -> None:
    """Refuse profiles over different numbers of scales."""
    if one.shape[1] != other.shape[1]:
        raise DataError(f"Profiles over {one.shape[1]} and {other.shape[1]} scales cannot be compared.")


def _named(
    symbol: str, estimate: float, label: str, p: float, n: int, method: str, *, statistic: float | None = None
) -> Named:
    """Return a test whose statistic is its estimate unless another is given."""
    return Named(
        symbol=symbol,
        estimate=estimate,
        ci=None,
        label=label,
        statistic=estimate if statistic is None else statistic,
        pvalue=p,
        n=n,
        method=method,
    )
