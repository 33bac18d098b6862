from __future__ import annotations

import csv
import math
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from scipy import stats as scipy_stats

from neuromod_core.kernel.errors import DataError, OutOfRange, UnknownName
from neuromod_core.stats import mixed
from neuromod_core.stats.mixed import LinearFit, likelihood_ratio, lmm
from neuromod_core.stats.result import Result
from tests.oracles import stats_mixed as oracle

FIXTURES = Path(__file__).parent.parent / "fixtures"
KR, SATTERTHWAITE = "kenward-roger", "satterthwaite"
ARM = "C(arm, contr.treatment(base='placebo'))"
SLOPES = (f"y ~ {ARM} + x", ["x | unit", "1 | item"])
CROSSED = (f"y ~ {ARM} + x", ["1 | unit", "1 | item"])


@pytest.fixture(scope="module")
def simulated() -> pd.DataFrame:
    return pd.read_csv(FIXTURES / "mixed_referee.csv")


def sleep() -> pd.DataFrame:
    with (FIXTURES / "student_sleep.csv").open(newline="") as stream:
        rows = list(csv.DictReader(stream))
    return pd.DataFrame(
        [(row["patient"], drug, float(row[drug])) for row in rows for drug in ("drug_1", "drug_2")],
        columns=["patient", "drug", "hours"],
    )


# ------------------------------------------------------------------------------------------------- what may not matter


def facts(fit: LinearFit) -> list[float]:
    return [value for c in fit.coefficients for value in (c.estimate, c.se, c.df)] + [fit.criterion, fit.residual_sd]


def test_neither_the_order_of_rows_nor_the_names_of_levels_matter(simulated: pd.DataFrame) -> None:
    first = facts(lmm(simulated, *SLOPES))
    shuffled = simulated.sample(frac=1, random_state=1)
    renamed = shuffled.assign(
        unit=shuffled["unit"].map(lambda name: hash_of(name)), item=shuffled["item"].astype("category")
    )
    assert facts(lmm(renamed, *SLOPES)) == pytest.approx(first, rel=1e-6)


def hash_of(name: str) -> str:
    return f"{(int(name[1:]) * 7919) % 97:02d}"


@pytest.mark.parametrize("df", [KR, SATTERTHWAITE])
def test_neither_unit_nor_origin_of_the_response_matters(simulated: pd.DataFrame, df: Any) -> None:
    fit = lmm(simulated, *SLOPES, df=df)
    moved = lmm(simulated.assign(y=1e6 + 1e-3 * simulated["y"]), *SLOPES, df=df)
    for one, other in list(zip(fit.coefficients, moved.coefficients, strict=True))[1:]:
        assert other.estimate * 1e3 == pytest.approx(one.estimate, rel=1e-5)
        assert (other.df, other.se * 1e3) == pytest.approx((one.df, one.se), rel=1e-5)
    assert moved.residual_sd * 1e3 == pytest.approx(fit.residual_sd, rel=1e-5)


def test_the_unit_of_a_slope_does_not_matter(simulated: pd.DataFrame) -> None:
    one = lmm(simulated, *SLOPES)
    other = lmm(simulated.assign(x=simulated["x"] * 1e5), *SLOPES)
    assert other.coefficient("x").estimate * 1e5 == pytest.approx(one.coefficient("x").estimate, rel=1e-6)
    assert other.coefficient("x").df == pytest.approx(one.coefficient("x").df, rel=1e-6)
    assert other.components[0].sds[1] * 1e5 == pytest.approx(one.components[0].sds[1], rel=1e-5)


def test_the_coding_of_a_factor_changes_neither_fit_nor_joint_test(simulated: pd.DataFrame) -> None:
    one, other = (lmm(simulated, f"y ~ {code} + x", "1 | unit") for code in (ARM, "C(arm, contr.sum)"))
    assert other.residual_sd == pytest.approx(one.residual_sd, rel=1e-6)
    assert other.terms[0].statistic == pytest.approx(one.terms[0].statistic, rel=1e-6)
    assert other.terms[0].df2 == pytest.approx(one.terms[0].df2, rel=1e-6)


def test_a_mapping_of_arrays_and_any_table_of_columns_do(simulated: pd.DataFrame) -> None:
    class Frame:
        columns = tuple(simulated.columns)

        def __getitem__(self, name: str) -> Any:
            return simulated[name].to_list()

    first = facts(lmm(simulated, *CROSSED))
    arrays = {str(name): simulated[name].to_numpy() for name in simulated.columns}
    assert facts(lmm(arrays, *CROSSED)) == first
    assert facts(lmm(Frame(), *CROSSED)) == first


@pytest.mark.parametrize("seed", range(8))
def test_no_variance_on_a_fine_grid_does_better(seed: int) -> None:
    draw = np.random.default_rng(seed)
    unit, x = np.repeat(np.arange(9), 4), draw.normal(size=36)
    y = draw.normal(size=36) + draw.normal(0, 0.3, 9)[unit]
    fit = lmm({"y": y, "x": x, "unit": unit}, "y ~ x", "1 | unit")
    design, (part,) = np.column_stack([np.ones(36), x]), oracle.derivatives(np.ones((36, 1)), unit)
    scale = fit.residual_sd**2
    grid = [
        oracle.criterion(y, design, scale * oracle.covariance([s, t], [part]))
        for s in np.linspace(0.8, 1.2, 21)
        for t in np.concatenate([[0], np.geomspace(1e-4, 1, 25)])
    ]
    assert fit.converged
    assert fit.criterion <= min(grid) + 1e-9
    assert fit.criterion == pytest.approx(min(grid), abs=0.1)


# ------------------------------------------------------------------------------------------------------------- results


def test_a_fit_says_its_coefficients_and_gives_rows() -> None:
    fit = lmm(sleep(), "hours ~ drug", "1 | patient")
    assert str(fit).splitlines() == [
        "Intercept: b = 0.75, SE = 0.60, 95% CI [-0.57, 2.07], t(11.1) = 1.25, p = .237 "
        "(linear mixed model, Kenward-Roger, n = 10)",
        "drug[T.drug_2]: b = 1.58, SE = 0.39, 95% CI [0.70, 2.46], t(9.0) = 4.06, p = .003 "
        "(linear mixed model, Kenward-Roger, n = 10)",
        "patient: SD(Intercept) = 1.69 (10 levels)",
        "Residual: SD = 0.8697 (REML criterion = 69.96, 20 rows)",
    ]
    assert str(fit.term("drug")) == ("drug: F(1, 9.0) = 16.50, p = .003 (linear mixed model, Kenward-Roger, n = 10)")
    columns = list(Result(estimate=0, ci=None, statistic=0, pvalue=1, n=2, method="").as_row())
    assert [list(row) for row in fit.as_rows()] == [columns, columns]
    assert sorted(fit.term("drug").as_row()) == sorted(columns)


def test_a_singular_fit_says_so(simulated: pd.DataFrame) -> None:
    fit = lmm(simulated, f"flat ~ {ARM} + x", "1 | unit")
    assert "singular" in str(fit)
    assert all("singular fit" in str(row["method"]) for row in fit.as_rows())
    assert fit.icc("unit") == 0
    assert math.isnan(lmm(simulated, "flat ~ x", ["1 | unit"]).components[0].correlations[0][0])


def test_contrasts_are_sums_of_coefficients(simulated: pd.DataFrame) -> None:
    fit = lmm(simulated, "y ~ arm + x", ["1 | unit", "1 | item"])
    low, placebo = fit.coefficient("arm[T.low]"), fit.coefficient("arm[T.placebo]")
    difference = fit.contrast({"arm[T.low]": 1, "arm[T.placebo]": -1}, "low - placebo")
    assert difference.estimate == pytest.approx(low.estimate - placebo.estimate)
    direct = lmm(simulated, f"y ~ {ARM} + x", ["1 | unit", "1 | item"]).coefficient(f"{ARM}[T.low]")
    assert (difference.se, difference.df) == pytest.approx((direct.se, direct.df), rel=1e-6)
    joint = fit.test([[0, 1, -1, 0]], "low - placebo")
    assert (joint.statistic, joint.pvalue) == pytest.approx((difference.statistic**2, difference.pvalue), rel=1e-6)


def test_the_likelihood_ratio_compares_fits_by_ml(simulated: pd.DataFrame) -> None:
    full, reduced = (
        lmm(simulated, f"y ~ {terms}", "1 | unit", df=SATTERTHWAITE, reml=False) for terms in ("arm + x", "x")
    )
    test = likelihood_ratio(full, reduced, "arm")
    assert (test.df1, test.statistic) == (2, pytest.approx(reduced.criterion - full.criterion))
    assert test.pvalue == pytest.approx(scipy_stats.chi2.sf(test.statistic, 2))
    with pytest.raises(DataError, match="not nested in this order"):
        likelihood_ratio(reduced, full)
    with pytest.raises(OutOfRange, match="one is by REML"):
        likelihood_ratio(lmm(simulated, "y ~ x", "1 | unit"), reduced)


def test_the_public_names_are_sorted_and_exist() -> None:
    assert all(hasattr(mixed, name) for name in mixed.__all__)


# ----------------------------------------------------------------------------------------------------------- bad input

GOOD: dict[str, Any] = {"y": [1.0, 2.0, 4.0, 3.0, 5.0, 5.5], "x": [0, 1, 0, 1, 0, 1], "unit": list("aabbcc")}


@pytest.mark.parametrize(
    ("change", "fixed", "random", "error", "message"),
    [
        ({"y": [np.nan, 1, 2, 3, 4, 5]}, "y ~ x", "1 | unit", DataError, "1 of 6 values of y are missing"),
        ({"x": [np.nan, 1, 2, 3, 4, 5]}, "y ~ x", "1 | unit", DataError, "1 of 6 values of x are missing"),
        ({"unit": [None, *"abbcc"]}, "y ~ x", "1 | unit", DataError, "1 of 6 values of unit are missing"),
        ({"y": [np.inf, 1, 2, 3, 4, 5]}, "y ~ x", "1 | unit", DataError, "1 of 6 responses are missing or infinite"),
        ({"y": [2.0] * 6}, "y ~ x", "1 | unit", DataError, "All 6 responses are 2; a model needs a response that"),
        ({"y": list("abcdef")}, "y ~ x", "1 | unit", DataError, "The responses are not numbers"),
        ({"unit": ["a"] * 6}, "y ~ x", "1 | unit", DataError, "The grouping factor unit has one level"),
        ({"unit": list("abcdef")}, "y ~ x", "1 | unit", DataError, "has 6 random effects for 6 rows"),
        ({}, "y ~ x", "x | unit", DataError, "has 6 random effects for 6 rows"),
        ({}, "y ~ dose", "1 | unit", UnknownName, "No column is called 'dose'; there are y, x, unit"),
        ({}, "y ~ x", "1 | units", UnknownName, "'units'; there are y, x, unit. Did you mean 'unit'?"),
        ({}, "y ~ x + I(2 * x)", "1 | unit", DataError, "fixed effect I(2 * x) is a linear combination"),
        ({}, "y ~ x +* x", "1 | unit", DataError, "The formula 'x +* x' cannot be used"),
        ({}, "x", "1 | unit", DataError, "it must be 'response ~ terms'"),
        ({}, "y ~ 0", "1 | unit", DataError, "names no fixed effect"),
        ({}, "y ~ x", "unit", DataError, "it must be 'effects | group'"),
        ({}, "y ~ x", (), DataError, "No random effects are given"),
        ({}, "y ~ x", ["1 | unit", "1 | unit"], DataError, "Intercept | unit is asked for more than once"),
        ({"x": [0] * 6}, "y ~ 1", "0 + x | unit", DataError, "The random effect x of '0 + x | unit' is zero"),
        ({"y": [1.0, 1, 2, 2, 5, 5]}, "y ~ 1", "1 | unit", DataError, "no residual variance is left"),
        ({"y": [1.0, 2, 1, 2, 1, 2]}, "y ~ x", "1 | unit", DataError, "reproduce the response exactly"),
        ({"y": [1.0, 2.0]}, "y ~ x", "1 | unit", DataError, "The data are not a table"),
    ],
)
def test_data_that_cannot_be_modelled_are_refused(
    change: dict[str, Any], fixed: str, random: Any, error: type[Exception], message: str
) -> None:
    with pytest.raises(error) as caught:
        lmm({**GOOD, **change}, fixed, random)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_methods_levels_and_contrasts_out_of_range_are_refused() -> None:
    with pytest.raises(UnknownName, match="No method for degrees of freedom is called 'z'"):
        lmm(GOOD, "y ~ x", "1 | unit", df="z")  # type: ignore[arg-type]
    with pytest.raises(OutOfRange, match="Kenward-Roger is defined for REML"):
        lmm(GOOD, "y ~ x", "1 | unit", reml=False)
    with pytest.raises(OutOfRange, match="The confidence level is 95"):
        lmm(GOOD, "y ~ x", "1 | unit", level=95)
    fit = lmm(GOOD, "y ~ x", "1 | unit")
    with pytest.raises(UnknownName, match="No fixed effect is called 'z'; there are Intercept, x"):
        fit.coefficient("z")
    with pytest.raises(UnknownName, match="No term is called 'z'; there are x"):
        fit.term("z")
    with pytest.raises(UnknownName, match="No grouping factor is called 'item'"):
        fit.icc("item")
    with pytest.raises(DataError, match="has no part that is not zero"):
        fit.contrast({"x": 0.0})
    with pytest.raises(DataError, match=r"shape \(1, 3\); \(rows, 2\) is needed"):
        fit.test([[1, 0, 0]])
    with pytest.raises(DataError, match="linearly dependent"):
        fit.test([[0, 1], [0, 2]])


def test_a_joint_test_without_moments_is_refused_and_its_coefficients_are_not() -> None:
    draw = np.random.default_rng(44)
    unit, arm = np.repeat([0, 1], 9), np.tile(list("abc"), 6)
    y = draw.normal(size=18) + 3 * draw.normal(size=(2, 3))[unit, [ord(a) - 97 for a in arm]]
    fit = lmm({"y": y, "arm": arm, "unit": unit}, "y ~ arm", "arm | unit")
    with pytest.raises(DataError, match="Kenward-Roger's moments of a test on 2 degrees of freedom do not exist"):
        fit.term("arm")
    assert all(c.df > 0 for c in fit.coefficients)
    assert lmm({"y": y, "arm": arm, "unit": unit}, "y ~ arm", "arm | unit", df=SATTERTHWAITE).term("arm").df2 > 0


# ---------------------------------------------------------------------------------------------------------- simulation


def rejections(studies: int, seed: int) -> tuple[float, float]:
    """Return how often t and z reject a true null hypothesis: 8 units, 2 arms with a slope per unit, 6 items."""
    draw = np.random.default_rng(seed)
    unit, arm, item = (axis.ravel() for axis in np.meshgrid(range(8), range(2), range(6), indexing="ij"))
    found = np.zeros(2)
    for _ in range(studies):
        y = draw.normal(0, 1, 8)[unit] + draw.normal(0, 0.7, 8)[unit] * arm + draw.normal(0, 0.5, 6)[item]
        data = {"y": y + draw.normal(0, 1, y.size), "arm": arm, "unit": unit, "item": item}
        arms = lmm(data, "y ~ arm", ["arm || unit", "1 | item"]).coefficient("arm")
        found += arms.pvalue < 0.05, abs(arms.statistic) > 1.96
    by_t, by_z = found / studies
    return float(by_t), float(by_z)


def test_a_true_null_hypothesis_is_rejected_about_as_often_as_said() -> None:
    by_t, by_z = rejections(40, seed=2)
    assert 0 < by_t <= 0.15  # Binomial(40, .05) exceeds it once in 300
    assert by_z > by_t


@pytest.mark.slow
def test_a_true_null_hypothesis_is_rejected_as_often_as_said() -> None:
    by_t, by_z = rejections(1000, seed=3)
    assert 0.03 <= by_t <= 0.07
    assert by_z > by_t + 0.01


def test_the_size_of_a_study_is_no_obstacle() -> None:
    units, arms, items = 126, 12, 10
    u, a, i = (axis.ravel() for axis in np.meshgrid(range(units), range(arms), range(items), indexing="ij"))
    draw = np.random.default_rng(1)
    y = draw.normal(0, 1, units)[u] + draw.normal(0, 0.5, items)[i] + draw.normal(0, 1, u.size)
    fit = lmm({"y": y, "arm": [f"a{k:02d}" for k in a], "u": u, "i": i}, "y ~ arm", ["1 | u", "1 | i"])
    assert (fit.rows, fit.converged) == (15120, True)
    residual = units * arms * items - units - items - arms + 2
    assert fit.term("arm").df2 == pytest.approx(residual, rel=1e-6)  # balanced: the classical one
    cells = y.reshape(units, arms, items)
    fitted = cells.mean((1, 2), keepdims=True) + cells.mean((0, 1)) + cells.mean((0, 2))[:, None] - 2 * cells.mean()
    between = units * items * ((cells.mean((0, 2)) - cells.mean()) ** 2).sum() / (arms - 1)
    assert fit.term("arm").statistic == pytest.approx(between / (((cells - fitted) ** 2).sum() / residual), rel=1e-6)
