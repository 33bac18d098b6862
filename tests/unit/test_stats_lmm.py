from __future__ import annotations

import csv
import json
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import statsmodels.formula.api as smf
from scipy import stats as scipy_stats
from scipy.optimize import minimize

from neuromod_core.stats.mixed import LinearFit, lmm
from tests.oracles import stats_mixed as oracle

FIXTURES = Path(__file__).parent.parent / "fixtures"
REFEREE = Path(__file__).parents[3] / "shared" / "referee"
KR, SATTERTHWAITE = "kenward-roger", "satterthwaite"
ARM = "C(arm, contr.treatment(base='placebo'))"


# -------------------------------------------------------------------------------------------------------- against R


@pytest.fixture(scope="module")
def public() -> Path:
    if not (REFEREE / "expected.json").is_file():
        pytest.skip("the public data sets with values computed in R do not lie beside this checkout")
    return REFEREE


@pytest.fixture(scope="module")
def expected(public: Path) -> dict[str, Any]:
    return dict(json.loads((public / "expected.json").read_text()))


def assert_rows(fit: LinearFit, rows: list[dict[str, Any]]) -> None:
    for ours, theirs in zip(fit.coefficients, rows, strict=True):
        assert ours.estimate == pytest.approx(theirs["Estimate"], abs=1e-6)
        assert ours.se == pytest.approx(theirs["Std. Error"], rel=1e-4)
        assert ours.df == pytest.approx(theirs["df"], rel=1e-3)
        assert ours.pvalue == pytest.approx(theirs["Pr(>|t|)"], rel=1e-3)


def test_random_slopes_agree_with_r(public: Path, expected: dict[str, Any]) -> None:
    data, values = pd.read_csv(public / "sleepstudy.csv"), expected["sleepstudy"]
    fit = lmm(data, "Reaction ~ Days", "Days | Subject")
    assert fit.criterion == pytest.approx(values["reml_crit"], abs=1e-5)
    assert_rows(fit, values["fixed_KR"])
    assert_rows(lmm(data, "Reaction ~ Days", "Days | Subject", df=SATTERTHWAITE), values["fixed"])
    part = fit.components[0]
    assert [*part.sds, fit.residual_sd] == pytest.approx(
        [values["sd_int"], values["sd_slope"], values["sd_resid"]], rel=1e-4
    )
    assert part.correlations[1][0] == pytest.approx(values["corr"], abs=1e-4)
    assert (fit.converged, fit.singular) == (True, False)
    by_ml = lmm(data, "Reaction ~ Days", "Days | Subject", reml=False, df=SATTERTHWAITE)
    assert by_ml.log_likelihood == pytest.approx(values["logLik_ML"], abs=1e-5)
    assert [c.estimate for c in by_ml.coefficients] == pytest.approx(values["ML_fixed"], abs=1e-6)


def test_crossed_factors_agree_with_r(public: Path, expected: dict[str, Any]) -> None:
    fit, values = lmm(pd.read_csv(public / "penicillin.csv"), "diameter ~ 1", ["1 | plate", "1 | sample"]), expected
    values = expected["penicillin"]
    assert fit.criterion == pytest.approx(values["reml_crit"], abs=1e-5)
    assert fit.coefficients[0].estimate == pytest.approx(values["intercept"], abs=1e-6)
    sds = [fit.components[0].sds[0], fit.components[1].sds[0], fit.residual_sd]
    assert sds == pytest.approx([values["sd_plate"], values["sd_sample"], values["sd_resid"]], rel=1e-4)
    assert fit.icc("sample") == pytest.approx(sds[1] ** 2 / sum(sd**2 for sd in sds))


def test_a_slope_per_unit_makes_the_difference_that_r_finds(public: Path, expected: dict[str, Any]) -> None:
    data, values = pd.read_csv(public / "items_pseudorep.csv"), expected["items_pseudorep"]
    maximal = lmm(data, "y ~ cond", ["cond || unit", "cond || item"], df=SATTERTHWAITE)
    assert maximal.criterion == pytest.approx(values["reml"], abs=1e-5)
    assert_rows(maximal, values["lmm_maximal"])
    assert_rows(lmm(data, "y ~ cond", ["1 | unit", "1 | item"], df=SATTERTHWAITE), values["lmm_intercepts_only"])
    found = [sd for part in maximal.components for sd in part.sds] + [maximal.residual_sd]
    assert found == pytest.approx([row["sdcor"] for row in values["lmm_maximal_sd"]], rel=1e-3)


@pytest.fixture(scope="module")
def simulated() -> pd.DataFrame:
    return pd.read_csv(FIXTURES / "mixed_referee.csv")


VALUES = json.loads((FIXTURES / "mixed_referee.json").read_text())
MODELS: Mapping[str, tuple[str, list[str]]] = {
    "intercepts": (f"y ~ {ARM} + x", ["1 | unit", "1 | item"]),
    "slopes": (f"y ~ {ARM} + x", ["x | unit", "1 | item"]),
    "uncorrelated": (f"y ~ {ARM} * x", ["x || unit", "1 | item"]),
    "nested": ("y ~ x", ["1 | unit / item"]),
    "zero": (f"flat ~ {ARM} + x", ["1 | unit"]),
}


def in_r(name: str) -> str:
    return name.replace(ARM, "arm").replace("[T.", "").replace("]", "").replace("Intercept", "(Intercept)")


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize(("df", "key"), [(SATTERTHWAITE, "satterthwaite"), (KR, "kenward_roger")])
def test_unbalanced_models_agree_with_r(simulated: pd.DataFrame, name: str, df: Any, key: str) -> None:
    fit, values = lmm(simulated, *MODELS[name], df=df), VALUES[name]
    assert fit.criterion == pytest.approx(values["criterion"], abs=1e-7)
    assert fit.aic == pytest.approx(values["aic"], abs=1e-7)
    assert (fit.converged, fit.singular) == (True, values["singular"])
    theirs = {row["term"]: row for row in values[key]}
    assert len(fit.coefficients) == len(theirs)
    for ours in fit.coefficients:
        row = theirs[in_r(ours.name)]
        assert ours.estimate == pytest.approx(row["estimate"], abs=1e-7)
        found = [ours.se, ours.df, ours.pvalue]
        assert found == pytest.approx([row["se"], row["df"], row["p"]], rel=1e-5)


@pytest.mark.parametrize("name", ["intercepts", "slopes", "nested", "zero"])
@pytest.mark.parametrize(("df", "key"), [(SATTERTHWAITE, "F_satterthwaite"), (KR, "F_kenward_roger")])
def test_f_tests_of_terms_agree_with_r(simulated: pd.DataFrame, name: str, df: Any, key: str) -> None:
    fit = lmm(simulated, *MODELS[name], df=df)
    theirs = {row["term"]: row for row in VALUES[name][key]}
    assert len(fit.terms) == len(theirs)
    for ours in fit.terms:
        row = theirs[in_r(ours.name)]
        assert ours.df1 == row["df1"]
        found = [ours.statistic, ours.df2, ours.pvalue]
        assert found == pytest.approx([row["F"], row["df2"], row["p"]], rel=1e-5)


def test_maximum_likelihood_agrees_with_r(simulated: pd.DataFrame) -> None:
    fit, values = lmm(simulated, *MODELS["intercepts"], df=SATTERTHWAITE, reml=False), VALUES["ml"]
    assert (fit.criterion, fit.aic) == pytest.approx((values["criterion"], values["aic"]), abs=1e-7)
    theirs = {row["term"]: row["df"] for row in values["satterthwaite"]}
    assert [c.df for c in fit.coefficients] == pytest.approx([theirs[in_r(c.name)] for c in fit.coefficients], rel=1e-5)


def test_a_ridge_on_which_another_search_ends_is_left(simulated: pd.DataFrame) -> None:
    fit = lmm(simulated, f"flat ~ {ARM} + x", "x | unit")
    assert fit.criterion < VALUES["ridge"]["criterion"] - 0.2
    assert (fit.converged, fit.singular) == (True, True)
    assert abs(fit.components[0].correlations[1][0]) == pytest.approx(1)


# ------------------------------------------------------------------------------------------------ against other theory


def sleep() -> pd.DataFrame:
    with (FIXTURES / "student_sleep.csv").open(newline="") as stream:
        rows = list(csv.DictReader(stream))
    return pd.DataFrame(
        [(row["patient"], drug, float(row[drug])) for row in rows for drug in ("drug_1", "drug_2")],
        columns=["patient", "drug", "hours"],
    )


@pytest.mark.parametrize("df", [KR, SATTERTHWAITE])
def test_two_measures_per_unit_are_the_paired_t_test(df: Any) -> None:
    wide = sleep().pivot(index="patient", columns="drug", values="hours")
    theirs = scipy_stats.ttest_rel(wide["drug_2"], wide["drug_1"])
    ours = lmm(sleep(), "hours ~ drug", "1 | patient", df=df).coefficient("drug[T.drug_2]")
    assert (ours.df, ours.n) == (pytest.approx(9, rel=1e-8), 10)
    assert (ours.statistic, ours.pvalue) == pytest.approx((theirs.statistic, theirs.pvalue), rel=1e-7)
    assert ours.ci is not None
    assert ours.ci[:2] == pytest.approx(tuple(theirs.confidence_interval()), rel=1e-7)


@pytest.mark.parametrize("df", [KR, SATTERTHWAITE])
def test_a_balanced_split_plot_has_the_classical_degrees_of_freedom(df: Any) -> None:
    groups, units, arms = 3, 5, 4
    draw = np.random.default_rng(5)
    g, u, a = (axis.ravel() for axis in np.meshgrid(range(groups), range(units), range(arms), indexing="ij"))
    y = 0.3 * g * a + draw.normal(0, 1.5, (groups, units))[g, u] + draw.normal(0, 1, g.size)
    data = {"y": y, "group": [f"g{i}" for i in g], "unit": g * units + u, "arm": [f"a{i}" for i in a]}
    fit = lmm(data, "y ~ C(group, contr.sum) * C(arm, contr.sum)", "1 | unit", df=df)
    between, within, both = fit.terms
    assert [t.df1 for t in fit.terms] == [2, 3, 6]
    assert between.df2 == pytest.approx(groups * (units - 1), rel=1e-6)
    assert [within.df2, both.df2] == pytest.approx([groups * (units - 1) * (arms - 1)] * 2, rel=1e-6)
    cells = y.reshape(groups, units, arms)
    means = cells.mean(axis=2)
    ss_units = arms * ((means - means.mean(axis=1, keepdims=True)) ** 2).sum()
    ss_groups = arms * units * ((means.mean(axis=1) - means.mean()) ** 2).sum()
    assert between.statistic == pytest.approx(ss_groups / 2 / (ss_units / 12), rel=1e-6)


def test_estimates_agree_with_statsmodels(simulated: pd.DataFrame) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # their search warns on its way
        theirs = smf.mixedlm("y ~ arm + x", simulated, groups="unit", re_formula="~x").fit(method="bfgs")
    ours = lmm(simulated, "y ~ arm + x", "x | unit")
    assert [c.estimate for c in ours.coefficients] == pytest.approx(theirs.fe_params.tolist(), abs=1e-4)
    assert -2 * theirs.llf == pytest.approx(ours.criterion, abs=1e-4)
    assert [sd**2 for sd in ours.components[0].sds] == pytest.approx(np.diag(theirs.cov_re).tolist(), rel=1e-2)


def crossed_data(seed: int) -> pd.DataFrame:
    draw = np.random.default_rng(seed)
    rows = 60
    unit, item, x = draw.integers(0, 7, rows), draw.integers(0, 5, rows), draw.normal(size=rows)
    slopes = draw.multivariate_normal([0, 0], [[1.0, 0.4], [0.4, 0.8]], 7)
    y = 1 + 0.5 * x + slopes[unit, 0] + slopes[unit, 1] * x + draw.normal(0, 0.7, 5)[item] + draw.normal(0, 0.8, rows)
    return pd.DataFrame({"y": y, "x": x, "arm": draw.choice(list("abc"), rows), "unit": unit, "item": item})


@pytest.mark.parametrize("reml", [True, False])
@pytest.mark.parametrize("seed", range(3))
def test_the_fit_is_that_of_the_whole_covariance_matrix(seed: int, *, reml: bool) -> None:
    data = crossed_data(seed)
    fit = lmm(data, "y ~ arm + x", ["x | unit", "1 | item"], df=KR if reml else SATTERTHWAITE, reml=reml)
    assert (fit.converged, fit.singular) == (True, False)
    x = np.column_stack([np.ones(60), data["arm"] == "b", data["arm"] == "c", data["x"]]).astype(float)
    y, both = data["y"].to_numpy(), np.column_stack([np.ones(60), data["x"]])
    unit, item = data["unit"].to_numpy(), data["item"].to_numpy()
    parts = oracle.derivatives(both, unit) + oracle.derivatives(np.ones((60, 1)), item)
    (a, b), r = fit.components[0].sds, fit.components[0].correlations[0][1]
    gamma = np.array([fit.residual_sd**2, a**2, r * a * b, b**2, fit.components[1].sds[0] ** 2])
    assert fit.criterion == pytest.approx(oracle.criterion(y, x, oracle.covariance(gamma, parts), reml=reml), abs=1e-8)

    def dense(log: Any) -> float:
        sd = np.exp(log[[0, 1, 2, 4]])
        around = [sd[0] ** 2, sd[1] ** 2, np.tanh(log[3]) * sd[1] * sd[2], sd[2] ** 2, sd[3] ** 2]
        return oracle.criterion(y, x, oracle.covariance(around, parts), reml=reml)

    least = minimize(dense, np.zeros(5), method="Nelder-Mead", options={"fatol": 1e-9, "xatol": 1e-6, "maxiter": 4000})
    assert fit.criterion == pytest.approx(least.fun, abs=1e-6)
    slow = oracle.satterthwaite(y, x, gamma, parts, np.array([0.0, 0, 0, 1]), reml=reml)
    fast = lmm(data, "y ~ arm + x", ["x | unit", "1 | item"], df=SATTERTHWAITE, reml=reml).coefficient("x").df
    assert fast == pytest.approx(slow, rel=1e-3)


@pytest.mark.parametrize("seed", range(3))
def test_kenward_roger_is_that_of_the_paper(seed: int) -> None:
    data = crossed_data(seed)
    fit = lmm(data, "y ~ arm + x", ["x || unit", "1 | item"])
    x = np.column_stack([np.ones(60), data["arm"] == "b", data["arm"] == "c", data["x"]]).astype(float)
    ones, slope = np.ones((60, 1)), data[["x"]].to_numpy()
    unit, item = data["unit"].to_numpy(), data["item"].to_numpy()
    parts = [d for c, g in ((ones, unit), (slope, unit), (ones, item)) for d in oracle.derivatives(c, g)]
    gamma = [fit.residual_sd**2, *(part.sds[0] ** 2 for part in fit.components)]
    phi, adjusted, w, p = oracle.kenward_roger(x, gamma, parts)
    assert fit.covariance == pytest.approx(adjusted, rel=1e-6, abs=1e-10)
    for rows in (np.eye(4)[[3]], np.eye(4)[[1, 2]], np.array([[0.0, 1, -1, 0], [0, 0, 1, 2], [1, 0, 0, 0]])):
        df, scale = oracle.kenward_roger_f(phi, w, p, rows)
        beta = rows @ [c.estimate for c in fit.coefficients]
        test = fit.test(rows)
        assert test.df2 == pytest.approx(df, rel=1e-6)
        wald = beta @ np.linalg.solve(rows @ adjusted @ rows.T, beta) / len(rows)
        assert test.statistic == pytest.approx(scale * wald, rel=1e-6)
