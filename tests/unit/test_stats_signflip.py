from __future__ import annotations

import itertools
import math
import statistics

import numpy as np
import pytest

from neuromod_core.kernel.errors import DataError, OutOfRange, UnknownName
from neuromod_core.stats import max_t, sign_flip
from neuromod_core.stats.arrangements import Alternative
from neuromod_core.stats.sample import FloatArray
from tests.oracles.stats_signflip import exact_p, step_down_max_t, student_t

ALTERNATIVES: tuple[Alternative, ...] = ("greater", "less", "two-sided")
SLEEP = [1.2, 2.4, 1.3, 1.3, 0.0, 1.0, 1.8, 0.8, 4.6, 1.4]  # Student 1908
FOLDS_BY_MEAN = {"greater": np.positive, "less": np.negative, "two-sided": np.abs}
FOLDS = {"greater": lambda t: t, "less": lambda t: -t, "two-sided": abs}


def stream(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


def family(units: int, contrasts: int, seed: int = 0) -> FloatArray:
    """Correlated contrasts of unequal spread and effect."""
    draw = stream(seed)
    shared = draw.normal(size=(units, 1))
    return (shared + draw.normal(size=(units, contrasts))) * np.arange(1, contrasts + 1) + np.linspace(-1, 2, contrasts)


def p_of(differences: FloatArray | list[float], alternative: Alternative = "two-sided", minimum: float = 0.0) -> float:
    return sign_flip(differences, alternative=alternative, minimum=minimum, generator=stream()).pvalue


def test_students_data_give_four_flips_of_1024() -> None:
    result = sign_flip(SLEEP, generator=stream())
    assert result.pvalue == 4 / 1024
    assert result.statistic == pytest.approx(4.06212768338204, rel=1e-12)
    assert str(result) == "M = 1.58, t(9) = 4.06, p = .004 (sign-flip, mean != 0, all 1024 flips, n = 10)"
    assert result.as_row() == {
        "estimate": pytest.approx(1.58), "ci_low": None, "ci_high": None, "g_z": None,
        "statistic": pytest.approx(4.06212768), "p": 0.00390625, "p_adj": None, "n": 10,
        "method": "sign-flip, mean != 0, all 1024 flips",
    }  # fmt: skip


@pytest.mark.parametrize("alternative", ALTERNATIVES)
@pytest.mark.parametrize("seed", range(4))
def test_a_single_contrast_agrees_with_the_oracle_by_t_and_by_mean(alternative: Alternative, seed: int) -> None:
    numbers = stream(seed).gamma(2.0, size=7) - 1.0
    p = p_of(numbers, alternative)
    assert p == exact_p(numbers.tolist(), student_t, FOLDS[alternative])
    assert p == exact_p(numbers.tolist(), statistics.fmean, FOLDS[alternative])


def test_equal_flips_count_as_ties_though_their_sums_differ_in_the_last_bit() -> None:
    numbers = [0.1, 0.2, 0.3, 0.7, -0.1, 0.2, 0.1]
    assert p_of(numbers) == exact_p(numbers, statistics.fmean)


@pytest.mark.parametrize("alternative", ALTERNATIVES)
@pytest.mark.parametrize("seed", range(3))
def test_a_family_agrees_with_the_oracle(alternative: Alternative, seed: int) -> None:
    data = family(6, 4, seed)
    found = [test.p_adj for test in max_t(data, alternative=alternative, generator=stream())]
    assert found == step_down_max_t(data.tolist(), FOLDS[alternative])


def test_every_orbit_of_signs_spends_exactly_its_error() -> None:
    """Over all 2^n sign vectors of one data set, the share of p <= a is at most a: this is what exact means."""
    data = np.abs(family(6, 3))
    signs = np.array(list(itertools.product((1.0, -1.0), repeat=6)))
    least = [min(t.p_adj for t in max_t(row[:, None] * data, generator=stream())) for row in signs]
    single = [p_of(row * data[:, 0], "greater") for row in signs]
    assert all(np.mean(np.array(least) <= k / 64) <= k / 64 for k in range(1, 65))
    assert sorted(single) == [k / 64 for k in range(1, 65)]


def test_the_family_wise_error_on_simulated_nulls_is_nominal() -> None:
    draw, studies = stream(7), 400
    rejected = 0
    for _ in range(studies):
        data = draw.normal(size=(9, 1)) * 2 + draw.standard_t(3, size=(9, 5))
        rejected += min(test.p_adj for test in max_t(data, generator=draw)) <= 0.05
    assert rejected / studies == pytest.approx(0.05, abs=4 * math.sqrt(0.05 * 0.95 / studies))


def test_a_minimum_effect_at_the_boundary_is_rejected_no_more_than_nominal() -> None:
    draw, studies = stream(11), 200
    for alternative, mean in (("greater", 3.0), ("less", -3.0), ("two-sided", 3.0)):
        tests = (
            sign_flip(draw.normal(mean, 1, 9), minimum=3.0, alternative=alternative, generator=draw)
            for _ in range(studies)
        )
        nominal = 0.025 if alternative == "two-sided" else 0.05
        share = sum(test.pvalue <= 0.05 for test in tests) / studies
        assert share == pytest.approx(nominal, abs=4 * math.sqrt(nominal / studies))


@pytest.mark.parametrize("seed", range(3))
def test_a_minimum_is_a_shift(seed: int) -> None:
    numbers = stream(seed).normal(1.0, 1.0, 8)
    assert p_of(numbers, "greater", 0.5) == p_of(numbers - 0.5, "greater")
    assert p_of(numbers, "less", 0.5) == p_of(numbers + 0.5, "less")
    assert p_of(numbers, "greater", 0.5) >= p_of(numbers, "greater")


def test_two_sided_with_a_minimum_is_twice_the_better_side() -> None:
    data = family(8, 3) * 2
    both, up, down = (max_t(data, minimum=0.5, alternative=a, generator=stream())
                      for a in ("two-sided", "greater", "less"))  # fmt: skip
    for two, g, s in zip(both, up, down, strict=True):
        assert two.p_adj == min(1.0, 2 * min(g.p_adj, s.p_adj))
        assert two.pvalue == min(1.0, 2 * min(g.pvalue, s.pvalue))
        assert two.statistic == (g if g.pvalue <= s.pvalue else s).statistic


def test_less_is_the_mirror_of_greater() -> None:
    data = family(8, 3)
    up = max_t(data, minimum=0.5, alternative="greater", generator=stream())
    down = max_t(-data, minimum=0.5, alternative="less", generator=stream())
    assert [(t.pvalue, t.p_adj, t.statistic) for t in up] == [(t.pvalue, t.p_adj, -t.statistic) for t in down]


def test_the_order_of_units_and_contrasts_does_not_matter() -> None:
    data = family(10, 5)
    units, contrasts = stream(1).permutation(10), stream(2).permutation(5)
    plain = max_t(data, generator=stream())
    moved = max_t(data[units][:, contrasts], generator=stream())
    assert [test.p_adj for test in moved] == [plain[k].p_adj for k in contrasts]


def test_the_unit_of_measurement_does_not_matter() -> None:
    data = family(10, 3)
    scaled = max_t(data * [1e-200, 1e200, 7.0], generator=stream())
    for one, other in zip(max_t(data, generator=stream()), scaled, strict=True):
        assert (one.pvalue, one.p_adj) == (other.pvalue, other.p_adj)


def test_adjusted_p_is_no_smaller_than_p_and_falls_with_the_statistic() -> None:
    tests = sorted(max_t(family(12, 6), generator=stream()), key=lambda test: -abs(test.statistic))
    assert all(test.p_adj >= test.pvalue for test in tests)
    assert [test.p_adj for test in tests] == sorted(test.p_adj for test in tests)
    assert {test.family for test in tests} == {6}


def test_a_family_of_one_is_the_single_test() -> None:
    (test,) = max_t(np.array(SLEEP)[:, None], generator=stream())
    assert test.p_adj == test.pvalue == p_of(SLEEP)


def test_contrasts_that_are_copies_share_one_p() -> None:
    column = np.array(SLEEP)[:, None]
    assert {test.p_adj for test in max_t(np.hstack([column] * 3), generator=stream())} == {4 / 1024}


@pytest.mark.parametrize("alternative", ALTERNATIVES)
def test_random_flips_approach_the_enumeration(alternative: Alternative) -> None:
    numbers, draws = stream(3).normal(0.4, 1.0, 17), 20_000
    signs = 1 - 2 * ((np.arange(2**17)[:, None] >> np.arange(17)) & 1)
    flips = FOLDS_BY_MEAN[alternative](signs @ numbers)
    exact = float(np.mean(flips >= FOLDS_BY_MEAN[alternative](numbers.sum()) - 1e-9))
    found = sign_flip(numbers, alternative=alternative, draws=draws, generator=stream()).pvalue
    assert 0 < exact < 1
    assert found == pytest.approx(exact, abs=4 * math.sqrt(exact * (1 - exact) / draws))


@pytest.mark.parametrize("units", [64, 65, 130])
def test_every_unit_is_flipped_however_many_there_are(units: int) -> None:
    """Only the last six units differ from zero, all by one: two of their 64 flips reach the observed sum."""
    data = np.zeros((units, 2))
    data[-6:, 0], data[:6, 1] = 1.0, 1.0
    chance = 4 * math.sqrt(2 / 64 / 5_000)
    for test in max_t(data, draws=5_000, generator=stream()):
        assert test.pvalue == pytest.approx(2 / 64, abs=chance)


def test_a_contrast_keeps_its_p_whatever_stands_beside_it() -> None:
    data = family(40, 300)
    alone = sign_flip(data[:, 7], draws=30_000, generator=stream())
    beside = max_t(data, draws=30_000, generator=stream())[7]
    assert alone.pvalue == beside.pvalue


def test_the_same_stream_gives_the_same_p() -> None:
    data = family(30, 3)
    assert max_t(data, draws=500, generator=stream(4)) == max_t(data, draws=500, generator=stream(4))


def test_p_is_never_zero() -> None:
    assert p_of([5.0 + k for k in range(8)], "greater") == 1 / 2**8
    far = 50.0 + np.arange(60)
    assert sign_flip(far, draws=999, generator=stream()).pvalue == 1 / 1000
    assert {test.p_adj for test in max_t(np.stack([far, far], axis=1), draws=999, generator=stream())} == {1 / 1000}


def test_a_constant_difference_has_an_infinite_t_and_the_least_p() -> None:
    result = sign_flip([0.25] * 8, generator=stream())
    assert (result.statistic, result.pvalue) == (math.inf, 2 / 2**8)
    assert result.as_row()["statistic"] is None
    assert sign_flip([-0.25] * 8, alternative="less", generator=stream()).statistic == -math.inf
    assert "t(7) = inf" in str(result)


def test_a_constant_contrast_does_not_disturb_its_family() -> None:
    data = np.column_stack([SLEEP, np.full(10, 0.25), np.zeros(10)])
    sleep, constant, zero = max_t(data, generator=stream())
    assert constant.p_adj == 2 / 1024
    assert sleep.p_adj == 4 / 1024
    assert (zero.statistic, zero.p_adj) == (0.0, 1.0)


def test_differences_at_the_minimum_are_no_evidence_whatever_the_last_bit_says() -> None:
    for numbers, minimum in (([0.1 + 0.2] * 9, 0.3), ([3.0] * 9, 3.0), ([0.3, 0.1 + 0.2, 0.3], 0.3)):
        result = sign_flip(numbers, minimum=minimum, alternative="greater", generator=stream())
        assert (result.statistic, result.pvalue) == (0.0, 1.0)


def test_the_method_states_the_claim_and_the_flips() -> None:
    numbers = stream().normal(size=20)
    method = {
        (alternative, minimum): sign_flip(
            numbers, minimum=minimum, alternative=alternative, draws=99, generator=stream()
        ).method
        for alternative in ALTERNATIVES
        for minimum in (0.0, 3.0)
    }
    assert method == {
        ("greater", 0.0): "sign-flip, mean > 0, 99 random flips",
        ("greater", 3.0): "sign-flip, mean > 3, 99 random flips",
        ("less", 0.0): "sign-flip, mean < 0, 99 random flips",
        ("less", 3.0): "sign-flip, mean < -3, 99 random flips",
        ("two-sided", 0.0): "sign-flip, mean != 0, 99 random flips",
        ("two-sided", 3.0): "sign-flip, |mean| > 3, 99 random flips",
    }


@pytest.mark.parametrize("minimum", [-1.0, math.nan, math.inf])
def test_a_minimum_outside_its_range_is_refused(minimum: float) -> None:
    with pytest.raises(OutOfRange, match="minimum >= 0, draws >= 1 are needed"):
        p_of(SLEEP, "greater", minimum)


def test_no_draws_and_another_alternative_are_refused() -> None:
    with pytest.raises(OutOfRange, match="0 draws"):
        sign_flip(SLEEP, draws=0, generator=stream())
    with pytest.raises(UnknownName, match=r"No alternative is called 'grater'\. Did you mean 'greater'\?"):
        sign_flip(SLEEP, alternative="grater", generator=stream())  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("shape", "message"),
    [
        ((5,), r"have shape \(5,\); \(units, contrasts\) with at least 2 units"),
        ((1, 3), r"have shape \(1, 3\)"),
        ((5, 0), r"have shape \(5, 0\)"),
    ],
)
def test_a_family_of_another_shape_is_refused(shape: tuple[int, ...], message: str) -> None:
    with pytest.raises(DataError, match=message):
        max_t(np.ones(shape), generator=stream())


def test_a_missing_difference_is_refused_and_located() -> None:
    data = family(5, 3)
    data[2, 1] = np.nan
    with pytest.raises(DataError, match=r"1 of 15 differences are missing or infinite, the first at \(2, 1\)"):
        max_t(data, generator=stream())
