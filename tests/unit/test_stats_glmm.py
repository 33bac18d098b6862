from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from scipy import stats as scipy_stats
from scipy.optimize import minimize
from statsmodels.genmod.families import Binomial
from statsmodels.genmod.generalized_linear_model import GLM

from neuromod_core.kernel.errors import DataError, OutOfRange, UnknownName
from neuromod_core.stats.mixed import LikelihoodFit, glmm, likelihood_ratio, lmm
from neuromod_core.stats.result import Result
from tests.oracles import stats_mixed as oracle

FIXTURES = Path(__file__).parent.parent / "fixtures"
ARM = "C(arm, contr.treatment(base='placebo'))"
VALUES = json.loads((FIXTURES / "mixed_referee.json").read_text())


@pytest.fixture(scope="module")
def simulated() -> pd.DataFrame:
    return pd.read_csv(FIXTURES / "mixed_referee.csv")


def in_r(name: str) -> str:
    return name.replace(ARM, "arm").replace("[T.", "").replace("]", "").replace("Intercept", "(Intercept)")


@pytest.mark.parametrize(
    ("name", "random", "points", "tolerance"),
    [
        ("glmm9", "1 | unit", None, 1e-6),
        ("glmm1", "1 | unit", 1, 1e-4),  # the other search ends where the likelihood is lower by 1e-5
        ("glmm_crossed", ["1 | unit", "1 | item"], None, 1e-4),
    ],
)
def test_counts_agree_with_r(
    simulated: pd.DataFrame, name: str, random: Any, points: int | None, tolerance: float
) -> None:
    fit, values = glmm(simulated, f"yes ~ {ARM} + x", random, trials="of", points=points), VALUES[name]
    theirs = {row["term"]: row for row in values["fixed"]}
    assert (fit.converged, fit.singular) == (True, False)
    for ours in fit.coefficients:
        row = theirs[in_r(ours.name)]
        assert ours.estimate == pytest.approx(row["estimate"], abs=tolerance)
        assert ours.se == pytest.approx(row["se"], rel=40 * tolerance)
    found = [part.sds[0] for part in fit.components]
    assert found == pytest.approx([row["sd"] for row in values["components"]], rel=tolerance)
    if points == 1:
        assert 0 <= fit.log_likelihood - values["logLik"] < 1e-4


def clustered(seed: int, *, slope: bool = False, trials: int = 1) -> pd.DataFrame:
    draw = np.random.default_rng(seed)
    unit, x = np.repeat(np.arange(15), 8), draw.normal(size=120)
    u = draw.normal(0, 1.2, 15)[unit] + (draw.normal(0, 0.8, 15)[unit] * x if slope else 0)
    p = 1 / (1 + np.exp(0.4 - 0.7 * x - u))
    data = pd.DataFrame({"yes": draw.binomial(trials, p), "x": x, "unit": unit, "of": trials})
    return data.sample(frac=1, random_state=seed)  # the rows of a unit need not stand together


@pytest.mark.parametrize(("seed", "trials"), [(1, 1), (2, 5)])
def test_the_fit_is_that_of_a_fine_grid(seed: int, trials: int) -> None:
    data = clustered(seed, trials=trials)
    fit = glmm(data, "yes ~ x", "1 | unit", trials="of", points=25)
    s, m, x, unit = (data[name].to_numpy() for name in ("yes", "of", "x", "unit"))

    def negative(at: Any) -> float:
        rows = oracle.binomial_rows(s, m, at[0] + at[1] * x)
        return -oracle.integrated(rows, unit, np.array([[at[2]]]), np.ones((120, 1)), 101)

    here = np.array([*(c.estimate for c in fit.coefficients), fit.components[0].sds[0]])
    assert fit.log_likelihood == pytest.approx(-negative(here), abs=1e-7)
    best = minimize(negative, [0.0, 0.0, 1.0], method="BFGS", options={"gtol": 1e-3})
    assert -best.fun == pytest.approx(fit.log_likelihood, abs=1e-6)
    assert here == pytest.approx([*best.x[:2], abs(best.x[2])], abs=1e-3)
    h = 1e-3 * np.eye(3)
    curvature = np.array(
        [
            [
                negative(here + a + b) - negative(here + a - b) - negative(here - a + b) + negative(here - a - b)
                for a in h
            ]
            for b in h
        ]
    ) / (4e-6)
    assert [c.se for c in fit.coefficients] == pytest.approx(np.sqrt(np.diag(np.linalg.inv(curvature)))[:2], rel=1e-4)


def test_correlated_slopes_are_those_of_a_fine_grid() -> None:
    data = clustered(4, slope=True, trials=4)
    fit = glmm(data, "yes ~ x", "x | unit", trials="of", points=15)
    (a, b), r = fit.components[0].sds, fit.components[0].correlations[0][1]
    root = np.linalg.cholesky(np.array([[a * a, r * a * b], [r * a * b, b * b]]))
    s, m, x, unit = (data[name].to_numpy() for name in ("yes", "of", "x", "unit"))
    rows = oracle.binomial_rows(s, m, fit.coefficients[0].estimate + fit.coefficients[1].estimate * x)
    both = np.column_stack([np.ones(120), x])
    assert fit.log_likelihood == pytest.approx(oracle.integrated(rows, unit, root, both, 41), abs=1e-5)
    shift = oracle.integrated(rows, unit, root * 1.01, both, 41), oracle.integrated(rows, unit, root * 0.99, both, 41)
    assert max(shift) < fit.log_likelihood
    assert (fit.converged, len(fit.coefficients), fit.parameters) == (True, 2, 5)


def test_more_points_converge_and_one_point_is_laplace() -> None:
    data = clustered(1)
    values = [glmm(data, "yes ~ x", "1 | unit", points=points).log_likelihood for points in (1, 5, 15, 25)]
    errors = [abs(value - values[-1]) for value in values[:-1]]
    assert errors == sorted(errors, reverse=True)
    assert errors[-1] < 1e-5 < errors[0]
    twice = data.assign(other=np.arange(120) % 3)
    crossed = glmm(twice, "yes ~ x", ["1 | unit", "1 | other"])
    assert "Laplace" in crossed.method
    if crossed.components[1].sds[0] < 1e-3:
        assert crossed.log_likelihood == pytest.approx(values[0], abs=1e-6)
    else:
        assert crossed.log_likelihood > values[0]


def test_without_variance_it_is_logistic_regression() -> None:
    draw = np.random.default_rng(3)
    x = draw.normal(size=90)
    data = {"yes": np.tile([0, 1, 1, 0, 1, 0, 0, 1, 1], 10), "x": x, "unit": np.repeat(np.arange(10), 9)}
    fit = glmm(data, "yes ~ x", "1 | unit")
    plain = GLM(data["yes"], np.column_stack([np.ones(90), x]), family=Binomial()).fit()
    assert fit.singular
    assert "singular" in str(fit)
    assert fit.log_likelihood == pytest.approx(plain.llf, abs=1e-6)
    assert [c.estimate for c in fit.coefficients] == pytest.approx(plain.params.tolist(), abs=1e-4)
    assert [c.se for c in fit.coefficients] == pytest.approx(plain.bse.tolist(), rel=1e-3)


def test_neither_order_nor_unit_nor_direction_matters(simulated: pd.DataFrame) -> None:
    fit = glmm(simulated, "yes ~ x", "1 | unit", trials="of")
    moved = simulated.sample(frac=1, random_state=2).assign(x=lambda d: 1000 * d["x"] + 5)
    other = glmm(moved.assign(yes=moved["of"] - moved["yes"]), "yes ~ x", "1 | unit", trials="of")
    assert other.log_likelihood == pytest.approx(fit.log_likelihood, abs=1e-7)
    assert other.coefficient("x").estimate * -1000 == pytest.approx(fit.coefficient("x").estimate, abs=1e-5)
    assert other.components[0].sds[0] == pytest.approx(fit.components[0].sds[0], abs=1e-4)


def test_single_trials_are_the_counts_they_sum_to() -> None:
    data = clustered(2, trials=5)
    fit = glmm(data, "yes ~ x", "1 | unit", trials="of")
    rows = [(i < row.yes, row.x, row.unit) for row in data.itertuples() for i in range(5)]
    each = glmm(pd.DataFrame(rows, columns=["yes", "x", "unit"]), "yes ~ x", "1 | unit")
    ways = sum(math.log(math.comb(5, int(count))) for count in data["yes"])
    assert each.log_likelihood + ways == pytest.approx(fit.log_likelihood, abs=1e-7)
    assert each.coefficient("x").estimate == pytest.approx(fit.coefficient("x").estimate, abs=1e-5)


def test_tests_are_the_likelihood_ratios_of_refits_referred_to_t_and_f(simulated: pd.DataFrame) -> None:
    full = glmm(simulated, f"yes ~ {ARM} + x", "1 | unit", trials="of")
    reduced, without = (glmm(simulated, f"yes ~ {terms}", "1 | unit", trials="of") for terms in ("x", ARM))
    x, arm, ratio = full.coefficient("x"), full.term(ARM), likelihood_ratio(full, reduced, "arm")
    units = simulated["unit"].nunique()
    assert "likelihood ratio" in x.method
    assert f"t({units - 1:.1f}) = " in str(x)
    assert x.statistic**2 == pytest.approx(likelihood_ratio(full, without).statistic, rel=1e-5)
    assert np.sign(x.statistic) == np.sign(x.estimate)
    assert x.pvalue == pytest.approx(2 * scipy_stats.t.sf(abs(x.statistic), units - 1))
    assert x.ci is not None
    assert x.ci[:2] == pytest.approx(scipy_stats.t.interval(0.95, units - 1, x.estimate, x.se))
    assert (arm.df1, arm.df2, ratio.df1, "asymptotic" in ratio.method) == (2, units - 1, 2, True)
    assert 2 * arm.statistic == pytest.approx(ratio.statistic, rel=1e-5)
    assert arm.pvalue == pytest.approx(scipy_stats.f.sf(arm.statistic, 2, units - 1))
    assert ratio.pvalue == pytest.approx(scipy_stats.chi2.sf(ratio.statistic, 2))
    assert full.term("x").statistic == pytest.approx(x.statistic**2)
    columns = list(Result(estimate=0, ci=None, statistic=0, pvalue=1, n=2, method="").as_row())
    assert [list(row) for row in full.as_rows()] == [columns] * 4
    with pytest.raises(DataError, match="the same kind of model"):
        likelihood_ratio(full, lmm(simulated, "y ~ x", "1 | unit", df="satterthwaite", reml=False))


UNITS = [1, 1, 2, 2, 3, 3, 4, 4]


@pytest.mark.parametrize(
    ("yes", "message"),
    [
        ([0, 1] * 4, "The outcomes are separated by x: the likelihood has no maximum"),
        ([0, 1, 0, 0, 0, 1, 0, 1], "The outcomes are separated by Intercept, x"),
        ([1, 1, 0, 0, 1, 1, 0, 0], "The standard deviation of unit grows without end"),
        ([0, 0, 0, 0, 0, 0, 0, 0], "All 8 responses are 0"),
        ([0, 1, 2, 1, 0, 1, 0, 0], "The responses are not all 0 or 1; name the column of trials"),
        ([0, 1, None, 1, 0, 1, 0, 0], "1 of 8 values of yes are missing"),
    ],
)
def test_outcomes_without_a_maximum_are_refused(yes: list[int], message: str) -> None:
    with pytest.raises(DataError) as caught:
        glmm({"yes": yes, "x": [0, 1] * 4, "unit": UNITS}, "yes ~ x", "1 | unit")
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_bad_requests_are_refused() -> None:
    data = {"yes": [0, 1, 1, 1, 0, 0, 1, 0], "x": [0, 1] * 4, "unit": UNITS, "of": [1, 1, 1, 1, 1, 1, 1, 0]}
    with pytest.raises(UnknownName, match="No family is called 'poisson'; there are binomial"):
        glmm(data, "yes ~ x", "1 | unit", family="poisson")  # type: ignore[arg-type]
    with pytest.raises(DataError, match="whole counts from 0 to of, which must be at least 1"):
        glmm(data, "yes ~ x", "1 | unit", trials="of")
    with pytest.raises(UnknownName, match="No column is called 'all'"):
        glmm(data, "yes ~ x", "1 | unit", trials="all")
    for points in (0, 51):
        with pytest.raises(OutOfRange, match=rf"{points} quadrature points are asked for; 1 \(Laplace\) to 50"):
            glmm(data, "yes ~ x", "1 | unit", points=points)
    with pytest.raises(OutOfRange, match="9 quadrature points are asked for 2 terms"):
        glmm(data, "yes ~ x", ["1 | unit", "1 | x"], points=9)
    with pytest.raises(OutOfRange, match="The confidence level is 2"):
        glmm(data, "yes ~ x", "1 | unit", level=2)
    with pytest.raises(UnknownName, match="No fixed effect is called 'z'"):
        fit_of(data).coefficient("z")


def fit_of(data: dict[str, Any]) -> LikelihoodFit:
    return glmm(data, "yes ~ x", "1 | unit")
