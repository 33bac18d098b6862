from __future__ import annotations

import itertools
import math

import numpy as np
import pytest

from neuromod_core.kernel.errors import DataError, OutOfRange, UnknownName
from neuromod_core.stats import Named, rerandomise
from neuromod_core.stats.arrangements import Alternative
from tests.oracles.stats_permutation import rearranged, share
from tests.oracles.stats_sequences import contrast_of, t_of

SQUARE = np.array([[0, 1, 3, 2], [1, 2, 0, 3], [2, 3, 1, 0], [3, 0, 2, 1]])  # Williams 1949, four arms
FIRST = np.array([1.0, -1.0, 0.0, 0.0])
THREE = np.array([[0, 1, 2], [1, 2, 0], [2, 0, 1], [0, 2, 1], [1, 0, 2], [2, 1, 0]])


def crossover(rows: np.ndarray, effect: float, seed: int = 0) -> np.ndarray:
    """Scores with units, periods and skewed noise; arm 0 adds `effect`."""
    draw = np.random.default_rng(seed)
    units, periods = rows.shape
    noise = draw.exponential(size=rows.shape)
    return draw.normal(0, 3, (units, 1)) + 2.0 * np.arange(periods) + noise + effect * (rows == 0)


def p_of(scores: np.ndarray, rows: np.ndarray, weights: np.ndarray, **options: object) -> Named:
    return rerandomise(scores, rows, weights, generator=np.random.default_rng(0), **options)  # type: ignore[arg-type]


@pytest.mark.parametrize("alternative", ["greater", "less", "two-sided"])
@pytest.mark.parametrize("seed", range(3))
def test_p_agrees_with_every_deal_of_the_sequences(alternative: Alternative, seed: int) -> None:
    scores, weights = crossover(THREE, 0.5, seed), np.array([1.0, -0.5, -0.5])
    fold = {"greater": lambda t: t, "less": lambda t: -t, "two-sided": abs}[alternative]
    deals = [THREE[[int(unit) for unit in order]] for order in rearranged(range(6), [0] * 6)]
    every = [t_of(scores, deal, weights) for deal in deals]
    observed = t_of(scores, THREE, weights)
    found = p_of(scores, THREE, weights, alternative=alternative)
    assert found.pvalue == share(every, observed, fold)
    assert found.statistic == pytest.approx(observed, rel=1e-12)


@pytest.mark.parametrize("missing", [0, 1, 3])
def test_the_estimate_is_that_of_least_squares_also_when_units_are_missing(missing: int) -> None:
    rows = np.tile(SQUARE, (4, 1))[missing:]
    scores, weights = crossover(rows, 1.0), np.array([1.0, 1.0, -1.0, -1.0])
    assert p_of(scores, rows, weights, draws=99).estimate == pytest.approx(
        contrast_of(scores, rows, weights), rel=1e-10
    )


def test_within_blocks_only_the_deals_within_blocks_count() -> None:
    rows, block = np.tile(THREE[:3], (2, 1)), [0, 0, 0, 1, 1, 1]
    scores, weights = crossover(rows, 1.0), np.array([1.0, -1.0, 0.0])
    deals = [rows[[int(unit) for unit in order]] for order in rearranged(range(6), block)]
    every = [t_of(scores, deal, weights) for deal in deals]
    found = p_of(scores, rows, weights, block=["a"] * 3 + ["b"] * 3)
    assert len(every) == 36
    assert "all 36 arrangements" in found.method
    assert found.pvalue == share(every, t_of(scores, rows, weights), abs)


def test_over_all_deals_of_one_experiment_the_error_is_exact() -> None:
    """Scores that no arm changes: the share of deals with p <= a is at most a, whatever units and periods do."""
    scores = crossover(THREE, 0.0)
    deals = [THREE[[int(unit) for unit in order]] for order in rearranged(range(6), [0] * 6)]
    p = np.array([p_of(scores, deal, np.array([1.0, -1.0, 0.0])).pvalue for deal in deals])
    assert all((p <= k / 720).mean() <= k / 720 for k in range(1, 721))
    assert (p <= 0.1).any()


def test_period_effects_and_units_do_not_matter() -> None:
    rows = np.tile(SQUARE, (3, 1))
    scores = crossover(rows, 1.0)
    moved = scores + np.array([0.0, 50.0, -9.0, 4.0]) + 100 * np.arange(12)[:, None]
    plain, other = (p_of(table, rows, FIRST, draws=500) for table in (scores, moved))
    assert other.pvalue == plain.pvalue
    assert (other.estimate, other.statistic) == pytest.approx((plain.estimate, plain.statistic), rel=1e-9)


def test_an_effect_is_found_and_its_sign_follows_the_contrast() -> None:
    rows = np.tile(SQUARE, (6, 1))
    scores = crossover(rows, 2.0)
    one, other = (p_of(scores, rows, sign * FIRST, draws=1_999) for sign in (1, -1))
    assert one.estimate == pytest.approx(2.0, abs=1.0)
    assert one.pvalue == other.pvalue == 1 / 2_000
    assert (other.estimate, other.statistic) == pytest.approx((-one.estimate, -one.statistic))


def test_random_deals_approach_the_enumeration() -> None:
    """Two sequences in ten units: 252 different deals."""
    rows, weights, draws = np.array([[0, 1], [1, 0]] * 5), np.array([1.0, -1.0]), 20_000
    scores = crossover(rows, 0.7)
    deals = [np.array([[0, 1] if unit in chosen else [1, 0] for unit in range(10)])
             for chosen in itertools.combinations(range(10), 5)]  # fmt: skip
    exact = share([t_of(scores, deal, weights) for deal in deals], t_of(scores, rows, weights), abs)
    found = p_of(scores, rows, weights, draws=draws)
    assert 0 < exact < 1
    assert found.pvalue == pytest.approx(exact, abs=4 * math.sqrt(exact * (1 - exact) / draws))
    assert found.method == "re-randomised sequences, 20000 random arrangements"


def test_contrasts_that_agree_in_every_unit_have_an_infinite_t() -> None:
    scores = np.array([[1.0, 0.0], [0.0, 1.0], [1.0, 0.0], [0.0, 1.0]])
    found = p_of(scores, np.array([[0, 1], [1, 0], [0, 1], [1, 0]]), np.array([1.0, -1.0]))
    assert (found.statistic, found.pvalue) == (math.inf, 2 * 4 / 24)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"sequences": SQUARE[:3]}, r"sequences have shape \(3, 4\) and the scores \(4, 4\)"),
        ({"sequences": SQUARE + 1}, r"not a permutation of the arms 0 \.\. 3"),
        ({"sequences": SQUARE * [1, 1, 1, 0]}, "not a permutation"),
        ({"contrast": [1, 0, 0]}, "4 finite weights, not all zero, are needed"),
        ({"contrast": [0, 0, 0, 0]}, "not all zero"),
        ({"contrast": [1, 0, 0, math.nan]}, "finite weights"),
        ({"contrast": [1, 0, 0, 0]}, "add up to 1; they must add up to 0"),
        ({"sequences": SQUARE[[0, 0, 0, 0]]}, "confound the contrast with periods"),
        ({"block": [0, 1]}, r"block labels have shape \(2,\); one label for each of 4"),
        ({"block": [0, 1, math.nan, 1]}, "1 of 4 block labels are missing, the first at 2"),
        ({"scores": np.ones((4, 4))}, "All 4 units have the same course over the periods"),
        ({"scores": np.full((4, 4), math.nan)}, "16 of 16 scores are missing"),
        ({"scores": np.ones((1, 4)), "sequences": SQUARE[:1]}, "with at least 2 units is needed"),
    ],
)
def test_what_cannot_be_dealt_out_is_refused(change: dict[str, object], message: str) -> None:
    given: dict[str, object] = {"scores": crossover(SQUARE, 1.0), "sequences": SQUARE, "contrast": FIRST, **change}
    with pytest.raises(DataError, match=message):
        rerandomise(**given, generator=np.random.default_rng(0))  # type: ignore[arg-type]


def test_no_draws_and_another_alternative_are_refused() -> None:
    rows = np.tile(SQUARE, (4, 1))
    with pytest.raises(OutOfRange, match="0 draws"):
        p_of(crossover(rows, 0.0), rows, FIRST, draws=0)
    with pytest.raises(UnknownName, match="No alternative is called 'both'"):
        p_of(crossover(rows, 0.0), rows, FIRST, alternative="both", draws=9)
