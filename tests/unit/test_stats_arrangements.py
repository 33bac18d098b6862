from __future__ import annotations

import itertools
import math
from collections import Counter

import numpy as np
import pytest
from scipy.stats import chisquare

from neuromod_core.kernel.errors import OutOfRange, UnknownName
from neuromod_core.stats.arrangements import EXACT, Null, within_blocks, within_rows


def stream(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


def coded(numbers: np.ndarray) -> np.ndarray:
    """Return one number for each arrangement: (arrangements, ...) read as digits."""
    flat = numbers.reshape(len(numbers), -1)
    return np.asarray(flat @ (10.0 ** np.arange(flat.shape[1])))


def test_every_arrangement_within_rows_comes_once() -> None:
    table = np.array([[1.0, 2.0, 3.0], [4.0, 5.0, 6.0]])
    null = within_rows(table, coded, 1, stream())
    rows = itertools.product(itertools.permutations([1.0, 2.0, 3.0]), itertools.permutations([4.0, 5.0, 6.0]))
    assert null.exact
    assert sorted(null.values) == sorted(coded(np.array(list(rows))))


@pytest.mark.parametrize("block", [[0, 0, 0, 0], [0, 1, 0, 1, 1], [0, 0, 1, 2, 2]])
def test_every_arrangement_within_blocks_comes_once(block: list[int]) -> None:
    null = within_blocks(np.array(block), lambda places: coded(places.astype(float)), 1, stream())
    ways = [order for order in itertools.permutations(range(len(block)))
            if [block[unit] for unit in order] == block]  # fmt: skip
    assert null.exact
    assert sorted(null.values) == sorted(coded(np.array(ways, dtype=float)))


def test_random_arrangements_within_blocks_are_equally_likely() -> None:
    """Twelve units, of which three in one block are watched; the block has nine other units' company elsewhere."""
    block, seen = np.array([0, 1, 0, 1, 0, 1, 1, 1, 1, 1, 1, 1]), []
    within_blocks(block, lambda places: seen.append(places) or np.zeros(len(places)), 12_000, stream())  # type: ignore[func-returns-value]
    places = np.concatenate(seen)
    assert (np.sort(places, axis=1) == np.arange(12)).all()
    assert (block[places] == block).all()
    counts = Counter(map(tuple, places[:, block == 0].tolist()))
    assert len(counts) == 6
    assert chisquare(list(counts.values())).pvalue > 1e-4


def test_random_arrangements_within_rows_are_equally_likely() -> None:
    seen = []
    table = np.tile([1.0, 2.0, 3.0], (9, 1))
    within_rows(table, lambda tables: seen.append(tables) or np.zeros(len(tables)), 12_000, stream())  # type: ignore[func-returns-value]
    tables = np.concatenate(seen)
    assert (np.sort(tables, axis=2) == [1.0, 2.0, 3.0]).all()
    for row in (0, 8):
        assert chisquare(list(Counter(map(tuple, tables[:, row].tolist())).values())).pvalue > 1e-4
    both = Counter(map(tuple, tables[:, [0, 8], 0].tolist()))
    assert (len(both), chisquare(list(both.values())).pvalue > 1e-4) == (9, True)


def test_the_border_between_all_and_some() -> None:
    for units, exact in ((16, True), (17, False)):
        null = within_rows(stream().normal(size=(units, 2)), lambda t: t[:, :, 0].sum(axis=1), 500, stream())
        assert (null.exact, null.values.size) == (exact, EXACT if exact else 500)


def test_p_counts_ties_and_the_observed_one() -> None:
    values = np.array([-2.0, -1.0, 0.0, 1.0, 1.0 - 1e-14])
    exact, drawn = Null(values, exact=True), Null(values, exact=False)
    assert [exact.p(1.0, side) for side in ("greater", "less", "two-sided")] == [2 / 5, 1.0, 4 / 5]
    assert [drawn.p(1.0, side) for side in ("greater", "less", "two-sided")] == [3 / 6, 1.0, 5 / 6]
    assert drawn.p(99.0, "greater") == 1 / 6
    assert (str(exact), str(drawn)) == ("all 5 arrangements", "5 random arrangements")


def test_no_draws_and_another_alternative_are_refused_even_where_all_are_counted() -> None:
    for draws in (0, -3):
        with pytest.raises(OutOfRange, match=f"A permutation test has {draws} draws; at least 1 is needed"):
            within_rows(np.eye(2), coded, draws, stream())
        with pytest.raises(OutOfRange, match=f"{draws} draws"):
            within_blocks(np.zeros(3, dtype=np.int64), coded, draws, stream())
    with pytest.raises(UnknownName, match=r"No alternative is called 'more'\. Known: greater, less, two-sided"):
        Null(np.zeros(2), exact=True).p(0.0, "more")  # type: ignore[arg-type]
    assert math.isfinite(Null(np.zeros(2), exact=True).p(0.0, "greater"))
