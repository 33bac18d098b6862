"""What every public statistic owes its caller: an example, a source, frames as good as arrays, a p in (0, 1]."""

from __future__ import annotations

import inspect
from collections.abc import Callable

import numpy as np
import pandas as pd
import pytest

from neuromod_core import stats

FUNCTIONS = [name for name in stats.__all__ if inspect.isfunction(getattr(stats, name))]
WITHOUT_SOURCE = {  # counts or looks up; no formula of its own
    "constant_by_construction", "guesses", "sample_size", "detectable",
}  # fmt: skip
Generator = np.random.Generator


def stream() -> Generator:
    return np.random.default_rng(0)


def normal(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=shape)


VECTOR, OTHER, TABLE, BINARY = normal(12), normal(12, seed=1), normal(9, 4), normal(12) > 0
ROWS = np.array([[0, 1, 2, 3], [1, 2, 3, 0], [2, 3, 0, 1]] * 3)
CASES: dict[str, Callable[[Callable[[np.ndarray], object]], object]] = {
    "paired": lambda as_: stats.paired(as_(VECTOR), as_(OTHER)),
    "sign_flip": lambda as_: stats.sign_flip(as_(VECTOR), generator=stream()),
    "sign_flips": lambda as_: stats.sign_flips(as_(TABLE), generator=stream())[0],
    "max_t": lambda as_: stats.max_t(as_(TABLE), generator=stream())[0],
    "bootstrap_t": lambda as_: stats.bootstrap_t(as_(VECTOR), draws=99, generator=stream()),
    "bootstraps": lambda as_: stats.bootstraps(as_(TABLE), draws=99, generator=stream())[1],
    "tost": lambda as_: stats.tost(as_(VECTOR), margin=0.5),
    "noninferiority": lambda as_: stats.noninferiority(as_(VECTOR), margin=0.5),
    "noninferiority_proportions": lambda as_: stats.noninferiority_proportions(as_(BINARY), as_(BINARY), margin=0.1),
    "tango": lambda as_: stats.tango(as_(BINARY), as_(1 - BINARY)),
    "mcnemar": lambda as_: stats.mcnemar(as_(BINARY), as_(1 - BINARY)),
    "d_z": lambda as_: stats.d_z(as_(VECTOR)),
    "cliffs_delta": lambda as_: stats.cliffs_delta(as_(VECTOR), as_(OTHER)),
    "friedman": lambda as_: stats.friedman(as_(TABLE), draws=99, generator=stream()),
    "page": lambda as_: stats.page(as_(TABLE), draws=99, generator=stream()),
    "jonckheere": lambda as_: stats.jonckheere(as_(TABLE), draws=99, generator=stream()),
    "dose_trend": lambda as_: stats.dose_trend(as_(TABLE), [0, 1, 2, 4], generator=stream()),
    "rerandomise": lambda as_: stats.rerandomise(as_(TABLE), as_(ROWS), [1, -1, 0, 0], draws=99, generator=stream()),
    "icc": lambda as_: stats.icc(as_(TABLE)),
    "alpha": lambda as_: stats.alpha(as_(TABLE)),
    "omega": lambda as_: stats.omega(as_(TABLE + VECTOR[:9, None])),
    "split_half": lambda as_: stats.split_half(as_(TABLE), generator=stream()),
    "hartung_knapp": lambda as_: stats.hartung_knapp(as_(VECTOR), as_(np.exp(OTHER))),
    "auc": lambda as_: stats.auc(as_(VECTOR), as_(BINARY), draws=99, generator=stream()),
    "bang": lambda as_: stats.bang(as_(np.array([[5, 2, 3], [4, 4, 1]])))[0],
    "james": lambda as_: stats.james(as_(np.array([[5, 2, 3], [4, 4, 1]]))),
    "shape": lambda as_: stats.shape(VECTOR, OTHER, draws=99, generator=stream()),
    "sham_null": lambda as_: stats.sham_null(VECTOR[:4], OTHER[:4], as_(TABLE)),
    "identification": lambda as_: stats.identification(as_(TABLE[:4]), as_(TABLE[4:8]), generator=stream()),
    "concordance": lambda as_: stats.concordance(as_(2 * BINARY - 1), as_(OTHER)),
}


def framed(array: np.ndarray) -> object:
    return pd.Series(array) if array.ndim == 1 else pd.DataFrame(array)


def test_the_public_names_are_sorted_and_exist() -> None:
    assert stats.__all__ == sorted(stats.__all__)
    assert all(hasattr(stats, name) for name in stats.__all__)


def test_what_the_package_promises_in_its_docstring_exists_and_nothing_is_left_out() -> None:
    table = [line.strip() for line in (stats.__doc__ or "").splitlines() if line.startswith("    ")]
    named = {name.strip() for line in table for name in line.split("  ")[-1].split(",")}
    assert named - set(stats.__all__) == set()
    assert set(FUNCTIONS) - named == {"benjamini_bogomolov", "constant_by_construction"}


@pytest.mark.parametrize("name", FUNCTIONS)
def test_every_public_function_documents_an_example_its_errors_and_its_source(name: str) -> None:
    text = inspect.getdoc(getattr(stats, name)) or ""
    assert ">>> " in text
    assert "Raises:" in text
    assert "Source: " in text or "; Benjamini" in text or name in WITHOUT_SOURCE


@pytest.mark.parametrize("name", CASES)
def test_a_frame_is_as_good_as_an_array(name: str) -> None:
    assert CASES[name](framed) == CASES[name](np.asarray)


@pytest.mark.parametrize("name", CASES)
def test_every_result_is_a_sentence_and_a_row_with_a_p_above_zero(name: str) -> None:
    result = CASES[name](np.asarray)
    assert isinstance(result, stats.Result | stats.Estimate)
    assert f"n = {result.n})" in str(result)
    assert list(result.as_row()) == ["estimate", "ci_low", "ci_high", "g_z", "statistic", "p", "p_adj", "n", "method"]
    if isinstance(result, stats.Result):
        assert 0 < result.pvalue <= 1
    if result.ci is not None:
        assert result.ci.low <= result.estimate <= result.ci.high
