from __future__ import annotations

import dataclasses
import math

import pytest

from neuromod_core.stats import Adjusted, Estimate, Interval, Named, Paired, Result

PLAIN = {
    "estimate": 0.0123,
    "ci": Interval(-0.004, 1.5, 0.9),
    "statistic": 2.0,
    "pvalue": 0.00049,
    "n": 9,
    "method": "t",
}


def test_a_result_prints_itself_in_apa_style() -> None:
    assert str(Result(**PLAIN)) == "M = 0.012, 90% CI [-0.004, 1.50], t(8) = 2.00, p < .001 (t, n = 9)"
    assert str(Adjusted(**{**PLAIN, "ci": None, "pvalue": 0.05}, p_adj=1.0, family=4)) == (
        "M = 0.012, t(8) = 2.00, p = .050, adjusted p = 1.000 of 4 (t, n = 9)"
    )


def test_every_result_is_a_row_of_the_same_table() -> None:
    plain = Result(**PLAIN).as_row()
    effect = Paired(**PLAIN, d_z=0.4, g_z=0.3).as_row()
    adjusted = Adjusted(**PLAIN, p_adj=0.02, family=3).as_row()
    assert list(plain) == ["estimate", "ci_low", "ci_high", "g_z", "statistic", "p", "p_adj", "n", "method"]
    assert effect == {**plain, "g_z": 0.3}
    assert adjusted == {**plain, "p_adj": 0.02}


def test_what_a_result_does_not_have_is_missing_in_its_row() -> None:
    row = Result(**{**PLAIN, "ci": None, "statistic": math.inf}).as_row()
    assert {key for key, value in row.items() if value is None} == {"ci_low", "ci_high", "g_z", "statistic", "p_adj"}


def test_a_result_cannot_be_changed() -> None:
    with pytest.raises(dataclasses.FrozenInstanceError):
        Result(**PLAIN).pvalue = 0.01  # type: ignore[misc]


def test_a_test_of_something_else_than_a_mean_names_it() -> None:
    found = Named(**PLAIN, symbol="W", label="F(2, 8)")
    assert str(found) == "W = 0.012, 90% CI [-0.004, 1.50], F(2, 8) = 2.00, p < .001 (t, n = 9)"
    assert found.as_row() == Result(**PLAIN).as_row()


def test_an_estimate_is_a_row_without_a_test() -> None:
    found = Estimate(symbol="alpha", estimate=0.8, ci=Interval(0.7, 0.9, 0.95), n=30, method="Cronbach")
    assert str(found) == "alpha = 0.80, 95% CI [0.70, 0.90] (Cronbach, n = 30)"
    assert list(found.as_row()) == list(Result(**PLAIN).as_row())
    assert {key for key, value in found.as_row().items() if value is None} == {"g_z", "statistic", "p", "p_adj"}
    assert str(dataclasses.replace(found, ci=None)) == "alpha = 0.80 (Cronbach, n = 30)"
