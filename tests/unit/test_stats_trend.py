from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pytest
from scipy import stats as scipy_stats

from neuromod_core.kernel.errors import DataError, OutOfRange, UnknownName
from neuromod_core.stats import dose_trend, friedman, jonckheere, page, sign_flip
from neuromod_core.stats.arrangements import Alternative
from tests.oracles.stats_permutation import friedman_spread, jonckheere_j, page_l, rearranged_rows, share

ALTERNATIVES: tuple[Alternative, ...] = ("greater", "less", "two-sided")


def stream(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


def doses(units: int, arms: int, rise: float, seed: int = 0, *, ties: bool = False) -> np.ndarray:
    scores = (
        stream(seed).normal(size=(units, arms)) + rise * np.arange(arms) + stream(seed + 99).normal(size=(units, 1))
    )
    return np.round(scores) if ties else scores


@pytest.mark.parametrize("ties", [False, True])
@pytest.mark.parametrize("seed", range(3))
def test_friedman_agrees_with_every_arrangement(seed: int, ties: bool) -> None:
    table = doses(4, 3, 0.5, seed, ties=ties)
    every = [friedman_spread(rows) for rows in rearranged_rows(table.tolist())]
    found = friedman(table, generator=stream())
    assert found.pvalue == pytest.approx(share(every, friedman_spread(table.tolist())), abs=1e-12)
    assert "all 1296 arrangements" in found.method


@pytest.mark.parametrize("alternative", ALTERNATIVES)
@pytest.mark.parametrize(("test", "oracle"), [(page, page_l), (jonckheere, jonckheere_j)])
@pytest.mark.parametrize("ties", [False, True])
def test_trends_agree_with_every_arrangement(
    test: Callable[..., object], oracle: Callable[..., float], alternative: Alternative, ties: bool
) -> None:
    table = doses(3, 4, 0.4, 1, ties=ties)
    every, observed = [oracle(rows) for rows in rearranged_rows(table.tolist())], oracle(table.tolist())
    middle = float(np.mean(every))
    fold = {"greater": lambda v: v, "less": lambda v: -v, "two-sided": lambda v: abs(v - middle)}[alternative]
    found = test(table, alternative=alternative, generator=stream())
    assert found.statistic == observed  # type: ignore[attr-defined]
    assert found.pvalue == pytest.approx(share(every, observed, fold), abs=1e-12)  # type: ignore[attr-defined]


@pytest.mark.parametrize("ties", [False, True])
def test_friedman_agrees_with_scipy_and_iman_davenport(ties: bool) -> None:
    table = doses(12, 5, 0.3, 2, ties=ties)
    chi2 = scipy_stats.friedmanchisquare(*table.T).statistic
    found = friedman(table, draws=99, generator=stream())
    f = 11 * chi2 / (12 * 4 - chi2)
    assert (found.estimate, found.statistic) == pytest.approx((chi2 / (12 * 4), f), rel=1e-10)
    assert found.p_f == pytest.approx(scipy_stats.f.sf(f, 4, 44), rel=1e-10)


def test_page_agrees_with_scipy() -> None:
    table = doses(5, 3, 0.4, 3)
    theirs = scipy_stats.page_trend_test(table, method="exact")
    found = page(table, generator=stream())
    assert (found.statistic, found.pvalue) == pytest.approx((theirs.statistic, theirs.pvalue), rel=1e-10)


def test_estimates_are_mean_correlations_of_the_units() -> None:
    table = doses(7, 4, 0.5, 4)
    rho = [scipy_stats.spearmanr(range(4), row).statistic for row in table]
    tau = [scipy_stats.kendalltau(range(4), row).statistic for row in table]
    assert page(table, draws=9, generator=stream()).estimate == pytest.approx(np.mean(rho), abs=1e-12)
    assert jonckheere(table, draws=9, generator=stream()).estimate == pytest.approx(np.mean(tau), abs=1e-12)


@pytest.mark.parametrize("test", [page, jonckheere])
def test_reversing_the_doses_swaps_rise_and_fall(test: Callable[..., object]) -> None:
    table = doses(5, 3, 0.6, 5)
    up, down = test(table, generator=stream()), test(table[:, ::-1], alternative="less", generator=stream())
    assert up.pvalue == down.pvalue  # type: ignore[attr-defined]
    assert up.estimate == pytest.approx(-down.estimate)  # type: ignore[attr-defined]


@pytest.mark.parametrize("test", [friedman, page, jonckheere])
def test_only_the_order_within_a_unit_matters(test: Callable[..., object]) -> None:
    table = doses(20, 4, 0.2, 6)
    moved = np.exp(table) * 3 + np.arange(20)[:, None]
    assert test(moved, draws=500, generator=stream()) == test(table, draws=500, generator=stream())


def test_friedman_does_not_mind_the_names_of_the_arms() -> None:
    table = doses(4, 4, 0.5, 7)
    assert friedman(table[:, [2, 0, 3, 1]], draws=99, generator=stream(1)).estimate == pytest.approx(
        friedman(table, draws=99, generator=stream()).estimate, rel=1e-12
    )


def test_units_that_all_agree_have_an_infinite_f_and_the_least_p() -> None:
    found = friedman([[1.0, 2.0, 3.0]] * 5, generator=stream())
    assert (found.estimate, found.statistic, found.pvalue) == (1.0, math.inf, 6 / 6**5)
    assert 0 < found.p_f < 1e-300


@pytest.mark.parametrize("test", [friedman, page, jonckheere])
def test_random_arrangements_keep_the_error_and_never_give_zero(test: Callable[..., object]) -> None:
    found = [test(stream(seed).normal(size=(12, 4)), draws=99, generator=stream(seed)).pvalue for seed in range(400)]  # type: ignore[attr-defined]
    assert np.mean(np.array(found) <= 0.1) == pytest.approx(0.1, abs=4 * math.sqrt(0.1 * 0.9 / 400))
    assert test([[1.0, 2.0, 3.0, 4.0]] * 30, draws=99, generator=stream()).pvalue == 1 / 100  # type: ignore[attr-defined]


def test_a_dose_trend_is_the_sign_flip_of_the_slopes() -> None:
    table, dose = doses(9, 4, 0.4, 8), [0.0, 0.1, 0.4, 1.0]
    slopes = [np.polyfit(dose, row, 1)[0] for row in table]
    for options in ({}, {"alternative": "greater", "minimum": 0.2}):
        ours = dose_trend(table, dose, generator=stream(), **options)  # type: ignore[arg-type]
        theirs = sign_flip(slopes, generator=stream(), **options)  # type: ignore[arg-type]
        assert (ours.estimate, ours.pvalue) == pytest.approx((theirs.estimate, theirs.pvalue), rel=1e-10)
    assert ours.method.startswith("linear trend over 4 doses, sign-flip, mean > 0.2")


@pytest.mark.parametrize("test", [friedman, page, jonckheere])
@pytest.mark.parametrize(
    ("scores", "message"),
    [
        ([[1.0, 2.0]], "with at least 2 units is needed"),
        ([[1.0], [2.0]], "with at least 2 arms is needed"),
        ([[1.0, math.nan], [1.0, 2.0]], "1 of 4 scores are missing"),
        ([[1.0, 1.0], [2.0, 2.0]], "Each of 2 units scores the same in every arm"),
        ([1.0, 2.0], "have shape"),
    ],
)
def test_scores_without_an_order_are_refused(test: Callable[..., object], scores: object, message: str) -> None:
    with pytest.raises(DataError, match=message):
        test(scores, generator=stream())


def test_doses_that_are_no_trend_are_refused() -> None:
    table = doses(6, 3, 0.0)
    with pytest.raises(DataError, match="There are 2 doses for 3 columns"):
        dose_trend(table, [0, 1], generator=stream())
    with pytest.raises(DataError, match="2 different doses have no trend"):
        dose_trend(table, [0, 1, 1], generator=stream())
    with pytest.raises(DataError, match="1 of 3 doses are missing"):
        dose_trend(table, [0, math.nan, 1], generator=stream())
    with pytest.raises(OutOfRange, match="0 draws"):
        page(doses(20, 3, 0.0), draws=0, generator=stream())
    with pytest.raises(UnknownName, match="No alternative is called 'rising'"):
        jonckheere(table, alternative="rising", generator=stream())  # type: ignore[arg-type]
