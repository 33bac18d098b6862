from __future__ import annotations

import math

import numpy as np
import pandas as pd
import pytest
from scipy import stats as scipy_stats
from scipy.optimize import approx_fprime
from statsmodels.multivariate.factor import Factor

from neuromod_core.kernel.errors import DataError, OutOfRange, UnknownName
from neuromod_core.stats import Interval, alpha, icc, item_total, omega, split_half
from neuromod_core.stats.factor import _deviance
from neuromod_core.stats.reliability import FORMS, Form, halvings
from tests.oracles.stats_reliability import cronbach, item_rest, rulon, spearman_brown

RATINGS = [[9, 2, 5, 8], [6, 1, 3, 2], [8, 4, 6, 8], [7, 1, 2, 6], [10, 5, 6, 9], [6, 2, 4, 7]]  # Shrout & Fleiss 1979
IN_R: dict[Form, tuple[float, float, float, float]] = {  # psych 2.2.9: ICC, limits, p
    "1,1": (0.165741768405476, -0.132932324874751, 0.722560062328121, 0.16476880834464),
    "2,1": (0.289763779527559, 0.018786513374712, 0.761084369648953, 0.000134566516484337),
    "3,1": (0.714840714840715, 0.342464765033925, 0.94585825995536, 0.000134566516484337),
    "1,k": (0.442797133679269, -0.884442155238119, 0.912415420340776, 0.16476880834464),
    "2,k": (0.620050547598989, 0.0711368153025035, 0.927232040167722, 0.000134566516484337),
    "3,k": (0.909315542377069, 0.675674713816305, 0.985891678169062, 0.000134566516484337),
}


def scale(units: int, loadings: list[float], seed: int = 0) -> np.ndarray:
    draw = np.random.default_rng(seed)
    noise = draw.normal(size=(units, len(loadings))) * np.sqrt(1 - np.square(loadings))
    return draw.normal(size=(units, 1)) * loadings + noise


def exactly(covariance: np.ndarray, units: int = 40) -> np.ndarray:
    """Data whose sample covariance is the given one."""
    draw = np.random.default_rng(0).normal(size=(units, len(covariance)))
    away = draw - draw.mean(axis=0)
    white = away @ np.linalg.inv(np.linalg.cholesky(np.cov(away.T))).T
    return np.asarray(white @ np.linalg.cholesky(covariance).T)


@pytest.mark.parametrize("form", FORMS)
def test_the_six_intraclass_correlations_of_shrout_and_fleiss_agree_with_r(form: Form) -> None:
    found = icc(RATINGS, form)
    assert found.ci is not None
    assert (found.estimate, found.ci.low, found.ci.high, found.pvalue) == pytest.approx(IN_R[form], rel=1e-11)


@pytest.mark.parametrize("form", FORMS)
def test_the_order_of_targets_and_raters_and_the_zero_of_the_scale_do_not_matter(form: Form) -> None:
    plain = icc(RATINGS, form)
    moved = icc(np.array(RATINGS)[::-1][:, [2, 0, 3, 1]] * 10 + 5, form)
    assert (moved.estimate, moved.pvalue) == pytest.approx((plain.estimate, plain.pvalue), rel=1e-10)


def test_raters_of_another_level_spoil_agreement_and_not_consistency() -> None:
    shifted = np.add(RATINGS, [0, 40, 80, 120])
    assert icc(shifted, "3,1").estimate == pytest.approx(icc(RATINGS, "3,1").estimate)
    assert icc(shifted, "2,1").estimate < 0.01


@pytest.mark.parametrize("form", ["1,1", "3,1"])
def test_intervals_of_intraclass_correlations_cover(form: Form) -> None:
    """Nominal 95 %; 0.906 is four standard errors of 400 studies below it."""
    draw, found = np.random.default_rng(1), []
    for _ in range(400):
        table = draw.normal(size=(15, 1)) + draw.normal(size=(15, 3))
        interval = icc(table, form).ci
        assert interval is not None
        found.append(interval.low <= 0.5 <= interval.high)
    assert np.mean(found) >= 0.906


def test_alpha_is_the_consistency_of_the_mean_of_the_items_with_its_interval() -> None:
    ours, theirs = alpha(RATINGS), icc(RATINGS, "3,k")
    assert isinstance(ours.ci, Interval)
    assert isinstance(theirs.ci, Interval)
    assert (ours.estimate, *ours.ci) == pytest.approx((theirs.estimate, *theirs.ci), rel=1e-12)


@pytest.mark.parametrize("items", [2, 3, 4, 5, 6, 7])
def test_alpha_halves_and_items_agree_with_their_definitions(items: int) -> None:
    table = scale(30, [0.7] * items, items) + 2.0
    rows = table.tolist()
    assert alpha(table).estimate == pytest.approx(cronbach(rows), rel=1e-10)
    assert split_half(table, generator=np.random.default_rng(0)).estimate == pytest.approx(
        spearman_brown(rows), rel=1e-10
    )
    assert [item.r for item in item_total(table)] == pytest.approx(item_rest(rows), rel=1e-10)
    if items % 2 == 0:
        assert alpha(table).estimate == pytest.approx(rulon(rows), rel=1e-10)


def test_alpha_without_an_item_is_that_of_the_others() -> None:
    table = scale(30, [0.8, 0.6, 0.7, 0.1])
    without = [item.alpha_without for item in item_total(table)]
    assert without == pytest.approx([alpha(np.delete(table, j, 1)).estimate for j in range(4)], rel=1e-10)
    assert without[3] is not None
    assert without[3] > alpha(table).estimate
    assert [item.alpha_without for item in item_total(table[:, :2])] == [None, None]


@pytest.mark.parametrize("items", [4, 5, 24])
def test_parallel_items_have_one_reliability_whichever_way_it_is_found(items: int) -> None:
    table = exactly(np.full((items, items), 0.4) + 0.6 * np.eye(items))
    expected = items * 0.4 / (1 + (items - 1) * 0.4)
    assert alpha(table).estimate == pytest.approx(expected, rel=1e-9)
    assert omega(table).estimate == pytest.approx(expected, rel=1e-6)
    if items % 2 == 0:
        halves = split_half(table, draws=300, generator=np.random.default_rng(0))
        assert halves.estimate == pytest.approx(expected, rel=1e-9)
        assert halves.method.endswith("300 random halvings" if items == 24 else "all 3 halvings")


@pytest.mark.parametrize(("items", "ways"), [(2, 1), (3, 3), (4, 3), (5, 10), (6, 10)])
def test_every_halving_is_counted_once(items: int, ways: int) -> None:
    assert halvings(items) == ways
    method = split_half(scale(20, [0.7] * items), generator=np.random.default_rng(0)).method
    assert f"all {ways} halvings" in method


def test_the_limits_of_alpha_are_feldts() -> None:
    table = scale(25, [0.6] * 5)
    interval, value = alpha(table, level=0.9).ci, alpha(table).estimate
    assert interval is not None
    f = scipy_stats.f(24, 24 * 4)
    assert interval[:2] == pytest.approx((1 - (1 - value) * f.ppf(0.95), 1 - (1 - value) * f.ppf(0.05)), rel=1e-10)


def test_a_perfect_one_factor_covariance_is_fitted_exactly() -> None:
    loadings, sd = np.array([0.9, 0.7, 0.5, 0.3, 0.6]), np.array([1.0, 2.0, 0.5, 3.0, 1.0])
    correlations = np.outer(loadings, loadings)
    np.fill_diagonal(correlations, 1.0)
    found = omega(exactly(correlations * np.outer(sd, sd)))
    common = float(loadings @ sd) ** 2
    assert found.loadings == pytest.approx(loadings, abs=1e-5)
    assert found.uniqueness == pytest.approx(1 - loadings**2, abs=1e-5)
    assert found.estimate == pytest.approx(common / (common + float((1 - loadings**2) @ sd**2)), abs=1e-6)
    assert not found.improper


def test_the_gradient_of_the_fit_is_that_of_its_function() -> None:
    table, unique = scale(50, [0.8, 0.6, 0.7, 0.3]), np.array([0.4, 0.6, 0.5, 0.9])
    correlations = np.corrcoef(table.T)
    slope = approx_fprime(unique, lambda u: _deviance(u, correlations)[0], 1e-7)
    assert _deviance(unique, correlations)[1] == pytest.approx(slope, abs=1e-4)


@pytest.mark.parametrize("seed", range(3))
def test_the_fit_agrees_with_statsmodels(seed: int) -> None:
    table = scale(80, [0.8, 0.7, 0.6, 0.5, 0.4, 0.7], seed)
    theirs = Factor(table, n_factor=1, method="ml").fit()
    assert np.abs(omega(table).loadings) == pytest.approx(np.abs(theirs.loadings[:, 0]), abs=2e-4)


def test_omega_does_not_mind_the_order_or_the_sign_of_all_items() -> None:
    table = scale(60, [0.8, 0.7, 0.6, 0.5])
    plain = omega(table).estimate
    assert omega(table[:, [3, 1, 0, 2]]).estimate == pytest.approx(plain, abs=1e-7)
    assert omega(-table).estimate == pytest.approx(plain, abs=1e-7)
    assert omega(pd.DataFrame(table)).estimate == plain


def test_an_item_that_leaves_nothing_unique_is_called_improper() -> None:
    correlations = np.array([[1.0, 0.9, 0.9], [0.9, 1.0, 0.7], [0.9, 0.7, 1.0]])  # needs a loading of 1.08
    assert omega(exactly(correlations)).improper


@pytest.mark.parametrize(
    "statistic", [icc, alpha, item_total, lambda t: split_half(t, generator=np.random.default_rng(0))]
)
@pytest.mark.parametrize(
    ("table", "message"),
    [
        ([[1.0, 2.0]], "have shape"),
        ([[1.0], [2.0]], "with at least 2"),
        ([[1.0, np.nan], [2.0, 3.0]], "1 of 4 .* are missing"),
        ([["a", "b"], ["c", "d"]], "not an array of numbers"),
        ([[2.0, 2.0], [2.0, 2.0], [2.0, 2.0]], "constant|no residual"),
    ],
)
def test_tables_without_a_reliability_are_refused(statistic: object, table: object, message: str) -> None:
    with pytest.raises(DataError, match=message):
        statistic(table)  # type: ignore[operator]


def test_other_refusals_say_why() -> None:
    generator = np.random.default_rng(0)
    with pytest.raises(UnknownName, match="No intraclass correlation is called '4,1'"):
        icc(RATINGS, "4,1")  # type: ignore[arg-type]
    with pytest.raises(OutOfRange, match=r"The confidence level is 2"):
        alpha(RATINGS, level=2)
    with pytest.raises(DataError, match="All 3 targets have the same mean rating"):
        icc([[1.0, 2.0], [2.0, 1.0], [1.5, 1.5]])
    with pytest.raises(DataError, match="Two halves of the items correlate at -1"):
        split_half([[1.0, -2.0], [2.0, -4.0], [3.0, -6.0]], generator=generator)
    with pytest.raises(DataError, match="Item 1, or the sum of the others, is constant"):
        item_total([[1.0, 2.0, 1.0], [2.0, 2.0, 5.0], [3.0, 2.0, 1.0]])
    with pytest.raises(OutOfRange, match="0 draws"):
        split_half(scale(30, [0.7] * 20), draws=0, generator=generator)


@pytest.mark.parametrize(
    ("table", "message"),
    [
        (scale(30, [0.7] * 2), "A factor of 2 items and 30 units is not identified"),
        (scale(4, [0.7] * 4), "A factor of 4 items and 4 units is not identified"),
        (scale(9, [0.7] * 3) * [1.0, 0.0, 1.0], "Item 1 is constant over 9 units"),
        (scale(9, [0.7] * 3) @ [[1, 0, 1], [0, 1, 1], [0, 0, 0]], "One of 3 items is a weighted sum of others"),
    ],
)
def test_a_factor_that_cannot_be_found_is_refused(table: np.ndarray, message: str) -> None:
    with pytest.raises(DataError, match=message):
        omega(table)


# ---------------------------------------------------------------------------------------------------- intervals


def test_bootstrap_intervals_hold_the_estimate_shrink_with_units_and_are_asked_for() -> None:
    for statistic in (omega, split_half):
        widths = []
        for units in (40, 400):
            found = statistic(scale(units, [0.7] * 6), resamples=99, generator=np.random.default_rng(1))
            assert found.ci is not None
            assert found.ci.low < found.estimate < found.ci.high
            assert found.ci == statistic(scale(units, [0.7] * 6), resamples=99, generator=np.random.default_rng(1)).ci
            widths.append(found.ci.high - found.ci.low)
        assert 2 < widths[0] / widths[1] < 5  # the square root of ten
        assert statistic(scale(40, [0.7] * 6), generator=np.random.default_rng(1)).ci is None


def test_bootstrap_intervals_cover_a_known_reliability() -> None:
    """Six items with loading .7 and uniqueness .51: both reliabilities are 36 (.49) / (36 (.49) + 6 (.51)) = .8522."""
    truth, inside = 36 * 0.49 / (36 * 0.49 + 6 * 0.51), []
    for seed in range(60):
        draw = np.random.default_rng(seed)
        table = 0.7 * draw.normal(size=(80, 1)) + math.sqrt(0.51) * draw.normal(size=(80, 6))
        low, high, _ = split_half(table, resamples=99, generator=draw).ci or Interval(math.nan, math.nan, 0)
        inside.append(low <= truth <= high)
    assert np.mean(inside) >= 0.85  # nominal .95; three errors of sixty below what a percentile interval covers


def test_an_interval_needs_a_generator_and_enough_resamples() -> None:
    with pytest.raises(OutOfRange, match="needs a generator and at least 40 resamples; 99 without a generator given"):
        omega(scale(40, [0.7] * 6), resamples=99)
    with pytest.raises(OutOfRange, match="at least 40 resamples; 10 given"):
        split_half(scale(40, [0.7] * 6), resamples=10, generator=np.random.default_rng(0))
