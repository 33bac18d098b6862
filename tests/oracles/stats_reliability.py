"""Reliability from its definitions: one split, one rater and one item at a time."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from statistics import correlation, fmean, variance

Rows = Sequence[Sequence[float]]


def cronbach(rows: Rows) -> float:
    k = len(rows[0])
    return (
        k / (k - 1) * (1 - sum(variance(item) for item in zip(*rows, strict=True)) / variance([sum(r) for r in rows]))
    )


def halves(rows: Rows) -> list[tuple[list[float], list[float]]]:
    """Return the sums of the two halves for every halving, each once."""
    k = len(rows[0])
    chosen = {frozenset(half) for half in itertools.combinations(range(k), k // 2)}
    if k % 2 == 0:
        chosen = {half for half in chosen if 0 in half}
    return [([sum(r[j] for j in half) for r in rows], [sum(r[j] for j in range(k) if j not in half) for r in rows])
            for half in chosen]  # fmt: skip


def spearman_brown(rows: Rows) -> float:
    return fmean(2 * r / (1 + r) for r in (correlation(*pair) for pair in halves(rows)))


def rulon(rows: Rows) -> float:
    """Return the mean over halvings of 4 cov / variance of the sum: alpha, when the halves are of one size."""
    whole = variance([sum(row) for row in rows])
    return fmean(4 * (whole - variance(one) - variance(other)) / 2 / whole for one, other in halves(rows))


def item_rest(rows: Rows) -> list[float]:
    return [correlation([row[j] for row in rows], [sum(row) - row[j] for row in rows]) for j in range(len(rows[0]))]
