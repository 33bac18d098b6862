from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import stats as scipy_stats
from statsmodels.stats.meta_analysis import combine_effects

from neuromod_core.kernel.errors import DataError, OutOfRange, UnknownName
from neuromod_core.stats import RandomEffects, hartung_knapp
from neuromod_core.stats.meta import Heterogeneity
from tests.oracles.stats_meta import reml

EFFECTS = [0.3, 0.5, 0.1, 0.8, 0.4, 0.6]
VARIANCES = [0.02, 0.03, 0.02, 0.05, 0.01, 0.04]


def studies(k: int, tau: float, seed: int) -> tuple[np.ndarray, np.ndarray]:
    draw = np.random.default_rng(seed)
    v = draw.uniform(0.01, 0.2, k)
    return 0.4 + draw.normal(0, tau, k) + draw.normal(0, np.sqrt(v)), v


@pytest.mark.parametrize("seed", range(4))
def test_paule_mandel_with_hartung_knapp_agrees_with_statsmodels(seed: int) -> None:
    y, v = studies(9, 0.5, seed)
    theirs, ours = combine_effects(y, v, method_re="iterated"), hartung_knapp(y, v)
    assert ours.tau2 == pytest.approx(theirs.tau2, rel=1e-4)  # they iterate to 1e-5
    assert ours.estimate == pytest.approx(theirs.mean_effect_re, rel=1e-4)
    half = scipy_stats.t.ppf(0.975, 8) * theirs.sd_eff_w_re_hksj
    assert ours.ci == pytest.approx((ours.estimate - half, ours.estimate + half, 0.95), rel=1e-4)
    assert ours.q == pytest.approx(theirs.q, rel=1e-9)
    assert ours.i2 == pytest.approx(max(0.0, theirs.i2), rel=1e-9)


@pytest.mark.parametrize("seed", range(4))
def test_reml_is_the_highest_restricted_likelihood(seed: int) -> None:
    y, v = studies(8, 0.4, seed)
    assert hartung_knapp(y, v, tau2="reml").tau2 == pytest.approx(reml(y.tolist(), v.tolist()), rel=1e-5, abs=1e-9)


def test_with_equal_variances_it_is_the_t_test_of_the_effects() -> None:
    y = np.array(EFFECTS)
    theirs = scipy_stats.ttest_1samp(y, 0.0)
    for method in ("paule-mandel", "reml"):
        ours = hartung_knapp(y, [0.01] * 6, tau2=method)  # type: ignore[arg-type]
        assert (ours.statistic, ours.pvalue) == pytest.approx((theirs.statistic, theirs.pvalue), rel=1e-9)
        assert ours.tau2 == pytest.approx(y.var(ddof=1) - 0.01, rel=1e-9)


def test_paule_mandel_solves_its_equation() -> None:
    y, v = studies(7, 0.6, 5)
    found = hartung_knapp(y, v)
    weight = 1 / (v + found.tau2)
    assert found.tau2 > 0
    assert weight @ (y - found.estimate) ** 2 == pytest.approx(6, rel=1e-9)


@pytest.mark.parametrize("method", ["paule-mandel", "reml"])
def test_studies_that_agree_have_no_heterogeneity_and_the_floor_widens_their_interval(method: Heterogeneity) -> None:
    y = [0.50, 0.51, 0.49, 0.50, 0.505]
    plain, floored = (hartung_knapp(y, [0.05] * 5, tau2=method, floor=floor) for floor in ("none", "one"))
    assert plain.tau2 == floored.tau2 == plain.i2 == 0.0
    assert plain.ci is not None
    assert floored.ci is not None
    half = scipy_stats.t.ppf(0.975, 4) * math.sqrt(0.05 / 5)
    assert floored.ci.high - floored.estimate == pytest.approx(half)
    assert plain.ci.high - plain.ci.low < 0.1 * (floored.ci.high - floored.ci.low)
    assert floored.method.endswith("floor one")


def test_the_floor_does_nothing_where_studies_differ() -> None:
    y, v = studies(9, 0.9, 6)
    assert hartung_knapp(y, v, floor="one").ci == pytest.approx(hartung_knapp(y, v).ci)


def test_order_shift_and_scale_move_the_result_with_the_data() -> None:
    y, v = studies(9, 0.5, 7)
    plain, moved = hartung_knapp(y, v), hartung_knapp(10 * y[::-1] + 3, 100 * v[::-1])
    assert (moved.estimate, moved.tau2) == pytest.approx((10 * plain.estimate + 3, 100 * plain.tau2), rel=1e-9)
    assert hartung_knapp(-y, v).pvalue == pytest.approx(plain.pvalue, rel=1e-9)


def test_the_interval_covers_where_studies_differ() -> None:
    """Nominal 95 %; 0.906 is four standard errors of 400 studies below it."""
    found = [hartung_knapp(*studies(7, 0.5, seed)).ci for seed in range(400)]
    assert np.mean([ci is not None and ci.low <= 0.4 <= ci.high for ci in found]) >= 0.906


def test_six_families_may_speak_in_general_and_five_may_not() -> None:
    for k in (3, 5, 6):
        found = hartung_knapp(EFFECTS[:k], VARIANCES[:k])
        assert isinstance(found, RandomEffects)
        assert found.general is (k >= 6)
        assert found.ci is not None
        assert found.prediction.low <= found.ci.low + 1e-9 or found.tau2 == 0


def test_the_prediction_interval_is_wider_by_the_heterogeneity() -> None:
    found = hartung_knapp(*studies(9, 0.8, 8))
    se = found.estimate / found.statistic
    reach = scipy_stats.t.ppf(0.975, 7) * math.sqrt(found.tau2 + se**2)
    assert found.prediction == pytest.approx((found.estimate - reach, found.estimate + reach, 0.95))


@pytest.mark.parametrize(
    ("effects", "variances", "message"),
    [
        (EFFECTS[:2], VARIANCES[:2], "2 studies are too few .* at least 3 are needed"),
        (EFFECTS, VARIANCES[:5], "There are 6 effects and 5 variances"),
        (EFFECTS, [0.1] * 5 + [0.0], "The variance of study 5 is 0; it must be positive"),
        (EFFECTS, [0.1] * 5 + [math.nan], "1 of 6 variances are missing"),
        ([0.2] * 4, [0.1] * 4, r"All 4 effects are 0\.2"),
    ],
)
def test_studies_that_cannot_be_pooled_are_refused(effects: list[float], variances: list[float], message: str) -> None:
    with pytest.raises(DataError, match=message):
        hartung_knapp(effects, variances)


def test_other_refusals_say_why() -> None:
    with pytest.raises(UnknownName, match=r"No estimate of tau\^2 is called 'rem'\. Did you mean 'reml'\?"):
        hartung_knapp(EFFECTS, VARIANCES, tau2="rem")  # type: ignore[arg-type]
    with pytest.raises(UnknownName, match="No floor is called '1'"):
        hartung_knapp(EFFECTS, VARIANCES, floor="1")  # type: ignore[arg-type]
    with pytest.raises(OutOfRange, match="The confidence level is 95"):
        hartung_knapp(EFFECTS, VARIANCES, level=95)
