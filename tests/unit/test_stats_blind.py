from __future__ import annotations

import math

import numpy as np
import pytest

from neuromod_core.kernel.errors import DataError, OutOfRange, UnknownName
from neuromod_core.stats import Interval, bang, guesses, james, tango_interval
from tests.oracles import stats_blind as oracle

TRIAL = [[82, 25, 170], [27, 29, 83]]  # guesses in the trial that Bang et al. 2004 analyse


def test_both_indices_agree_with_the_paper() -> None:
    treated, control = bang(TRIAL)
    assert (round(treated.estimate, 2), round(control.estimate, 2)) == (0.21, 0.01)
    assert round(james(TRIAL).estimate, 2) == 0.75


@pytest.mark.parametrize("counts", [TRIAL, [[10, 10, 0], [10, 10, 0]], [[3, 9, 1], [7, 2, 30]], [[0, 5, 5], [8, 0, 2]]])
def test_james_agrees_with_its_definition(counts: list[list[int]]) -> None:
    assert james(counts).estimate == pytest.approx(oracle.james(counts), rel=1e-12)


def test_the_fixed_points_of_both_indices() -> None:
    right, wrong, coin, silent = [[9, 0, 0], [0, 9, 0]], [[0, 9, 0], [9, 0, 0]], [[6, 6, 0]] * 2, [[0, 0, 9]] * 2
    assert [james(table).estimate for table in (right, wrong, coin, silent)] == [0.0, 1.0, 0.5, 1.0]
    assert [bang(table, limits="score")[0].estimate for table in (right, wrong, coin, silent)] == [1.0, -1.0, 0.0, 0.0]


def test_renaming_the_arms_changes_nothing() -> None:
    swapped = [TRIAL[1][1::-1] + TRIAL[1][2:], TRIAL[0][1::-1] + TRIAL[0][2:]]
    assert bang(swapped) == bang(TRIAL)[::-1]
    assert james(swapped).estimate == pytest.approx(james(TRIAL).estimate)


def test_wald_limits_of_bang_are_those_of_the_paper() -> None:
    p1, p2, n = 82 / 277, 25 / 277, 277
    half = 1.959963984540054 * math.sqrt((p1 * (1 - p1) + p2 * (1 - p2) + 2 * p1 * p2) / n)
    assert bang(TRIAL)[0].ci == pytest.approx(((p1 - p2) - half, (p1 - p2) + half, 0.95))


def test_score_limits_of_bang_are_tangos_and_always_have_a_width() -> None:
    assert bang(TRIAL, limits="score")[1].ci == tango_interval(29, 27, 139)
    silent = bang([[0, 0, 40], [0, 0, 40]], limits="score")[0].ci
    assert isinstance(silent, Interval)
    assert silent.low < -0.05 < 0.05 < silent.high
    with pytest.raises(DataError, match='All 40 guesses of an arm are alike: no Wald interval; ask for limits="score"'):
        bang([[0, 0, 40], [20, 20, 0]])


def test_the_standard_errors_are_those_of_drawn_guesses() -> None:
    draw, cells = np.random.default_rng(0), np.array(TRIAL).ravel() / 416
    tables = draw.multinomial(416, cells, size=4_000).reshape(-1, 2, 3)
    spread = np.std([oracle.james(table.tolist()) for table in tables])
    interval = james(TRIAL).ci
    assert interval is not None
    assert (interval.high - interval.low) / (2 * 1.96) == pytest.approx(spread, rel=5 / math.sqrt(2 * 4_000))
    drawn = draw.multinomial(277, np.array(TRIAL[0]) / 277, size=4_000)
    wald = bang(TRIAL)[0].ci
    assert wald is not None
    assert (wald.high - wald.low) / (2 * 1.96) == pytest.approx(
        np.std((drawn[:, 0] - drawn[:, 1]) / 277), rel=5 / math.sqrt(2 * 4_000)
    )


def test_when_all_are_unsure_nothing_varies() -> None:
    assert james([[0, 0, 9], [0, 0, 9]]).ci is None


def test_guesses_are_counted_by_arm() -> None:
    assigned, said = ["a", "b", "b", "a", "b"], ["a", "a", "?", "b", "b"]
    assert guesses(assigned, said, arms=("a", "b"), unsure="?").tolist() == [[1, 1, 0], [1, 1, 1]]


@pytest.mark.parametrize(
    ("assigned", "said", "message"),
    [
        (["a", "c"], ["a", "b"], "'c' is none of 'a', 'b'"),
        (["a", "b"], ["a", "maybe"], r"'maybe' is none of 'a', 'b', '\?'"),
        (["a", "b"], ["a"], r"Arms have shape \(2,\) and guesses \(1,\)"),
    ],
)
def test_guesses_that_cannot_be_counted_are_refused(assigned: list[str], said: list[str], message: str) -> None:
    with pytest.raises(DataError, match=message):
        guesses(assigned, said, arms=("a", "b"), unsure="?")


@pytest.mark.parametrize("index", [bang, james])
@pytest.mark.parametrize(
    ("counts", "message"),
    [
        ([[1, 2], [3, 4]], r"have shape \(2, 2\)"),
        ([[1, 2, -1], [3, 4, 0]], "whole numbers >= 0"),
        ([[1, 2, 0.5], [3, 4, 0]], "whole numbers >= 0"),
        ([[1, 2, math.nan], [3, 4, 0]], "whole numbers >= 0"),
        ([[0, 0, 0], [3, 4, 0]], "each arm needs at least one"),
    ],
)
def test_counts_that_are_none_are_refused(index: object, counts: list[list[float]], message: str) -> None:
    with pytest.raises(DataError, match=message):
        index(counts)  # type: ignore[operator]


def test_other_refusals_say_why() -> None:
    with pytest.raises(DataError, match="All guesses come from one arm and name it"):
        james([[5, 0, 3], [0, 0, 4]])
    with pytest.raises(UnknownName, match=r"No kind of limits is called 'walt'\. Did you mean 'wald'\?"):
        bang(TRIAL, limits="walt")  # type: ignore[arg-type]
    for index in (bang, james):
        with pytest.raises(OutOfRange, match="The confidence level is 1"):
            index(TRIAL, level=1)  # type: ignore[operator]
