from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import stats as scipy_stats

from neuromod_core.kernel.errors import DataError, OutOfRange
from neuromod_core.kernel.rng import rng
from neuromod_core.stats import Estimate, Interval, cliffs_delta, d_av, d_z, g_z, paired, paired_delta, tango_interval
from neuromod_core.stats.effectsize import dominance_interval
from tests.oracles.stats_effectsize import dominance

SLEEP = [1.2, 2.4, 1.3, 1.3, 0.0, 1.0, 1.8, 0.8, 4.6, 1.4]  # Student 1908


def limits(estimate: Estimate) -> Interval:
    assert estimate.ci is not None
    return estimate.ci


def test_standardised_means_of_students_data_agree_with_r() -> None:
    assert d_z(SLEEP).estimate == pytest.approx(1.28455756259105, rel=1e-12)
    assert limits(d_z(SLEEP))[:2] == pytest.approx((0.414627667667354, 2.1180165087725), rel=1e-6)  # effectsize 0.8.3
    assert g_z(SLEEP).estimate == pytest.approx(1.1739249035142, rel=1e-12)


@pytest.mark.parametrize(("n", "mean", "level"), [(3, 0.0, 0.9), (12, 0.7, 0.95), (60, -1.5, 0.99), (200, 3.0, 0.8)])
def test_the_limits_are_the_noncentralities_that_put_t_in_either_tail(n: int, mean: float, level: float) -> None:
    values = np.random.default_rng(n).normal(mean, 1, n)
    t, tail = paired(values).statistic, (1 - level) / 2
    low, high, _ = limits(d_z(values, level=level))
    assert scipy_stats.nct.sf(t, n - 1, low * math.sqrt(n)) == pytest.approx(tail, rel=1e-6)
    assert scipy_stats.nct.cdf(t, n - 1, high * math.sqrt(n)) == pytest.approx(tail, rel=1e-6)


def test_a_difference_that_hardly_varies_has_limits_in_proportion_to_it() -> None:
    """Then T is delta over the sample's SD, so the limits are d_z times the square roots of chi2 on 9 over 9."""
    ratios = np.sqrt(scipy_stats.chi2.ppf([0.025, 0.975], 9) / 9)
    for spread in (1e-3, 1e-4, 1e-10):
        for sign in (1, -1):
            found = d_z(sign * (1.0 + spread * np.array(SLEEP)))
            assert abs(found.estimate) > 500
            assert sorted(np.array(limits(found)[:2]) / found.estimate) == pytest.approx(ratios, rel=1e-4)


def test_the_other_sample_turns_the_sign_and_the_interval_round() -> None:
    x, y = np.random.default_rng(0).normal(size=(2, 15))
    for size in (d_z, g_z, cliffs_delta, paired_delta):
        one, other = size(x, y), size(y, x)
        assert other.estimate == pytest.approx(-one.estimate, abs=1e-14)
        assert limits(other)[:2] == pytest.approx((-limits(one).high, -limits(one).low), abs=1e-9)
    assert d_av(y, x).estimate == -d_av(x, y).estimate


def test_d_av_does_not_grow_with_the_correlation_and_d_z_does() -> None:
    shared, noise = np.random.default_rng(1).normal(size=(2, 400))
    loose, tight = shared + noise + 1, shared + 0.1 * noise + 1
    assert d_z(tight, shared).estimate > 8 * d_z(loose, shared).estimate
    assert d_av(tight, shared).estimate == pytest.approx(1.0, abs=0.1)


@pytest.mark.parametrize("seed", range(3))
def test_cliffs_delta_agrees_with_the_pairs_counted_one_by_one(seed: int) -> None:
    draw = np.random.default_rng(seed)
    x, y = draw.integers(0, 6, 9).tolist(), draw.integers(0, 5, 7).tolist()
    delta, variance = dominance(x, y)
    found = cliffs_delta(x, y)
    assert found.estimate == pytest.approx(delta, abs=1e-14)
    expected = dominance_interval(delta, max(variance, (1 - delta**2) / (9 * 7 - 1)), least=7, level=0.95)
    assert limits(found)[:2] == pytest.approx(expected[:2], abs=1e-12)


def test_the_variance_of_a_near_separation_does_not_vanish() -> None:
    """One tie short of separation the unbiased variance is below what a delta of this size can have."""
    x, y = [3.0, 4.0, 5.0, 6.0], [1.0, 2.0, 2.5, 3.0]
    delta, variance = dominance(x, y)
    floor = (1 - delta**2) / 15
    assert variance < floor
    assert limits(cliffs_delta(x, y))[:2] == pytest.approx(dominance_interval(delta, floor, least=4, level=0.95)[:2])


def test_cliffs_delta_is_the_rescaled_statistic_of_mann_and_whitney() -> None:
    x, y = np.random.default_rng(2).normal(size=12), np.random.default_rng(3).normal(size=9)
    u = scipy_stats.mannwhitneyu(x, y).statistic
    assert cliffs_delta(x, y).estimate == pytest.approx(2 * u / (12 * 9) - 1, abs=1e-14)


def test_the_dominance_interval_covers_with_small_samples_and_stays_in_range() -> None:
    """Nominal 95 %; 0.91 is four standard errors of 400 studies below it."""
    draw, true = np.random.default_rng(4), 2 * scipy_stats.norm.cdf(0.8 / math.sqrt(2)) - 1
    found = [limits(cliffs_delta(draw.normal(0.8, 1, 15), draw.normal(0, 1, 15))) for _ in range(400)]
    assert np.mean([low <= true <= high for low, high, _ in found]) >= 0.91
    assert all(-1 <= low <= high <= 1 for low, high, _ in found)


def test_complete_separation_has_an_interval_with_a_width() -> None:
    for x, y, sign in (([5.0, 6.0, 7.0], [1.0, 2.0, 3.0], 1), ([1.0, 2.0, 3.0], [5.0, 6.0, 7.0], -1)):
        found = cliffs_delta(x, y)
        assert found.estimate == sign
        assert max(limits(found)[:2], key=abs) == sign
        assert limits(found).high - limits(found).low > 0.5


def test_the_delta_within_units_is_a_difference_of_paired_proportions() -> None:
    found = paired_delta([1.0, 2.0, -1.0, 0.0, 3.0])
    assert found.estimate == pytest.approx(2 / 5)
    assert found.ci == tango_interval(3, 1, 5)


def test_samples_without_a_standard_deviation_have_no_size() -> None:
    with pytest.raises(DataError, match="without spread"):
        d_z([2.0, 2.0, 2.0])
    with pytest.raises(DataError, match="Both samples are constant over 3 units"):
        d_av([2.0] * 3, [1.0] * 3)
    with pytest.raises(OutOfRange, match="at least 2 degrees of freedom"):
        g_z([1.0, 2.0])
    with pytest.raises(DataError, match="x has 3 units and y has 2"):
        paired_delta([1.0, 2.0, 3.0], [1.0, 2.0])
    with pytest.raises(DataError, match="1 of 3 values of y are missing"):
        cliffs_delta([1.0, 2.0], [1.0, 2.0, math.nan])
    with pytest.raises(OutOfRange, match=r"The confidence level is 95\.0"):
        cliffs_delta([1.0, 2.0], [1.0, 2.0], level=95.0)


@pytest.mark.parametrize(("correlation", "units"), [(0.8, 30), (0.0, 30), (0.5, 12)])
def test_the_interval_of_d_av_covers_its_truth(correlation: float, units: int) -> None:
    """Normal pairs with SDs 1 and 1.5 and a difference of one; .93 is 2.3 errors of 600 studies below .95."""
    draw, truth, inside = np.random.default_rng(12), 1 / 1.25, []
    root = np.linalg.cholesky(np.array([[1.0, 1.5 * correlation], [1.5 * correlation, 2.25]]))
    for _ in range(600):
        x, y = (draw.normal(size=(units, 2)) @ root.T + [1.0, 0.0]).T
        low, high, _ = d_av(x, y).ci or (math.nan, math.nan, 0)
        inside.append(low <= truth <= high)
    assert 0.93 <= np.mean(inside) <= 0.98


@pytest.mark.parametrize("n", [3, 8, 11, 12, 24, 126])
@pytest.mark.parametrize("size", [0.0, 0.5, 1.0, 2.0, 3.0, 6.0])
def test_intervals_are_finite_hold_the_estimate_and_their_ends_have_the_tails_asked(n: int, size: float) -> None:
    """d = `size` exactly; at its lower end, T beyond the one observed has a probability of 2.5 %."""
    drawn = rng(0, "exact size").standard_normal(n)
    values = (drawn - drawn.mean()) / drawn.std(ddof=1) + size
    found = d_z(values)
    assert found.ci is not None
    assert found.ci.low < found.estimate < found.ci.high
    root = np.sqrt(n)
    for end, share in ((found.ci.low, 0.975), (found.ci.high, 0.025)):
        assert scipy_stats.nct.cdf(root * size, n - 1, root * end) == pytest.approx(share, abs=1e-6)
