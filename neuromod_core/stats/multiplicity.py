"""More than one hypothesis: adjusted p-values, two-level families, and claims that need every test."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, TypeAlias

import numpy as np
import numpy.typing as npt

from neuromod_core.kernel.errors import DataError
from neuromod_core.kernel.register import unknown
from neuromod_core.stats.sample import FloatArray, open_unit

Method: TypeAlias = Literal["bh", "bonferroni", "by", "holm"]


@dataclass(frozen=True)
class Family:
    """One family of a two-level procedure.

    simes: the p-value of the hypothesis that nothing in the family is true.
    selected: whether the family was selected; when not, none of its hypotheses is rejected.
    p_adj: compare with the overall level; None when the family was not selected.
    """

    name: str
    simes: float
    selected: bool
    p_adj: tuple[float, ...] | None
    rejected: tuple[bool, ...]


def adjust(pvalues: npt.ArrayLike, method: Method = "bh") -> FloatArray:
    """Return the adjusted p-values of a family, in the order given: (m,) to (m,).

    With p sorted upwards, i its rank and both extrema taken over ranks:
        "bh"          min over j >= i of  m p_j / j           false discovery rate; Benjamini & Hochberg 1995
        "by"          that times  1 + 1/2 + ... + 1/m         the same under any dependence; Benjamini & Yekutieli 2001
        "holm"        max over j <= i of  (m - j + 1) p_j     family-wise error; Holm 1979
        "bonferroni"  m p_i                                   family-wise error; Dunn 1961
    and 1 where that exceeds 1.

    Raises:
        DataError: for no p-values, or one outside (0, 1]: a p-value is never zero.
        UnknownName: for another method.

    >>> adjust([0.01, 0.04, 0.03]).tolist()
    [0.03, 0.04, 0.04]
    """
    p = _pvalues(pvalues)
    order = np.argsort(p, kind="stable")
    rank = np.arange(1, p.size + 1)
    match method:
        case "bh":
            adjusted = _running_minimum(p.size * p[order] / rank)
        case "by":
            adjusted = _running_minimum(p.size * p[order] / rank) * np.sum(1 / rank)
        case "holm":
            adjusted = np.maximum.accumulate((p.size - rank + 1) * p[order])
        case "bonferroni":
            adjusted = p.size * p[order]
        case _:
            raise unknown("adjustment", method, ["bh", "bonferroni", "by", "holm"])
    out = np.empty_like(p)
    out[order] = np.minimum(adjusted, 1.0)
    return out


def bogomolov(families: Mapping[str, npt.ArrayLike], *, level: float = 0.05) -> tuple[Family, ...]:
    """Return which families, and which hypotheses within them, are rejected at false discovery rate `level`.

    A family's Simes p-value is the least of its BH-adjusted p-values. BH over these at `level` selects the families.
    Within each of the R selected out of m, BH is applied at  level R / m,  so  p_adj = BH-adjusted p times m / R.
    Source: Benjamini & Bogomolov 2014, Journal of the Royal Statistical Society B 76:297.

    Raises:
        DataError: for no family, an empty one, or a p-value outside (0, 1].
        OutOfRange: for a level outside (0, 1).

    >>> [family.rejected for family in bogomolov({"A": [0.001, 0.2], "B": [0.3, 0.5]})]
    [(True, False), (False, False)]
    """
    open_unit(level, "The false discovery rate")
    within = {name: adjust(pvalues) for name, pvalues in families.items()}
    simes = [float(p.min()) for p in within.values()]
    selected = adjust(simes) <= level
    inflation = len(within) / max(int(selected.sum()), 1)
    return tuple(
        _family(name, p, bool(chosen), inflation=inflation, level=level)
        for (name, p), chosen in zip(within.items(), selected, strict=True)
    )


benjamini_bogomolov = bogomolov  # the name it had first


def intersection_union(pvalues: npt.ArrayLike) -> float:
    """Return the p-value of a claim that holds only when every one of its tests rejects: the largest.

    Source: Berger 1982, Technometrics 24:295.

    Raises:
        DataError: for no p-values, or one outside (0, 1].

    >>> intersection_union([0.004, 0.031])
    0.031
    """
    return float(_pvalues(pvalues).max())


def _family(name: str, p: FloatArray, selected: bool, *, inflation: float, level: float) -> Family:
    """Return the verdict on one family from its BH-adjusted p-values."""
    if not selected:
        return Family(name, float(p.min()), False, None, (False,) * p.size)
    p_adj = np.minimum(p * inflation, 1.0)
    return Family(name, float(p.min()), True, tuple(p_adj.tolist()), tuple((p_adj <= level).tolist()))


def _running_minimum(ascending: FloatArray) -> FloatArray:
    """Return, at each rank, the least value from there on."""
    return np.minimum.accumulate(ascending[::-1])[::-1]


def _pvalues(values: npt.ArrayLike) -> FloatArray:
    """Return `values` as (m,) p-values, or raise."""
    p = np.asarray(values, dtype=np.float64)
    if p.ndim != 1 or p.size == 0:
        raise DataError(f"The p-values have shape {p.shape}; a family is (m,) with m at least 1.")
    if not ((p > 0) & (p <= 1)).all():
        raise DataError(f"A p-value lies in (0, 1]; given: {p[~((p > 0) & (p <= 1))][0]}.")
    return p
