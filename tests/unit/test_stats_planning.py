from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import stats as scipy_stats
from statsmodels.stats.power import TTestPower

from neuromod_core.kernel.errors import DataError, OutOfRange, UnknownName
from neuromod_core.stats import (
    detectable,
    noninferiority,
    power,
    sample_size,
    sample_size_proportions,
    simulated_power,
    tost,
)
from neuromod_core.stats.planning import TESTS, Test

EFFECTS = (0.2, 0.3, 0.4, 0.5, 0.65, 0.8, 1.0)
UNITS = {  # paired t, two-sided; power .80, then .90
    0.05: [(199, 265), (90, 119), (52, 68), (34, 44), (21, 27), (15, 19), (10, 13)],
    0.05 / 6: [(307, 388), (139, 175), (80, 100), (52, 65), (33, 40), (23, 28), (16, 19)],
    0.05 / 27: [(396, 488), (179, 220), (103, 126), (68, 83), (42, 51), (30, 36), (21, 25)],
}


@pytest.mark.parametrize("alpha", UNITS)
def test_the_table_of_sample_sizes(alpha: float) -> None:
    found = [(sample_size(d, alpha=alpha), sample_size(d, alpha=alpha, goal=0.9)) for d in EFFECTS]
    assert found == UNITS[alpha]


@pytest.mark.parametrize("effect", [-0.6, 0.0, 0.3, 2.5])
@pytest.mark.parametrize("n", [2, 12, 90])
def test_the_power_of_the_t_test_agrees_with_statsmodels(effect: float, n: int) -> None:
    for test, side in (("two-sided", "two-sided"), ("greater", "larger")):
        theirs = TTestPower().power(effect, n, 0.05, alternative=side)
        assert power(effect, n, test=test) == pytest.approx(theirs, abs=1e-9)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("n", "alpha", "effect"), [(24, 0.05, 0.60), (48, 0.05, 0.41), (126, 0.05, 0.25), (126, 0.05 / 27, 0.36)]
)
def test_the_table_of_detectable_effects(n: int, alpha: float, effect: float) -> None:
    assert round(detectable(n, alpha=alpha), 2) == effect


@pytest.mark.parametrize("test", ["two-sided", "greater"])
def test_a_detectable_effect_is_one_with_the_power_aimed_at(test: Test) -> None:
    assert power(detectable(30, test=test, goal=0.9), 30, test=test) == pytest.approx(0.9, abs=1e-8)


@pytest.mark.parametrize(("margin", "n"), [(0.3, 97), (0.4, 55), (0.5, 36)])
def test_units_for_equivalence(margin: float, n: int) -> None:
    assert sample_size(0.0, test="equivalence", margin=margin) == n


@pytest.mark.parametrize(("n", "effect", "margin"), [(6, 0.0, 1.5), (20, 0.2, 0.6), (96, 0.0, 0.3), (10, 0.0, 0.3)])
def test_the_power_of_equivalence_is_its_share_of_simulated_studies(n: int, effect: float, margin: float) -> None:
    studies, t = 40_000, scipy_stats.t.ppf(0.95, n - 1)
    data = np.random.default_rng(n).normal(effect, 1, size=(studies, n))
    reach = margin - t * data.std(axis=1, ddof=1) / math.sqrt(n)
    found = power(effect, n, test="equivalence", margin=margin)
    share = float(np.mean(np.abs(data.mean(axis=1)) < reach))
    assert found == pytest.approx(share, abs=4 * math.sqrt(max(found * (1 - found), 1e-4) / studies))


def test_the_power_of_equivalence_at_its_margin_approaches_alpha() -> None:
    assert power(0.5, 400, test="equivalence", margin=0.5) == pytest.approx(0.05, abs=1e-6)
    assert power(-0.5, 400, test="equivalence", margin=0.5) == pytest.approx(0.05, abs=1e-6)


def test_noninferiority_is_a_one_sided_test_from_the_margin() -> None:
    assert power(0.1, 30, test="noninferiority", margin=0.4) == power(0.5, 30, test="greater")
    draw, studies = np.random.default_rng(0), 2_000
    for test, claim in (
        ("noninferiority", lambda x: noninferiority(x, margin=0.4, alpha=0.05)),
        ("equivalence", lambda x: tost(x, margin=0.7)),
    ):
        margin = 0.4 if test == "noninferiority" else 0.7
        share = np.mean([claim(draw.normal(0.1, 1, 30) / 1.0).pvalue < 0.05 for _ in range(studies)])
        expected = power(0.1, 30, test=test, margin=margin)  # type: ignore[arg-type]
        assert share == pytest.approx(expected, abs=4 * math.sqrt(0.25 / studies))


@pytest.mark.parametrize(
    "options",
    [{}, {"test": "greater"}, {"test": "equivalence", "margin": 0.9}, {"test": "noninferiority", "margin": 0.2}],
)
def test_the_sample_size_is_the_least_that_has_the_power(options: dict[str, object]) -> None:
    for goal in (0.5, 0.8, 0.99):
        n = sample_size(0.4, goal=goal, **options)  # type: ignore[arg-type]
        assert power(0.4, n, **options) >= goal > power(0.4, n - 1, **options)  # type: ignore[arg-type]


def test_the_sign_of_an_effect_does_not_matter_two_sided() -> None:
    assert power(-0.4, 20) == pytest.approx(power(0.4, 20), rel=1e-12)
    assert power(0.0, 20) == pytest.approx(0.05, abs=1e-12)
    assert power(40.0, 100) == 1.0


@pytest.mark.parametrize(("margin", "n"), [(0.03, [88, 175, 349, 698]), (0.02, [197, 393, 785, 1570])])
def test_the_table_of_units_for_proportions(margin: float, n: list[int]) -> None:
    assert [sample_size_proportions(discordant=share, margin=margin) for share in (0.01, 0.02, 0.04, 0.08)] == n


def test_a_true_difference_costs_units_by_what_it_leaves_of_the_margin() -> None:
    """(1.96 + 0.84)^2 (0.1 - 0.02^2) / (0.05 - 0.02)^2."""
    assert sample_size_proportions(discordant=0.1, margin=0.05, difference=0.02) == 869


@pytest.mark.parametrize("effect", [0.0, 0.5, 0.9])
def test_sign_flips_have_nearly_the_power_of_t(effect: float) -> None:
    found = simulated_power(effect, 24, studies=3_000, draws=3_000, generator=np.random.default_rng(1))
    assert found.estimate == pytest.approx(power(effect, 24), abs=0.03)
    assert found.ci is not None
    assert found.ci.low < found.estimate < found.ci.high


def test_five_units_cannot_reach_five_per_cent_and_six_can() -> None:
    generator = np.random.default_rng(0)
    assert simulated_power(5.0, 5, studies=200, generator=generator).estimate == 0.0
    assert simulated_power(5.0, 6, studies=200, generator=generator).estimate > 0.95


def test_a_pilot_gives_the_shape_and_a_minimum_costs_power() -> None:
    pilot = np.random.default_rng(2).exponential(size=50)
    options = {"studies": 1_000, "draws": 1_000}
    plain, skewed, beyond = (
        simulated_power(0.6, 20, generator=np.random.default_rng(3), **options, **more)  # type: ignore[arg-type]
        for more in ({}, {"pilot": pilot}, {"minimum": 0.3})
    )
    assert beyond.estimate < plain.estimate - 0.2
    assert 0.3 < skewed.estimate < 1.0
    assert skewed.estimate != plain.estimate
    null = simulated_power(0.0, 20, pilot=pilot - 5, generator=np.random.default_rng(4), **options)  # type: ignore[arg-type]
    assert null.estimate < 0.12


@pytest.mark.parametrize("test", TESTS)
def test_what_cannot_be_planned_is_refused(test: Test) -> None:
    needs = test in ("equivalence", "noninferiority")
    margin = 0.5 if needs else None
    for units, effect in ((1, 0.5), (10, math.nan), (10, math.inf)):
        with pytest.raises(OutOfRange, match="n >= 2 and a finite effect"):
            power(effect, units, test=test, margin=margin)
    with pytest.raises(OutOfRange, match="it takes a positive margin" if needs else "it takes no margin"):
        power(0.5, 10, test=test, margin=None if needs else 0.5)
    with pytest.raises(OutOfRange, match=r"alpha is 1\.5"):
        power(0.5, 10, test=test, margin=margin, alpha=1.5)
    with pytest.raises(OutOfRange, match=r"The power aimed at is 1\.0"):
        sample_size(0.5, test=test, margin=margin, goal=1.0)


def test_other_refusals_say_why() -> None:
    with pytest.raises(UnknownName, match=r"No test is called 'twosided'\. Did you mean 'two-sided'\?"):
        power(0.5, 10, test="twosided")  # type: ignore[arg-type]
    with pytest.raises(UnknownName, match="No test with a detectable effect is called 'equivalence'"):
        detectable(10, test="equivalence")
    with pytest.raises(OutOfRange, match="More than 10000000 units"):
        sample_size(0.0)
    with pytest.raises(OutOfRange, match="a finite effect is needed"):
        sample_size(math.nan)
    with pytest.raises(OutOfRange, match="alpha < power are needed"):
        detectable(10, alpha=0.5, goal=0.4)
    with pytest.raises(OutOfRange, match=r"The difference 0\.03 is not below the margin 0\.03"):
        sample_size_proportions(discordant=0.1, margin=0.03, difference=0.03)
    with pytest.raises(OutOfRange, match="needs at least that share of discordant units"):
        sample_size_proportions(discordant=0.01, margin=0.03, difference=-0.02)
    with pytest.raises(OutOfRange, match="0 studies of 10 units"):
        simulated_power(0.5, 10, studies=0, generator=np.random.default_rng(0))
    with pytest.raises(DataError, match="without spread"):
        simulated_power(0.5, 10, pilot=[1.0, 1.0], generator=np.random.default_rng(0))
