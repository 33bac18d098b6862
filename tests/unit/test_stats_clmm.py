from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from scipy.optimize import minimize
from scipy.special import expit, ndtr

from neuromod_core.kernel.errors import DataError, UnknownName
from neuromod_core.stats.mixed import LatentCoefficient, clmm, glmm, likelihood_ratio
from neuromod_core.stats.result import Result
from tests.oracles import stats_mixed as oracle

FIXTURES = Path(__file__).parent.parent / "fixtures"
ARM = "C(arm, contr.treatment(base='placebo'))"
VALUES = json.loads((FIXTURES / "mixed_referee.json").read_text())
CDF = {"logit": expit, "probit": ndtr}


@pytest.fixture(scope="module")
def simulated() -> pd.DataFrame:
    return pd.read_csv(FIXTURES / "mixed_referee.csv")


@pytest.mark.parametrize("link", ["logit", "probit"])
def test_ratings_agree_with_r(simulated: pd.DataFrame, link: Any) -> None:
    fit, values = clmm(simulated, f"rating ~ {ARM} + x", "1 | unit", link=link), VALUES[f"clmm_{link}"]
    theirs = {row["term"]: row for row in values["fixed"]}
    ours = [*fit.thresholds, *fit.coefficients]
    assert len(ours) == len(theirs)
    for each in ours:
        row = theirs[each.name.replace(ARM, "arm").replace("[T.", "").replace("]", "")]
        assert each.estimate == pytest.approx(row["estimate"], abs=5e-5)
        assert each.se == pytest.approx(row["se"], rel=5e-5)
    assert fit.log_likelihood == pytest.approx(values["logLik"], abs=1e-7)
    assert fit.components[0].sds[0] == pytest.approx(values["sd"], rel=1e-4)
    assert (fit.converged, fit.categories) == (True, ("0", "1", "2", "3", "4"))


def rated(seed: int) -> pd.DataFrame:
    draw = np.random.default_rng(seed)
    unit, x = np.repeat(np.arange(12), 9), draw.normal(size=108)
    latent = 0.8 * x + draw.normal(0, 1.0, 12)[unit] + draw.logistic(size=108)
    data = pd.DataFrame({"answer": np.searchsorted([-1.0, 0.5, 2.0], latent), "x": x, "unit": unit})
    return data.sample(frac=1, random_state=seed)


@pytest.mark.parametrize(("seed", "link"), [(0, "logit"), (1, "probit")])
def test_the_fit_is_that_of_a_fine_grid(seed: int, link: Any) -> None:
    data = rated(seed)
    fit = clmm(data, "answer ~ x", "1 | unit", link=link, points=25)
    answer, x, unit = (data[name].to_numpy() for name in ("answer", "x", "unit"))

    def negative(at: Any) -> float:
        rows = oracle.ordinal_rows(answer, np.cumsum([at[0], *np.exp(at[1:3])]), at[3] * x, CDF[link])
        return -oracle.integrated(rows, unit, np.array([[at[4]]]), np.ones((108, 1)), 101)

    cuts = [cut.estimate for cut in fit.thresholds]
    assert cuts == sorted(cuts)
    here = [cuts[0], *np.log(np.diff(cuts)), fit.coefficients[0].estimate, fit.components[0].sds[0]]
    assert fit.log_likelihood == pytest.approx(-negative(here), abs=1e-7)
    best = minimize(negative, [-1.0, 0, 0, 0.5, 1], method="BFGS", options={"gtol": 1e-3})
    assert -best.fun == pytest.approx(fit.log_likelihood, abs=1e-6)
    assert here == pytest.approx([*best.x[:4], abs(best.x[4])], abs=2e-3)


def test_two_categories_are_a_logistic_model() -> None:
    data = rated(3).assign(yes=lambda d: (d["answer"] > 1).astype(int))
    ordinal, binary = clmm(data, "yes ~ x", "1 | unit"), glmm(data, "yes ~ x", "1 | unit")
    assert ordinal.log_likelihood == pytest.approx(binary.log_likelihood, abs=1e-8)
    assert ordinal.coefficients[0].estimate == pytest.approx(binary.coefficient("x").estimate, abs=1e-5)
    assert ordinal.coefficients[0].se == pytest.approx(binary.coefficient("x").se, rel=1e-4)
    assert ordinal.thresholds[0].estimate == pytest.approx(-binary.coefficients[0].estimate, abs=1e-5)


@pytest.mark.parametrize("link", ["logit", "probit"])
def test_turning_the_scale_turns_the_signs(link: Any) -> None:
    data = rated(1)
    one = clmm(data, "answer ~ x", "1 | unit", link=link)
    other = clmm(data.assign(answer=3 - data["answer"]), "answer ~ x", "1 | unit", link=link)
    assert other.log_likelihood == pytest.approx(one.log_likelihood, abs=1e-8)
    assert other.coefficients[0].estimate == pytest.approx(-one.coefficients[0].estimate, abs=1e-5)
    cuts = [[cut.estimate for cut in fit.thresholds] for fit in (one, other)]
    assert cuts[1] == pytest.approx([-cut for cut in reversed(cuts[0])], abs=1e-5)


def test_names_and_kinds_of_categories_do_not_matter() -> None:
    data, words = rated(2), ["never", "rarely", "often", "always"]
    first = clmm(data, "answer ~ x", "1 | unit")
    named = data.assign(answer=[words[at] for at in data["answer"]])
    listed = clmm(named, "answer ~ x", "1 | unit", levels=words)
    ordered = clmm(named.assign(answer=pd.Categorical(named["answer"], words, ordered=True)), "answer ~ x", "1 | unit")
    spaced = clmm(data.assign(answer=10 * data["answer"] ** 2), "answer ~ x", "1 | unit")
    for fit in (listed, ordered, spaced):
        assert fit.log_likelihood == first.log_likelihood
        assert fit.coefficients[0].estimate == first.coefficients[0].estimate
    assert [cut.name for cut in listed.thresholds] == ["never|rarely", "rarely|often", "often|always"]
    with pytest.raises(DataError, match="words without an order"):
        clmm(named, "answer ~ x", "1 | unit")


def test_effects_are_said_in_latent_standard_deviations() -> None:
    fit = clmm(rated(0), "answer ~ x", "1 | unit")
    effect = fit.coefficients[0]
    assert isinstance(effect, LatentCoefficient)
    sd = math.sqrt(fit.components[0].sds[0] ** 2 + math.pi**2 / 3)
    assert (fit.latent_sd, effect.latent) == pytest.approx((sd, effect.estimate / sd))
    assert f"{effect.latent:.2f} latent SD" in str(effect)
    probit = clmm(rated(0), "answer ~ x", "1 | unit", link="probit")
    assert probit.coefficients[0].latent == pytest.approx(effect.latent, rel=0.1)
    columns = list(Result(estimate=0, ci=None, statistic=0, pvalue=1, n=2, method="").as_row())
    assert [list(row) for row in fit.as_rows()] == [columns]


def test_thresholds_move_with_the_origin_of_a_predictor() -> None:
    data = rated(1)
    one = clmm(data, "answer ~ x", "1 | unit")
    other = clmm(data.assign(x=(data["x"] + 7) * 100), "answer ~ x", "1 | unit")
    slope = one.coefficients[0].estimate
    assert other.coefficients[0].estimate * 100 == pytest.approx(slope, abs=1e-5)
    shifted = [cut.estimate + 7 * slope for cut in one.thresholds]
    assert [cut.estimate for cut in other.thresholds] == pytest.approx(shifted, abs=1e-4)


def test_crossed_effects_and_the_null_model_are_possible(simulated: pd.DataFrame) -> None:
    null = clmm(simulated, "rating ~ 1", "1 | unit")
    full = clmm(simulated, "rating ~ arm", "1 | unit")
    assert (null.coefficients, null.terms) == ((), ())
    test = likelihood_ratio(full, null, "arm")
    assert (test.df1, test.statistic > 0) == (2, True)
    assert test.statistic == pytest.approx(2 * full.term("arm").statistic, rel=1e-5)
    crossed = clmm(simulated, "rating ~ arm", ["1 | unit", "1 | item"])
    laplace = clmm(simulated, "rating ~ arm", "1 | unit", points=1)
    assert crossed.log_likelihood >= laplace.log_likelihood - 1e-6
    assert crossed.converged


@pytest.mark.parametrize(
    ("answer", "error", "message"),
    [
        ([0, 1, 2, 0, 1, 2, 0, 1, 2], DataError, "The outcomes are separated by x"),
        ([1] * 9, DataError, "All 9 responses are 1; at least two categories must occur"),
        ([0, 1, 2, None, 1, 2, 0, 1, 2], DataError, "1 of 9 values of answer are missing"),
    ],
)
def test_ratings_without_a_maximum_are_refused(answer: Any, error: type[Exception], message: str) -> None:
    data = {"answer": answer, "x": [0, 1, 2] * 3, "unit": [1, 1, 1, 2, 2, 2, 3, 3, 3]}
    with pytest.raises(error) as caught:
        clmm(data, "answer ~ x", "1 | unit")
    assert message in str(caught.value)


def test_bad_requests_are_refused() -> None:
    data = rated(0)
    with pytest.raises(UnknownName, match="No link is called 'cloglog'; there are logit, probit"):
        clmm(data, "answer ~ x", "1 | unit", link="cloglog")  # type: ignore[arg-type]
    with pytest.raises(UnknownName, match="No column is called 'reply'"):
        clmm(data, "reply ~ x", "1 | unit")
    with pytest.raises(DataError, match="leave the intercept in, the thresholds take its place"):
        clmm(data, "answer ~ 0 + x", "1 | unit")
    with pytest.raises(DataError, match=r"The response 3 is not one of \[0, 1, 2\]"):
        clmm(data, "answer ~ x", "1 | unit", levels=[0, 1, 2])
