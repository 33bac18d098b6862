from __future__ import annotations

import csv
import json
from pathlib import Path

import numpy as np
import pytest
from scipy import stats as scipy_stats

from neuromod_core.kernel.errors import DataError, OutOfRange, UnknownName
from neuromod_core.stats import constant_by_construction, hedges_correction, noninferiority, paired, tost

FIXTURES = Path(__file__).parent.parent / "fixtures"
WITH_SPREAD = [0.3, -0.1, 0.4, 0.2]


def sleep() -> tuple[list[float], list[float]]:
    with (FIXTURES / "student_sleep.csv").open(newline="") as stream:
        rows = list(csv.DictReader(stream))
    return [float(row["drug_1"]) for row in rows], [float(row["drug_2"]) for row in rows]


EXPECTED = json.loads((FIXTURES / "student_sleep.json").read_text())


def test_the_paired_test_agrees_with_r_on_students_data() -> None:
    before, after = sleep()
    result = paired(after, before)
    assert (result.n, result.estimate) == (EXPECTED["n"], pytest.approx(EXPECTED["mean"], rel=1e-12))
    assert result.statistic == pytest.approx(EXPECTED["t"], rel=1e-12)
    assert result.pvalue == pytest.approx(EXPECTED["p"], rel=1e-10)
    assert result.ci is not None
    assert result.ci[:2] == pytest.approx(EXPECTED["ci95"], rel=1e-10)
    assert result.d_z == pytest.approx(EXPECTED["d_z"], rel=1e-12)
    assert result.g_z == pytest.approx(EXPECTED["g_z"], rel=1e-10)
    assert hedges_correction(EXPECTED["df"]) == pytest.approx(EXPECTED["J"], rel=1e-10)
    assert str(result) == ("M = 1.58, 95% CI [0.70, 2.46], t(9) = 4.06, p = .003, g_z = 1.17 (paired t test, n = 10)")


@pytest.mark.parametrize(("margin", "p"), [(3.0, EXPECTED["tost_3"]), (2.0, EXPECTED["tost_2"])])
def test_equivalence_agrees_with_r_on_students_data(margin: float, p: list[float]) -> None:
    before, after = sleep()
    result = tost(np.subtract(after, before), margin=margin)
    assert [result.p_lower, result.p_upper] == pytest.approx(p, rel=1e-9)
    assert result.pvalue == max(result.p_lower, result.p_upper)
    assert result.ci is not None
    assert result.ci[:2] == pytest.approx(EXPECTED["ci90"], rel=1e-10)


@pytest.mark.parametrize("n", [2, 3, 8, 100])
def test_the_paired_test_agrees_with_scipy(n: int) -> None:
    draw = np.random.default_rng(n)
    x, y = draw.normal(0.3, 1, n), draw.normal(0, 1, n)
    ours, theirs = paired(x, y, level=0.9), scipy_stats.ttest_rel(x, y)
    assert (ours.statistic, ours.pvalue) == pytest.approx((theirs.statistic, theirs.pvalue), rel=1e-9)
    assert ours.ci is not None
    assert ours.ci[:2] == pytest.approx(tuple(theirs.confidence_interval(0.9)), rel=1e-9)


def test_differences_and_two_samples_are_one_test() -> None:
    before, after = sleep()
    assert paired(np.subtract(after, before)) == paired(after, before)


def test_swapping_the_samples_changes_the_sign_and_nothing_else() -> None:
    before, after = sleep()
    one, other = paired(after, before), paired(before, after)
    assert (one.estimate, one.statistic, one.d_z) == (-other.estimate, -other.statistic, -other.d_z)
    assert one.pvalue == other.pvalue


def test_the_interval_lies_within_the_margins_exactly_when_equivalence_is_shown() -> None:
    draw = np.random.default_rng(0)
    shown = []
    for _ in range(200):
        result = tost(draw.normal(0.4, 1, 20), margin=1.0)
        assert result.ci is not None
        assert (result.ci.low > -1 and result.ci.high < 1) == (result.pvalue < 0.05)
        shown.append(result.pvalue < 0.05)
    assert 0 < sum(shown) < 200


def test_the_statistic_of_equivalence_belongs_to_the_margin_that_is_nearer() -> None:
    near_upper, near_lower = tost(WITH_SPREAD, margin=1.0), tost(np.negative(WITH_SPREAD), margin=1.0)
    assert near_upper.statistic == pytest.approx((0.2 - 1.0) / (np.std(WITH_SPREAD, ddof=1) / 2))
    assert near_lower.statistic == -near_upper.statistic
    assert (near_lower.p_lower, near_lower.p_upper) == (near_upper.p_upper, near_upper.p_lower)


def test_two_units_have_no_unbiased_effect_size() -> None:
    result = paired([1.0, 2.0])
    assert result.g_z is None
    assert "g_z" not in str(result)
    with pytest.raises(OutOfRange, match="at least 2 degrees of freedom; 1 given"):
        hedges_correction(1)


def test_the_correction_approaches_one_from_below() -> None:
    factors = [hedges_correction(df) for df in range(2, 200)]
    assert factors == sorted(factors)
    assert factors[-1] == pytest.approx(1 - 3 / (4 * 199 - 1), abs=1e-5)  # Hedges' own approximation


def test_a_p_value_is_never_zero() -> None:
    extreme = 1e9 + np.random.default_rng(0).normal(size=200)
    assert paired(extreme).pvalue > 0
    assert tost(extreme - 1e9, margin=1e9).pvalue > 0


@pytest.mark.parametrize("value", [0.0, -2.5, 0.1 + 0.2])
def test_differences_that_all_agree_have_no_t(value: float) -> None:
    with pytest.raises(DataError, match=rf"^All 5 differences are {value:g}: without spread over units there is no t"):
        paired([value] * 5)
    with pytest.raises(DataError, match="without spread"):
        tost([value] * 5, margin=1.0)


def test_differences_that_agree_up_to_rounding_have_no_t() -> None:
    with pytest.raises(DataError, match="without spread"):
        paired([0.1 + 0.2, 0.3, 0.3])


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ([1.0], "The differences have shape (1,); (units) with at least 2 units is needed."),
        ([[1.0, 2.0]], "The differences have shape (1, 2); (units) with at least 2 units is needed."),
        (
            [1.0, np.nan, np.inf],
            "2 of 3 differences are missing or infinite, the first at (1,); leave the unit out before the test.",
        ),
        (
            [1.0, None],
            "1 of 2 differences are missing or infinite, the first at (1,); leave the unit out before the test.",
        ),
        (
            [np.inf, 1.0],
            "1 of 2 differences are missing or infinite, the first at (0,); leave the unit out before the test.",
        ),
        (["a", "b"], "The differences are not an array of numbers: could not convert string to float: 'a'."),
    ],
)
def test_numbers_that_cannot_be_tested_are_refused(values: list[float], message: str) -> None:
    with pytest.raises(DataError) as caught:
        paired(values)
    assert str(caught.value) == message


def test_samples_of_unequal_length_are_refused() -> None:
    with pytest.raises(DataError, match="x has 3 units and y has 2; a paired test needs the same units in both"):
        paired([1.0, 2.0, 3.0], [1.0, 2.0])


@pytest.mark.parametrize("level", [0.0, 1.0, 95.0])
def test_a_level_outside_its_range_is_refused(level: float) -> None:
    with pytest.raises(OutOfRange, match=f"The confidence level is {level}"):
        paired(WITH_SPREAD, level=level)


@pytest.mark.parametrize(("margin", "alpha"), [(0.0, 0.05), (-1.0, 0.05), (np.inf, 0.05), (1.0, 0.0), (1.0, 0.5)])
def test_a_margin_outside_its_range_is_refused(margin: float, alpha: float) -> None:
    with pytest.raises(OutOfRange, match=r"margin > 0 and 0 < alpha < 0\.5 are needed"):
        tost(WITH_SPREAD, margin=margin, alpha=alpha)


def test_only_exact_zeros_are_constant_by_construction() -> None:
    assert constant_by_construction([0.0, -0.0, 0.0])
    assert not constant_by_construction([0.0, 0.0, 5e-324])
    assert not constant_by_construction([3.0, 3.0])
    with pytest.raises(DataError, match="missing"):
        constant_by_construction([0.0, np.nan])


def test_noninferiority_is_a_one_sided_t_test_from_the_margin() -> None:
    values = np.random.default_rng(5).normal(-0.1, 1, 25)
    for better, side, zero in (("higher", "greater", -0.5), ("lower", "less", 0.5)):
        theirs = scipy_stats.ttest_1samp(values, zero, alternative=side)
        ours = noninferiority(values, margin=0.5, better=better)  # type: ignore[arg-type]
        assert (ours.statistic, ours.pvalue) == pytest.approx((theirs.statistic, theirs.pvalue), rel=1e-9)
        assert ours.ci == pytest.approx(paired(values).ci)


def test_noninferiority_is_shown_exactly_when_the_worse_end_of_the_interval_lies_within_the_margin() -> None:
    draw, shown = np.random.default_rng(6), []
    for _ in range(200):
        result = noninferiority(draw.normal(-0.2, 1, 20), margin=0.6)
        assert result.ci is not None
        shown.append(result.pvalue < 0.025)
        assert shown[-1] == (result.ci.low > -0.6)
    assert 0 < sum(shown) < 200


def test_which_direction_is_better_mirrors_the_data() -> None:
    one, other = (
        noninferiority(WITH_SPREAD, margin=0.5),
        noninferiority(np.negative(WITH_SPREAD), margin=0.5, better="lower"),
    )
    assert (one.pvalue, one.statistic) == (other.pvalue, -other.statistic)


def test_equivalence_is_noninferiority_both_ways() -> None:
    ways = [noninferiority(WITH_SPREAD, margin=1.0, better=b, alpha=0.05).pvalue for b in ("higher", "lower")]  # type: ignore[arg-type]
    assert max(ways) == tost(WITH_SPREAD, margin=1.0).pvalue


def test_noninferiority_refuses_what_it_cannot_test() -> None:
    with pytest.raises(OutOfRange, match=r"Non-inferiority has margin 0\.0"):
        noninferiority(WITH_SPREAD, margin=0.0)
    with pytest.raises(UnknownName, match="No direction is called 'up'"):
        noninferiority(WITH_SPREAD, margin=1.0, better="up")  # type: ignore[arg-type]
    with pytest.raises(DataError, match="without spread"):
        noninferiority([1.0, 1.0], margin=1.0)
