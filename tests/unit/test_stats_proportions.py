from __future__ import annotations

import math

import numpy as np
import pytest
from scipy.special import ndtri
from statsmodels.stats.contingency_tables import mcnemar as statsmodels_mcnemar

from neuromod_core.kernel.errors import DataError, OutOfRange, UnknownName
from neuromod_core.stats import Interval, mcnemar, noninferiority_proportions, tango, tango_interval
from tests.oracles.stats_proportions import mcnemar_p, tango_z

Z = float(ndtri(0.975))
COUNTS = [(1, 7, 21), (8, 2, 20), (5, 5, 40), (3, 0, 50), (0, 9, 12), (2, 3, 5), (40, 90, 400)]


def answers(b: int, c: int, n: int, both: int = 0) -> tuple[list[int], list[int]]:
    rest = n - b - c - both
    return [1] * b + [0] * c + [1] * both + [0] * rest, [0] * b + [1] * c + [1] * both + [0] * rest


@pytest.mark.parametrize(
    ("counts", "interval"),
    [((1, 7, 21), (-0.517, -0.026)), ((20, 60, 1000), (-0.0584, -0.0231))],  # Fagerland et al. 2014; PropCIs in R
)
def test_the_interval_agrees_with_published_ones(counts: tuple[int, int, int], interval: tuple[float, float]) -> None:
    found = tango_interval(*counts)
    assert (found.low, found.high) == pytest.approx(interval, abs=6 * 10.0 ** -(len(str(interval[0])) - 2))


@pytest.mark.parametrize("counts", COUNTS)
def test_the_limits_solve_the_score_equation_of_the_oracle(counts: tuple[int, int, int]) -> None:
    low, high, _ = tango_interval(*counts)
    assert tango_z(*counts, low) == pytest.approx(Z, abs=1e-5)
    assert tango_z(*counts, high) == pytest.approx(-Z, abs=1e-5)


@pytest.mark.parametrize("n", [1, 10, 200])
def test_where_nobody_or_everybody_changes_sides_there_is_a_closed_form(n: int) -> None:
    reach = Z**2 / (n + Z**2)
    assert tango_interval(0, 0, n)[:2] == pytest.approx((-reach, reach), abs=1e-12)
    assert tango_interval(n, 0, n)[:2] == pytest.approx(((n - Z**2) / (n + Z**2), 1.0), abs=1e-12)
    assert tango_interval(0, n, n)[:2] == pytest.approx((-1.0, (Z**2 - n) / (n + Z**2)), abs=1e-12)


@pytest.mark.parametrize("counts", COUNTS)
def test_swapping_the_arms_turns_everything_round(counts: tuple[int, int, int]) -> None:
    x, y = answers(*counts)
    one, other = tango(x, y), tango(y, x)
    assert (other.estimate, other.statistic, other.pvalue) == (-one.estimate, -one.statistic, one.pvalue)
    assert tango_interval(counts[1], counts[0], counts[2])[:2] == pytest.approx(
        tuple(-limit for limit in tango_interval(*counts)[1::-1]), abs=1e-12
    )
    assert mcnemar(x, y).pvalue == mcnemar(y, x).pvalue


def test_the_p_of_no_difference_is_mcnemars_and_agrees_with_the_interval() -> None:
    for b in range(9):
        for c in range(9):
            result = tango(*answers(b, c, 30))
            assert result.statistic == pytest.approx((b - c) / math.sqrt(b + c) if b + c else 0.0, abs=1e-12)
            assert result.ci is not None
            assert (result.pvalue < 0.05) == (result.ci.low > 0 or result.ci.high < 0)


def test_units_that_agree_count_only_in_n() -> None:
    assert tango(*answers(3, 1, 30, both=0)) == tango(*answers(3, 1, 30, both=20))


def test_the_interval_covers() -> None:
    """Nominal 95 %; 0.915 is five standard errors of 2000 studies below it."""
    studies = np.random.default_rng(0).multinomial(40, [0.12, 0.05, 0.83], size=2_000)
    interval = {(b, c): tango_interval(int(b), int(c), 40) for b, c, _ in {tuple(study) for study in studies}}
    assert np.mean([interval[b, c].low <= 0.07 <= interval[b, c].high for b, c, _ in studies]) >= 0.915


@pytest.mark.parametrize("counts", [*COUNTS, (4, 4, 9), (0, 1, 5)])
@pytest.mark.parametrize("mid", [False, True])
def test_mcnemar_agrees_with_the_coin_tossed_out(counts: tuple[int, int, int], mid: bool) -> None:
    found = mcnemar(*answers(*counts), method="mid-p" if mid else "exact").pvalue
    assert found == pytest.approx(mcnemar_p(counts[0], counts[1], mid=mid), rel=1e-10)


def test_mcnemar_agrees_with_statsmodels() -> None:
    b, c, n = 12, 4, 30
    theirs = statsmodels_mcnemar([[0, b], [c, n - b - c]], exact=True)
    assert mcnemar(*answers(b, c, n)).pvalue == pytest.approx(theirs.pvalue, rel=1e-12)


def test_without_a_unit_that_changes_sides_there_is_no_evidence() -> None:
    x, y = answers(0, 0, 12, both=5)
    assert [mcnemar(x, y, method=method).pvalue for method in ("exact", "mid-p")] == [1.0, 1.0]
    assert tango(x, y).pvalue == 1.0


def test_noninferiority_is_claimed_exactly_when_the_interval_lies_below_the_margin() -> None:
    verdicts = []
    for b in range(8):
        for c in range(8):
            result = noninferiority_proportions(*answers(b, c, 150), margin=0.03)
            assert isinstance(result.ci, Interval)
            verdicts.append(result.pvalue < 0.025)
            assert verdicts[-1] == (result.ci.high < 0.03)
    assert 0 < sum(verdicts) < len(verdicts)


def test_two_hundred_units_without_an_event_show_a_margin_of_two_per_cent_and_a_hundred_do_not() -> None:
    assert noninferiority_proportions([0] * 200, [0] * 200, margin=0.02).pvalue < 0.025
    assert noninferiority_proportions([0] * 100, [0] * 100, margin=0.02).pvalue > 0.025


def test_at_the_margin_the_error_is_nominal() -> None:
    """Nominal 2.5 %; the score test may exceed it a little: 0.037 is five standard errors of 4000 studies above."""
    draw = np.random.default_rng(1)
    studies = draw.multinomial(300, [0.05, 0.02, 0.93], size=4_000)
    interval = {(b, c): tango_interval(int(b), int(c), 300) for b, c, _ in {tuple(study) for study in studies}}
    assert np.mean([interval[b, c].high < 0.03 for b, c, _ in studies]) <= 0.037


@pytest.mark.parametrize(
    ("x", "y", "message"),
    [
        ([1, 0, 2], [1, 0, 1], "A paired proportion counts values 0 and 1; given: 2"),
        ([1, 0], [1, 0, 1], "x has 2 units and y has 3"),
        ([1], [1], "have shape"),
        ([1, math.nan], [1, 1], "1 of 2 values of x are missing"),
    ],
)
def test_what_is_not_yes_or_no_is_refused(x: list[float], y: list[float], message: str) -> None:
    for test in (tango, mcnemar, lambda a, b: noninferiority_proportions(a, b, margin=0.1)):
        with pytest.raises(DataError, match=message):
            test(x, y)


def test_counts_margins_and_names_outside_their_range_are_refused() -> None:
    with pytest.raises(OutOfRange, match="3 and 3 of 5 units changed sides"):
        tango_interval(3, 3, 5)
    with pytest.raises(OutOfRange, match="-1 and 3"):
        tango_interval(-1, 3, 5)
    with pytest.raises(OutOfRange, match=r"The margin of non-inferiority is 3\.0"):
        noninferiority_proportions([1, 0], [1, 0], margin=3.0)
    with pytest.raises(OutOfRange, match=r"Non-inferiority has alpha 0\.7"):
        noninferiority_proportions([1, 0], [1, 0], margin=0.1, alpha=0.7)
    with pytest.raises(UnknownName, match=r"No McNemar test is called 'mid'\. Did you mean 'mid-p'\?"):
        mcnemar([1, 0], [1, 0], method="mid")  # type: ignore[arg-type]
