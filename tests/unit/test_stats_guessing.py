from __future__ import annotations

import math
import statistics

import numpy as np
import pytest
from scipy.stats import mannwhitneyu
from sklearn.metrics import roc_auc_score

from neuromod_core.kernel.errors import DataError, OutOfRange, UnknownName
from neuromod_core.stats import Named, auc
from neuromod_core.stats.arrangements import Alternative
from neuromod_core.stats.effectsize import dominance_interval
from tests.oracles.stats_permutation import area, rearranged, share

LABELS = [0, 1, 0, 1, 1, 0, 0]


def guess(scores: object, labels: object, **options: object) -> Named:
    return auc(scores, labels, generator=np.random.default_rng(0), **options)  # type: ignore[arg-type]


def cases(n: int, shift: float, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    labels = np.arange(n) % 2
    return np.random.default_rng(seed).normal(size=n) + shift * labels, labels


@pytest.mark.parametrize("alternative", ["greater", "less", "two-sided"])
@pytest.mark.parametrize("ties", [False, True])
def test_p_agrees_with_every_arrangement(alternative: Alternative, ties: bool) -> None:
    scores = cases(7, 0.8)[0]
    scores = np.round(scores) if ties else scores
    every = [area(scores.tolist(), labels) for labels in rearranged(LABELS, [0] * 7)]
    fold = {"greater": lambda a: a, "less": lambda a: -a, "two-sided": lambda a: abs(a - 0.5)}[alternative]
    observed = area(scores.tolist(), LABELS)
    found = guess(scores, LABELS, alternative=alternative)
    assert found.estimate == pytest.approx(observed, abs=1e-14)
    assert found.pvalue == pytest.approx(share(every, observed, fold), abs=1e-12)


@pytest.mark.parametrize("alternative", ["greater", "two-sided"])
def test_within_units_only_the_arrangements_within_units_count(alternative: Alternative) -> None:
    block, scores = [0, 0, 0, 1, 1, 1, 1], cases(7, 0.8, 1)[0]
    labels, observed = [list(order) for order in rearranged(LABELS, block)], area(scores.tolist(), LABELS)
    every = [area(scores.tolist(), order) for order in labels]
    middle = float(np.mean(every))
    fold = (lambda a: a) if alternative == "greater" else (lambda a: abs(a - middle))
    found = guess(scores, LABELS, block=list("aaabbbb"), alternative=alternative)
    assert found.pvalue == pytest.approx(share(every, observed, fold), abs=1e-12)
    assert "all 144 arrangements" in found.method


@pytest.mark.parametrize("n", [20, 101])
def test_the_area_agrees_with_scikit_learn_and_scipy(n: int) -> None:
    scores, labels = cases(n, 0.7)
    scores = np.round(scores, 1)
    found = guess(scores, labels, draws=99)
    assert found.estimate == pytest.approx(roc_auc_score(labels, scores), abs=1e-12)
    assert found.statistic == mannwhitneyu(scores[labels == 1], scores[labels == 0]).statistic


def test_random_arrangements_approach_the_exact_rank_sum_test() -> None:
    scores, labels = cases(24, 0.9, 3)
    exact, draws = mannwhitneyu(scores[labels == 1], scores[labels == 0], method="exact").pvalue, 40_000
    found = guess(scores, labels, draws=draws).pvalue
    assert 0.0 < exact < 0.5
    assert found == pytest.approx(exact, abs=4 * math.sqrt(exact * (1 - exact) / draws))


def test_groups_of_unequal_size_bring_their_own_variance() -> None:
    """DeLong's variance from the mean placement of every case in the other group, scored 0, 1/2 or 1."""
    scores, labels = [0.1, 0.4, 0.5, 0.9, 0.3, 0.5, 0.8, 0.7, 0.2, 0.6], [0, 0, 1, 1, 0, 0, 0, 1, 0, 0]
    ones = [score for score, label in zip(scores, labels, strict=True) if label]
    zeros = [score for score, label in zip(scores, labels, strict=True) if not label]
    variance = statistics.variance(area([one, *zeros], [1, *[0] * 7]) for one in ones) / 3
    variance += statistics.variance(area([*ones, zero], [1, 1, 1, 0]) for zero in zeros) / 7
    low, high, _ = dominance_interval(2 * area(scores, labels) - 1, 4 * variance, least=3, level=0.9)
    assert guess(scores, labels, level=0.9).ci == pytest.approx(((1 + low) / 2, (1 + high) / 2, 0.9))


@pytest.mark.parametrize(("shift", "true"), [(0.0, 0.5), (1.5, 0.8555778)])
def test_the_interval_covers_and_stays_in_range(shift: float, true: float) -> None:
    """Nominal 95 %; 0.906 is four standard errors of 400 studies below it."""
    found = [guess(*cases(40, shift, seed), draws=9).ci for seed in range(400)]
    assert all(ci is not None and 0 <= ci.low <= ci.high <= 1 for ci in found)
    assert np.mean([ci is not None and ci.low <= true <= ci.high for ci in found]) >= 0.906


def test_exchanging_the_labels_reflects_the_area() -> None:
    scores, labels = cases(30, 0.5)
    one, other = guess(scores, labels, draws=500), guess(scores, 1 - labels, draws=500)
    assert other.estimate == pytest.approx(1 - one.estimate)
    assert one.ci is not None
    assert other.ci is not None
    assert (other.ci.low, other.ci.high) == pytest.approx((1 - one.ci.high, 1 - one.ci.low))
    assert guess(-scores, labels, draws=500).pvalue == pytest.approx(one.pvalue)


def test_perfect_guessing_has_the_least_p_and_an_interval_with_a_width() -> None:
    found = guess(np.arange(40) + 100 * (np.arange(40) % 2), np.arange(40) % 2, draws=999)
    assert (found.estimate, found.pvalue) == (1.0, 1 / 1000)
    assert found.ci is not None
    assert 0.7 < found.ci.low < found.ci.high == 1.0


def test_units_that_differ_in_level_are_no_leak_within_units() -> None:
    unit = np.repeat(np.arange(30), 2)
    labels = np.tile([0, 1], 30)
    scores = 10.0 * unit + np.random.default_rng(5).normal(size=60) + 1.5 * labels
    assert guess(scores, labels, draws=1_999).pvalue > 0.5
    assert guess(scores, labels, block=unit, draws=1_999).pvalue < 0.01


@pytest.mark.parametrize(
    ("scores", "labels", "options", "message"),
    [
        ([1.0, 2.0, 3.0, 4.0], [0, 1, 1], {}, "There are 4 scores and 3 labels"),
        ([1.0, 2.0, 3.0, 4.0], [0, 1, 2, 1], {}, "A label is 0 or 1; given: 2"),
        ([1.0, 2.0, 3.0, 4.0], [0, 0, 0, 1], {}, "1 of 4 labels are 1; at least 2 of either"),
        ([1.0, 1.0, 1.0, 1.0], [0, 0, 1, 1], {}, "All 4 scores are 1"),
        ([1.0, 2.0, math.nan, 4.0], [0, 0, 1, 1], {}, "1 of 4 scores are missing"),
        ([1.0, 2.0, 3.0, 4.0], [0, 0, 1, 1], {"block": [0, 0, 1, 1]}, "None of 2 blocks holds both labels"),
        ([1.0, 2.0, 3.0, 4.0], [0, 0, 1, 1], {"block": [0, 0, 1]}, r"block labels have shape \(3,\)"),
    ],
)
def test_guesses_that_cannot_be_judged_are_refused(
    scores: list[float], labels: list[int], options: dict[str, object], message: str
) -> None:
    with pytest.raises(DataError, match=message):
        guess(scores, labels, **options)


def test_other_refusals_say_why() -> None:
    with pytest.raises(OutOfRange, match="0 draws"):
        guess(*cases(20, 0.0), draws=0)
    with pytest.raises(OutOfRange, match="The confidence level is 0"):
        guess(*cases(20, 0.0), level=0, draws=9)
    with pytest.raises(UnknownName, match="No alternative is called 'above'"):
        guess(*cases(20, 0.0), alternative="above", draws=9)
