"""Permutation tests as a definition: every arrangement there is, one at a time."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Sequence
from statistics import fmean

Row = Sequence[float]
Fold = Callable[[float], float]


def rearranged_rows(rows: Sequence[Row]) -> Iterator[list[Row]]:
    """Yield the rows with each one in every order."""
    yield from (list(choice) for choice in itertools.product(*(itertools.permutations(row) for row in rows)))


def rearranged(items: Sequence[float], block: Sequence[int]) -> Iterator[list[float]]:
    """Yield the items in every order that leaves each in its block."""
    for order in itertools.permutations(range(len(items))):
        if all(block[place] == block[unit] for place, unit in enumerate(order)):
            yield [items[unit] for unit in order]


def share(values: Sequence[float], observed: float, fold: Fold = lambda value: value) -> float:
    """Return the share of values that reach the observed one, ties up to rounding among them."""
    return fmean(fold(value) >= fold(observed) - 1e-9 for value in values)


def ranked(row: Row) -> list[float]:
    return [sum(other < value for other in row) + (sum(other == value for other in row) + 1) / 2 for value in row]


def rank_sums(rows: Sequence[Row]) -> list[float]:
    return [sum(column) for column in zip(*map(ranked, rows), strict=True)]


def friedman_spread(rows: Sequence[Row]) -> float:
    sums = rank_sums(rows)
    return sum((total - fmean(sums)) ** 2 for total in sums)


def page_l(rows: Sequence[Row]) -> float:
    return sum(place * total for place, total in enumerate(rank_sums(rows), start=1))


def jonckheere_j(rows: Sequence[Row]) -> float:
    pairs = [(row[a], row[b]) for row in rows for a, b in itertools.combinations(range(len(row)), 2)]
    return sum(1.0 if a < b else 0.5 if a == b else 0.0 for a, b in pairs)


def area(scores: Sequence[float], labels: Sequence[float]) -> float:
    ones = [score for score, label in zip(scores, labels, strict=True) if label]
    zeros = [score for score, label in zip(scores, labels, strict=True) if not label]
    return fmean(1.0 if a > b else 0.5 if a == b else 0.0 for a in ones for b in zeros)
