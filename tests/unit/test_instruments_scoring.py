from __future__ import annotations

import math

import numpy as np
import pytest

from neuromod_core.instruments import (
    ItemScore,
    OptionScore,
    Order,
    Score,
    levels,
    option_expected,
    option_score,
    statement_contrast,
    statement_score,
)
from neuromod_core.kernel.errors import DataError, UnknownName
from neuromod_core.kernel.rng import rng

INF = math.inf


def test_the_statement_score_is_the_mean_difference_in_nats_per_pair() -> None:
    assert statement_score([-10.0, -20.0, -30.0], [-12.0, -19.0, -34.0]) == Score(5 / 3, 3, 3, None)


def test_swapping_keyed_and_antonym_reverses_the_sign_and_a_common_shift_cancels() -> None:
    draws = rng(1, "statement score")
    keyed, antonym, shift = (-30 * draws.random(15) for _ in range(3))
    score = statement_score(keyed, antonym).value
    assert score is not None
    assert statement_score(antonym, keyed).value == -score
    assert statement_score(keyed + shift, antonym + shift).value == pytest.approx(score, abs=1e-12)


@pytest.mark.parametrize(
    ("keyed", "antonym", "expected"),
    [
        (-3.0, -4.5, ItemScore(1.5, None)),
        (-INF, -4.5, ItemScore(None, "outside the nucleus")),
        (-3.0, -INF, ItemScore(None, "outside the nucleus")),
        (-INF, -INF, ItemScore(None, "outside the nucleus")),
        (math.nan, -INF, ItemScore(None, "not a number")),
        (-3.0, INF, ItemScore(None, "not a number")),
    ],
)
def test_a_pair_without_two_finite_likelihoods_is_missing(keyed: float, antonym: float, expected: ItemScore) -> None:
    assert statement_contrast(keyed, antonym) == expected


def test_eighty_percent_of_the_items_are_enough_and_the_mean_is_over_the_valid_ones() -> None:
    keyed = np.array([-1.0] * 12 + [-INF] * 3)
    antonym = np.full(15, -3.0)
    assert statement_score(keyed, antonym) == Score(2.0, 15, 12, None)
    keyed[0] = math.nan
    reason = "11 of 15 items valid, 12 needed; first missing: not a number"
    assert statement_score(keyed, antonym) == Score(None, 15, 11, reason)


@pytest.mark.parametrize(("n", "needed"), [(1, 1), (4, 4), (5, 4), (10, 8), (11, 9), (15, 12), (20, 16)])
def test_the_number_of_items_needed_is_exact(n: int, needed: int) -> None:
    """0.8 * n in floating point would ask for one item too many at some n."""
    keyed, antonym = np.full(n, -1.0), np.full(n, -2.0)
    keyed[needed:] = -INF
    assert statement_score(keyed, antonym).value == 1.0
    keyed[needed - 1] = -INF
    assert statement_score(keyed, antonym).value is None


@pytest.mark.parametrize(
    ("keyed", "antonym", "message"),
    [
        ([-1.0, -2.0], [-1.0], r"have shapes \(2,\) and \(1,\), expected \(items,\)$"),
        ([[-1.0]], [[-1.0]], r"have shapes \(1, 1\) and \(1, 1\), expected \(items,\)$"),
        ([], [], "a score of no items was asked for, expected at least one item"),
    ],
)
def test_statement_scores_refuse_other_shapes(keyed: list[float], antonym: list[float], message: str) -> None:
    with pytest.raises(DataError, match=message):
        statement_score(keyed, antonym)


def test_the_expected_option_is_renormalised_over_the_options() -> None:
    """p = (.1, .2, .1, .2, .2), mass .8:  (0*.1 + 1*.2 + 2*.1 + 3*.2 + 4*.2) / .8 = 1.8 / .8 = 2.25."""
    found = option_expected(np.log([0.1, 0.2, 0.1, 0.2, 0.2]), "ascending")
    assert found.value == pytest.approx(2.25, abs=1e-12)
    assert found.mass == pytest.approx(0.8, abs=1e-12)
    assert found.reason is None


def test_the_two_orders_map_back_to_one_scale() -> None:
    """Descending: digit 0 stands for level 4, so the same digits give 4 - 2.25 = 1.75; mirrored digits give 2.25."""
    logprobs = np.log([0.1, 0.2, 0.1, 0.2, 0.2])
    assert option_expected(logprobs, "descending").value == pytest.approx(1.75, abs=1e-12)
    assert option_expected(logprobs[::-1], "descending").value == pytest.approx(2.25, abs=1e-12)


@pytest.mark.parametrize("order", ["ascending", "descending"])
def test_levels_are_a_permutation_and_descending_reverses_them(order: Order) -> None:
    assert sorted(levels(order, 5)) == [0, 1, 2, 3, 4]
    assert levels("descending", 5) == levels("ascending", 5)[::-1] == (4, 3, 2, 1, 0)


def test_an_unknown_order_is_refused() -> None:
    with pytest.raises(UnknownName, match=r"No option order is called 'ascendin'\. Did you mean 'ascending'\?"):
        option_expected(np.log([0.5, 0.5]), "ascendin")  # type: ignore[arg-type]


def test_an_answer_that_is_mostly_no_option_is_missing() -> None:
    found = option_expected(np.log([0.11, 0.05, 0.05, 0.05, 0.05]), "ascending")
    assert (found.value, found.reason) == (None, "option mass 0.31 < 0.50")
    assert found.mass == pytest.approx(0.31, abs=1e-12)
    assert option_expected([-INF, -INF], "ascending") == OptionScore(None, "option mass 0.00 < 0.50", mass=0.0)
    assert option_expected([math.log(0.5), -INF], "ascending") == OptionScore(0.0, None, mass=0.5)


def test_an_option_outside_the_nucleus_has_probability_zero() -> None:
    assert option_expected([-INF, math.log(0.6), -INF, -INF, math.log(0.3)], "ascending").value == pytest.approx(2.0)


def test_a_model_without_numbers_gives_no_number() -> None:
    assert option_expected([math.nan, -1.0], "ascending") == OptionScore(None, "not a number", mass=None)


@pytest.mark.parametrize(
    ("logprobs", "message"),
    [
        ([3.0, 1.0], "option probabilities sum to 22.8038, expected at most 1: are these log-probabilities?"),
        ([-1.0], r"have shape \(1,\), expected \(options,\) with two or more"),
        ([[-1.0, -2.0]], r"have shape \(1, 2\), expected \(options,\) with two or more"),
    ],
)
def test_options_refuse_what_is_no_distribution(logprobs: list[float], message: str) -> None:
    with pytest.raises(DataError, match=message):
        option_expected(logprobs, "ascending")


def test_rounding_of_single_precision_is_no_error() -> None:
    logits = np.array([9.0, 8.0, 7.0, 6.0, 5.0], dtype=np.float32)
    logprobs = logits - np.log(np.exp(logits).sum(dtype=np.float32))
    assert option_expected(logprobs + np.float32(1e-6), "ascending").reason is None


@pytest.mark.parametrize("order", ["ascending", "descending"])
def test_pomp_runs_from_zero_to_one_hundred_and_a_uniform_answer_is_its_middle(order: Order) -> None:
    certain = np.full((5, 5), -INF)
    certain[:, levels(order, 5).index(0)] = 0.0
    assert option_score(certain, order) == Score(0.0, 5, 5, None)
    certain[:, levels(order, 5).index(0)] = -INF
    certain[:, levels(order, 5).index(4)] = 0.0
    assert option_score(certain, order) == Score(100.0, 5, 5, None)
    assert option_score(np.full((5, 5), math.log(0.2)), order).value == pytest.approx(50.0)


def test_pomp_by_hand() -> None:
    """Expected options 1 and 2.25 on 0 ... 4: mean 1.625, POMP 40.625."""
    table = np.log([[0.25, 0.5, 0.25, 1e-300, 1e-300], [0.1, 0.2, 0.1, 0.2, 0.2]])
    assert option_score(table, "ascending").value == pytest.approx(40.625, abs=1e-9)


def test_an_option_scale_with_too_few_valid_items_is_missing() -> None:
    table = np.log(np.full((5, 5), 0.18))
    table[3] = np.log(0.06)
    assert option_score(table, "ascending") == Score(pytest.approx(50.0), 5, 4, None)
    table[4] = np.log(0.01)
    reason = "3 of 5 items valid, 4 needed; first missing: option mass 0.30 < 0.50"
    assert option_score(table, "ascending") == Score(None, 5, 3, reason)


@pytest.mark.parametrize("shape", [(2,), (3, 1), (0, 1), (1, 2, 3)])
def test_option_scores_refuse_what_is_no_table(shape: tuple[int, ...]) -> None:
    with pytest.raises(DataError, match=r"have shape \([\d, ]+\), expected \(items, two or more options\)$"):
        option_score(np.full(shape, -1.0), "ascending")


def test_a_score_of_no_items_is_refused() -> None:
    with pytest.raises(DataError, match="a score of no items was asked for, expected at least one item"):
        option_score(np.empty((0, 5)), "ascending")
