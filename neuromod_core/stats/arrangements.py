"""Every way in which labels could have fallen: the arrangements a permutation test counts, all of them or a sample.

Up to `EXACT` arrangements are enumerated, and p is a share of all; beyond, p counts the observed one among the random
ones, so it is never zero.  Source: Phipson & Smyth 2010, Statistical Applications in Genetics and Molecular Biology
9:39.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterable, Iterator
from typing import Literal, NamedTuple, TypeAlias

import numpy as np

from neuromod_core.kernel.errors import OutOfRange
from neuromod_core.kernel.register import unknown
from neuromod_core.stats.sample import FloatArray, IntArray

Alternative: TypeAlias = Literal["greater", "less", "two-sided"]

EXACT = 2**16  # up to here all arrangements are enumerated
_CHUNK = 2**20  # numbers held at once: 8 MB
_TIE = 1e-12  # of the largest value: arrangements that are equal on paper; a tie counts against the hypothesis


class Null(NamedTuple):
    """The statistic under rearrangement, (arrangements,), centred so that zero is what chance expects."""

    values: FloatArray
    exact: bool

    def p(self, observed: float, alternative: Alternative) -> float:
        """Return the share of arrangements that reach `observed`; the observed one is among them.

        Raises:
            UnknownName: for another alternative.
        """
        tie = _TIE * max(float(np.abs(self.values).max()), abs(observed))
        match alternative:
            case "greater":
                reached = self.values >= observed - tie
            case "less":
                reached = self.values <= observed + tie
            case "two-sided":
                reached = np.abs(self.values) >= abs(observed) - tie
            case _:
                raise unknown("alternative", alternative, ["greater", "less", "two-sided"])
        own = 0 if self.exact else 1
        return (int(np.count_nonzero(reached)) + own) / (self.values.size + own)

    def __str__(self) -> str:
        return f"all {self.values.size} arrangements" if self.exact else f"{self.values.size} random arrangements"


def within_rows(
    table: FloatArray, statistic: Callable[[FloatArray], FloatArray], draws: int, generator: np.random.Generator
) -> Null:
    """Return the null of a statistic when every row of (units, arms) is rearranged on its own: (arms!)^units ways.

    statistic: maps (arrangements, units, arms) to (arrangements,).

    Raises:
        OutOfRange: for fewer than one draw.
    """
    check_draws(draws)
    rows, columns = table.shape
    ways = math.factorial(columns)
    exact = rows * math.log(ways) <= math.log(EXACT) + 1e-9
    spans = _spans(ways**rows if exact else draws, table.size)
    tables = _all_rows(table, spans) if exact else _random_rows(table, spans, generator)
    return Null(np.concatenate([statistic(chunk) for chunk in tables]), exact)


def within_blocks(
    block: IntArray, statistic: Callable[[IntArray], FloatArray], draws: int, generator: np.random.Generator
) -> Null:
    """Return the null of a statistic when units change places within their block, (units,) of block numbers.

    statistic: maps (arrangements, units), the unit whose label each unit receives, to (arrangements,).

    Raises:
        OutOfRange: for fewer than one draw.
    """
    check_draws(draws)
    sizes = np.bincount(block)
    exact = sum(math.lgamma(size + 1) for size in sizes) <= math.log(EXACT) + 1e-9
    if exact:
        places: Iterable[IntArray] = [_all_places(block)]
    else:
        places = _random_places(block, _spans(draws, block.size), generator)
    return Null(np.concatenate([statistic(chunk) for chunk in places]), exact)


def check_draws(draws: int) -> None:
    """Refuse fewer than one draw, also where all arrangements are enumerated.

    Raises:
        OutOfRange: for fewer than one.
    """
    if draws < 1:
        raise OutOfRange(f"A permutation test has {draws} draws; at least 1 is needed.")


def orders(size: int) -> IntArray:
    """Return every order of `size` things: (size!, size)."""
    return np.array(list(itertools.permutations(range(size))), dtype=np.int64)


def _spans(total: int, size: int) -> Iterator[tuple[int, int]]:
    """Yield (start, stop) of consecutive arrangements of `size` numbers each, a bounded number at a time."""
    step = max(_CHUNK // size, 1)
    for start in range(0, total, step):
        yield start, min(start + step, total)


def _all_rows(table: FloatArray, spans: Iterator[tuple[int, int]]) -> Iterator[FloatArray]:
    """Yield the table in every arrangement within rows: the digits of its number are the orders of the rows."""
    rows, columns = table.shape
    every = orders(columns)
    place = len(every) ** np.arange(rows, dtype=np.int64)
    for start, stop in spans:
        digits = np.arange(start, stop, dtype=np.int64)[:, None] // place % len(every)
        yield np.take_along_axis(table[None], every[digits], axis=2)


def _random_rows(
    table: FloatArray, spans: Iterator[tuple[int, int]], generator: np.random.Generator
) -> Iterator[FloatArray]:
    """Yield random arrangements within rows."""
    for start, stop in spans:
        yield generator.permuted(np.broadcast_to(table, (stop - start, *table.shape)), axis=2)


def _all_places(block: IntArray) -> IntArray:
    """Return every arrangement within blocks: (arrangements, units)."""
    places = np.arange(block.size)[None]
    for number in range(int(block.max()) + 1):
        members = np.flatnonzero(block == number)
        moved = members[orders(members.size)]
        places = np.repeat(places, len(moved), axis=0)
        places[:, members] = np.tile(moved, (len(places) // len(moved), 1))
    return places


def _random_places(
    block: IntArray, spans: Iterator[tuple[int, int]], generator: np.random.Generator
) -> Iterator[IntArray]:
    """Yield random arrangements within blocks: sorting by block, then by a random key, shuffles each block."""
    by_block = np.argsort(block, kind="stable")
    for start, stop in spans:
        places = np.empty((stop - start, block.size), dtype=np.int64)
        places[:, by_block] = np.argsort(block + generator.random((stop - start, block.size)), axis=1)
        yield places
