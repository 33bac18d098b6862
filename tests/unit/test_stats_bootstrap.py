from __future__ import annotations

import math

import numpy as np
import pytest
from statsmodels.regression.linear_model import OLS

from neuromod_core.kernel.errors import DataError, OutOfRange
from neuromod_core.stats import Interval, Result, bootstrap_t, bootstraps, paired
from tests.oracles.stats_bootstrap import studentised, studentised_resamples

SKEWED = [0.1, 0.3, 0.4, 1.1, 3.2]


def interval(result: Result) -> Interval:
    assert result.ci is not None
    return result.ci


def bounds(values: list[float] | np.ndarray, *, level: float = 0.95, draws: int = 1_999, seed: int = 0) -> Interval:
    return interval(bootstrap_t(values, level=level, draws=draws, generator=np.random.default_rng(seed)))


def test_both_ends_are_quantiles_of_the_whole_bootstrap_distribution() -> None:
    draws, tail = 20_000, 0.05
    exact = np.array(studentised_resamples(SKEWED))
    mean, se = np.mean(SKEWED), np.std(SKEWED, ddof=1) / math.sqrt(5)
    found = bounds(SKEWED, level=1 - 2 * tail, draws=draws)
    chance = 4 * math.sqrt(tail * (1 - tail) / draws)
    for inner, outer in (
        (exact >= (mean - found.low) / se - 1e-9, exact > (mean - found.low) / se + 1e-9),
        (exact <= (mean - found.high) / se + 1e-9, exact < (mean - found.high) / se - 1e-9),
    ):
        assert inner.mean() >= tail - chance
        assert outer.mean() <= tail + chance


def test_the_interval_reaches_further_towards_the_long_tail() -> None:
    found = bounds(np.random.default_rng(1).exponential(size=20))
    mean = np.random.default_rng(1).exponential(size=20).mean()
    assert found.high - mean > 1.2 * (mean - found.low)


def test_p_is_below_alpha_exactly_when_the_interval_leaves_out_zero() -> None:
    draw = np.random.default_rng(2)
    outside = []
    for _ in range(60):
        result = bootstrap_t(draw.normal(0.6, 1.0, 12), draws=999, generator=draw)
        found = interval(result)
        outside.append(found.low > 0 or found.high < 0)
        assert (result.pvalue <= 0.05) == outside[-1]
    assert 0 < sum(outside) < 60


def test_coverage_holds_with_few_skewed_units() -> None:
    """Exponential units, mean 1: nominal 95 %; 0.90 is four standard errors of 400 studies below it."""
    draw, studies = np.random.default_rng(3), 400
    found = [bounds(draw.exponential(size=16), draws=599, seed=study) for study in range(studies)]
    assert np.mean([low <= 1 <= high for low, high, _ in found]) >= 0.90


def test_a_large_symmetric_sample_gives_the_normal_interval() -> None:
    values = np.random.default_rng(4).normal(2.0, 1.0, 400)
    half = 1.96 * values.std(ddof=1) / 20
    found = bounds(values, draws=9_999)
    assert (found.low, found.high) == pytest.approx((values.mean() - half, values.mean() + half), abs=0.1 * half)


def test_shift_and_scale_move_the_interval_with_the_data() -> None:
    plain, moved = bounds(SKEWED, level=0.8), bounds(np.array(SKEWED) * 4 + 8, level=0.8)
    assert (moved.low, moved.high) == pytest.approx((4 * plain.low + 8, 4 * plain.high + 8), rel=1e-12)


def test_the_statistic_is_students() -> None:
    result = bootstrap_t(SKEWED, level=0.8, draws=99, generator=np.random.default_rng(0))
    assert result.statistic == pytest.approx(paired(SKEWED).statistic, rel=1e-12)


def test_the_result_is_a_sentence() -> None:
    result = bootstrap_t(SKEWED, level=0.9, draws=999, generator=np.random.default_rng(0))
    assert str(result).startswith("M = 1.02, 90% CI [")
    assert str(result).endswith("(bootstrap-t, 999 draws, n = 5)")
    assert result.as_row()["ci_low"] == interval(result).low


def test_too_few_distinct_units_have_no_bounded_interval() -> None:
    with pytest.raises(DataError, match=r"interval at level 0\.95 is unbounded: too few of 3 units differ"):
        bounds([0.0, 1.0, 3.0])


def test_differences_that_all_agree_have_no_interval() -> None:
    with pytest.raises(DataError, match="All 4 differences are 2: without spread"):
        bounds([2.0] * 4)


def test_too_few_draws_for_the_level_are_refused() -> None:
    with pytest.raises(OutOfRange, match=r"38 draws cannot bound an interval at level 0\.95; it needs at least 39"):
        bounds(SKEWED, draws=38)
    assert bounds([float(k) for k in range(12)], draws=39).low < 5.5


def test_a_missing_difference_is_refused() -> None:
    with pytest.raises(DataError, match="1 of 3 differences are missing"):
        bounds([0.1, math.nan, 0.2])


def test_clusters_of_one_are_no_clusters() -> None:
    plain, clustered = (
        bootstrap_t(SKEWED, level=0.8, draws=499, cluster=labels, generator=np.random.default_rng(0))
        for labels in (None, list("abcde"))
    )
    assert interval(clustered) == interval(plain)
    assert (clustered.pvalue, clustered.statistic, clustered.n) == (plain.pvalue, plain.statistic, plain.n)


def test_equal_clusters_are_their_means() -> None:
    values, labels = np.random.default_rng(5).normal(1.0, 1.0, (12, 3)), np.repeat(np.arange(12), 3)
    options = {"draws": 1_999}
    whole = bootstrap_t(values.ravel(), cluster=labels, generator=np.random.default_rng(0), **options)  # type: ignore[arg-type]
    means = bootstrap_t(values.mean(axis=1), generator=np.random.default_rng(0), **options)  # type: ignore[arg-type]
    assert interval(whole)[:2] == pytest.approx(interval(means)[:2], rel=1e-10)
    assert (whole.n, whole.method) == (12, "bootstrap-t, 1999 draws of clusters of 36 units")


def test_the_standard_error_of_unequal_clusters_agrees_with_statsmodels() -> None:
    labels = np.repeat(np.arange(9), [1, 2, 3, 4, 5, 1, 2, 6, 3])
    values = np.random.default_rng(6).normal(size=labels.size) + np.random.default_rng(7).normal(size=9)[labels]
    fit = OLS(values, np.ones(labels.size)).fit()
    theirs = fit.get_robustcov_results("cluster", groups=labels, use_correction=False).bse[0] * math.sqrt(9 / 8)
    found = bootstrap_t(values, cluster=labels, draws=499, generator=np.random.default_rng(0))
    assert found.estimate / found.statistic == pytest.approx(theirs, rel=1e-10)
    assert found.estimate == pytest.approx(values.mean(), rel=1e-12)


def test_coverage_holds_with_clusters_and_fails_without() -> None:
    """Twelve vignettes of four near copies; 0.90 is four standard errors of 300 studies below 0.95, nearly."""
    draw, labels, inside = np.random.default_rng(8), np.repeat(np.arange(12), 4), []
    for study in range(300):
        values = draw.exponential(size=12)[labels] + 0.1 * draw.normal(size=48)
        both = [
            interval(bootstrap_t(values, cluster=cluster, draws=399, generator=np.random.default_rng(study)))
            for cluster in (labels, None)
        ]
        inside.append([low <= 1 <= high for low, high, _ in both])
    clustered, naive = np.mean(inside, axis=0)
    assert clustered >= 0.90
    assert naive < 0.80


def test_clusters_that_cannot_be_resampled_are_refused() -> None:
    for labels, message in (
        ([0, 0, 0, 0, 0], "All 5 units are in one cluster"),
        ([0, 1], r"cluster labels have shape \(2,\); one label for each of 5"),
        ([0, 1, 1, None, 2], "1 of 5 cluster labels are missing, the first at 3"),
        ([0, 1, 0, 1, 1], "is unbounded: too few of 2 clusters differ"),
    ):
        with pytest.raises(DataError, match=message):
            bootstrap_t(SKEWED, cluster=labels, draws=99, generator=np.random.default_rng(0))  # type: ignore[arg-type]
    with pytest.raises(DataError, match="without spread"):
        bootstrap_t([1.0, 3.0, 1.0, 3.0], cluster=[0, 0, 1, 1], draws=99, generator=np.random.default_rng(0))


# ------------------------------------------------------------------------------------------------------- many contrasts


def table(units: int, contrasts: int) -> np.ndarray:
    """Contrasts of unequal spread, level and shape; the last column but one is zero or one."""
    draw = np.random.default_rng(9)
    data = draw.exponential(size=(units, contrasts)) * 10.0 ** np.arange(contrasts) + np.arange(contrasts)
    data[:, -2] = draw.integers(0, 2, units)
    return data


def test_one_set_of_resamples_gives_every_contrast_what_it_gets_alone() -> None:
    data = table(20, 5)
    found = bootstraps(data, level=0.9, draws=1_999, generator=np.random.default_rng(3))
    for column, each in zip(data.T, found, strict=True):
        assert each == bootstrap_t(column, level=0.9, draws=1_999, generator=np.random.default_rng(3))


@pytest.mark.parametrize("clustered", [False, True])
def test_intervals_are_those_of_the_resamples_one_by_one(clustered: bool) -> None:
    draws, level = 999, 0.9
    labels = np.repeat(np.arange(9), [1, 2, 3, 1, 2, 1, 4, 2, 1]) if clustered else np.arange(17)
    for column in table(17, 4).T:
        found = bootstrap_t(column, cluster=labels, level=level, draws=draws, generator=np.random.default_rng(4))
        sizes, sums = np.bincount(labels), np.bincount(labels, weights=column)
        chosen = np.random.default_rng(4).integers(len(sizes), size=(draws, len(sizes)))
        t = sorted(studentised(sizes[row].tolist(), sums[row].tolist(), float(column.mean())) for row in chosen)
        se = found.estimate / found.statistic
        assert interval(found)[:2] == pytest.approx((found.estimate - se * t[949], found.estimate - se * t[49]))


def test_what_has_no_interval_stands_beside_what_has_one() -> None:
    data = np.column_stack([np.full(12, 2.0), np.eye(12)[0], np.arange(12.0)])
    constant, lone, plain = bootstraps(data, draws=499, generator=np.random.default_rng(0))
    assert str(constant) == str(error_of(data[:, 0]))
    assert "is unbounded: too few of 12 units differ" in str(lone)
    assert str(lone) == str(error_of(data[:, 1]))
    assert isinstance(plain, Result)


def error_of(column: np.ndarray) -> DataError:
    with pytest.raises(DataError) as caught:
        bootstrap_t(column, draws=499, generator=np.random.default_rng(0))
    return caught.value


def test_units_that_hardly_differ_keep_their_digits() -> None:
    """One unit stands far out: without it a resample varies by a hundred-millionth of the whole."""
    values = np.r_[1e8, np.random.default_rng(5).normal(size=39)]
    draws, t = 199, []
    for row in np.random.default_rng(6).integers(40, size=(draws, 40)):
        sample = values[row]
        t.append((sample.mean() - values.mean()) / (sample.std(ddof=1) / math.sqrt(40)))
    found = bootstrap_t(values, level=0.9, draws=draws, generator=np.random.default_rng(6))
    se = values.std(ddof=1) / math.sqrt(40)
    assert interval(found).high == pytest.approx(values.mean() - se * sorted(t)[9], rel=1e-9)
