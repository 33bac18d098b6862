from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from scipy.stats import binomtest, pearsonr

from neuromod_core.kernel.errors import DataError, OutOfRange, UnknownName
from neuromod_core.stats import Profile, concordance, identification, profile, sham_null, shape
from tests.oracles.stats_permutation import share

SCALES = 11


def stream(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


def references(packs: int, scales: int = SCALES) -> np.ndarray:
    return stream(1).uniform(0, 60, size=(packs, scales))


@pytest.mark.parametrize("seed", range(3))
def test_the_shape_agrees_with_the_correlation_of_every_order(seed: int) -> None:
    one, other = stream(seed).normal(size=(2, 5))
    every = [pearsonr(order, other).statistic for order in itertools.permutations(one)]
    observed = pearsonr(one, other).statistic
    found = shape(one, other, generator=stream())
    assert found.estimate == pytest.approx(observed, rel=1e-12)
    assert found.pvalue == pytest.approx(share(every, observed), abs=1e-12)
    both = shape(one, other, alternative="two-sided", generator=stream())
    assert both.pvalue == pytest.approx(share(every, observed, abs), abs=1e-12)


def test_elevation_and_scatter_do_not_count_as_shape() -> None:
    one, other = stream(2).uniform(0, 50, size=(2, SCALES))
    plain, moved = shape(one, other, generator=stream()), shape(20 * one + 300, other / 9 - 1, generator=stream())
    assert moved.estimate == pytest.approx(plain.estimate, rel=1e-10)
    assert moved.pvalue == plain.pvalue
    assert profile(20 * one + 300) == pytest.approx(Profile(20 * one.mean() + 300, 20 * one.std()))
    assert shape(-one, other, alternative="less", generator=stream()).estimate == pytest.approx(-plain.estimate)


def test_a_profile_without_shape_has_no_match_though_its_cosine_is_high() -> None:
    reference = references(1)[0]
    flat = np.full(SCALES, 3.0)
    assert flat @ reference / np.linalg.norm(flat) / np.linalg.norm(reference) > 0.8
    with pytest.raises(DataError, match="A profile among the profile is flat over 11 scales"):
        shape(flat, reference, generator=stream())
    nearly = shape(flat + 1e-3 * stream(3).normal(size=SCALES), reference, generator=stream())
    assert abs(nearly.estimate) < 0.7


def test_eleven_scales_need_a_correlation_of_about_a_half() -> None:
    """One-sided 5 % of the correlation of unrelated profiles over 11 scales: .52."""
    reference, near = references(1)[0], []
    for seed in range(60):
        found = shape(stream(seed).normal(size=SCALES) + 0.02 * reference, reference, draws=999, generator=stream(seed))
        near.append((found.estimate, found.pvalue))
    significant = [r for r, p in near if p <= 0.05]
    assert min(significant) > 0.4
    assert max(r for r, p in near if p > 0.05) < 0.62


def test_a_sham_ensemble_decides_by_rank() -> None:
    reference, shams = references(1)[0], stream(4).normal(size=(99, SCALES))
    likeness = [pearsonr(sham, reference).statistic for sham in shams[1:]]
    best = shape(shams[0], reference, draws=9, generator=stream())
    found = sham_null(shams[0], reference, shams[1:])
    above = sum(r > best.estimate for r in likeness)
    assert found.pvalue == pytest.approx((1 + above) / 99)
    assert found.statistic == pytest.approx(1 - above / 98)
    assert sham_null(reference, reference, shams).pvalue == 1 / 100
    assert sham_null(-reference, reference, shams).pvalue == 1.0


@pytest.mark.parametrize(("packs", "least"), [(3, 1 / 6), (4, 1 / 24), (5, 1 / 120), (6, 1 / 720)])
def test_packs_that_all_match_reach_one_over_the_number_of_namings(packs: int, least: float) -> None:
    target = references(packs)
    found = identification(target + stream(5).normal(size=target.shape), target, generator=stream())
    assert (found.pvalue, found.correct, found.statistic) == (pytest.approx(least), packs, packs)


def test_the_identification_agrees_with_every_naming() -> None:
    target = references(4)
    packs = target + 25 * stream(6).normal(size=target.shape)
    likeness = np.array([[pearsonr(pack, one).statistic for one in target] for pack in packs])

    def advantage(order: tuple[int, ...]) -> float:
        own = [likeness[i, j] for i, j in enumerate(order)]
        other = [likeness[i, j] for i in range(4) for j in range(4) if j != order[i]]
        return float(np.mean(own) - np.mean(other))

    every = [advantage(order) for order in itertools.permutations(range(4))]
    found = identification(packs, target, generator=stream())
    assert np.array(found.matrix) == pytest.approx(likeness, abs=1e-12)
    assert found.estimate == pytest.approx(advantage((0, 1, 2, 3)), rel=1e-10)
    assert found.pvalue == share(every, advantage((0, 1, 2, 3)))
    assert found.correct == sum(int(row.argmax()) == place for place, row in enumerate(likeness))


def test_four_of_six_right_is_rarer_than_one_in_forty() -> None:
    right = [sum(i == j for i, j in enumerate(order)) for order in itertools.permutations(range(6))]
    assert np.mean(np.array(right) >= 4) == pytest.approx(0.0222, abs=1e-4)
    target = references(6)
    swapped = target[[0, 1, 2, 3, 5, 4]] + 0.1 * stream(7).normal(size=target.shape)
    found = identification(swapped, target, generator=stream())
    assert (found.correct, found.pvalue < 0.03) == (4, True)


def test_naming_packs_and_references_in_another_order_changes_nothing() -> None:
    target, order = references(5), [3, 0, 4, 1, 2]
    packs = target + 20 * stream(8).normal(size=target.shape)
    one = identification(packs, target, generator=stream())
    other = identification(packs[order], target[order], generator=stream())
    assert (other.pvalue, other.correct) == (one.pvalue, one.correct)
    assert other.estimate == pytest.approx(one.estimate)


def test_unrelated_packs_are_identified_no_more_often_than_nominal() -> None:
    p = [
        identification(stream(seed).normal(size=(5, 8)), references(5, 8), generator=stream()).pvalue
        for seed in range(400)
    ]
    assert np.mean(np.array(p) <= 0.05) <= 0.05 + 4 * math.sqrt(0.05 * 0.95 / 400)


def test_nine_packs_are_named_at_random() -> None:
    target = references(9)
    found = identification(target, target, draws=999, generator=stream())
    assert (found.pvalue, found.method) == (1 / 1000, "identification matrix, 999 random arrangements")


@pytest.mark.parametrize("hits", range(9))
def test_concordance_agrees_with_the_binomial_test(hits: int) -> None:
    signs = np.array([1, -1] * 4)
    effects = signs * np.where(np.arange(8) < hits, 0.7, -0.2)
    found = concordance(signs, effects)
    assert (found.hits, found.estimate, found.p_sham) == (hits, hits / 8, None)
    assert found.pvalue == pytest.approx(binomtest(hits, 8, alternative="greater").pvalue, rel=1e-12)


def test_an_effect_of_zero_fulfils_no_prediction() -> None:
    assert concordance([1, -1, 1], [0.0, 0.0, 2.0]).hits == 1


def test_shams_that_go_together_put_a_lucky_series_into_its_place() -> None:
    """All effects share one sign: half of the shams fulfil every prediction, which the binomial calls rare."""
    signs = np.ones(10)
    shams = stream(9).normal(size=(400, 1)) + 1e-3 * stream(10).normal(size=(400, 10))
    found = concordance(signs, np.ones(10), shams=shams)
    assert found.pvalue == pytest.approx(2**-10)
    assert found.p_sham == pytest.approx(0.5, abs=0.1)


def test_the_pack_itself_counts_among_the_shams() -> None:
    shams = [[1.0, 2.0, -1.0], [-1.0, -1.0, -1.0], [1.0, 1.0, 1.0]]
    assert concordance([1, 1, 1], [1.0, 1.0, 1.0], shams=shams).p_sham == 2 / 4
    assert concordance([1, 1, 1], [1.0, 1.0, -1.0], shams=shams).p_sham == 3 / 4
    assert concordance([1, 1, 1], [1.0, 1.0, 1.0], shams=shams[:2]).p_sham == 1 / 3


@pytest.mark.parametrize(
    ("values", "reference", "message"),
    [
        ([1.0, 2.0, 3.0], [1.0, 2.0, 3.0, 5.0], "Profiles over 3 and 4 scales cannot be compared"),
        ([1.0, 2.0], [1.0, 2.0], "a shape needs at least 3 scales"),
        ([1.0, 2.0, math.nan], [1.0, 2.0, 3.0], "1 of 3 values of the profile are missing"),
        (["a", "b", "c"], [1.0, 2.0, 3.0], "The profile are not an array of numbers"),
        ([1.0, 2.0, 3.0], [4.0, 4.0, 4.0], "A profile among the reference is flat"),
    ],
)
def test_profiles_that_cannot_be_compared_are_refused(
    values: list[float], reference: list[float], message: str
) -> None:
    with pytest.raises(DataError, match=message):
        shape(values, reference, generator=stream())
    with pytest.raises(DataError, match=message):
        sham_null(values, reference, stream().normal(size=(20, len(reference))))


def test_other_refusals_say_why() -> None:
    target = references(3)
    with pytest.raises(DataError, match="both need the same"):
        identification(target[:2], target, generator=stream())
    with pytest.raises(DataError, match="at least 2 packs"):
        identification(target[:1], target[:1], generator=stream())
    with pytest.raises(DataError, match="1 sham is no null"):
        sham_null(target[0], target[1], target[2:])
    with pytest.raises(DataError, match="There are 2 predictions and 3 effects"):
        concordance([1, -1], [1.0, 2.0, 3.0])
    with pytest.raises(DataError, match=r"A prediction is \+1 or -1; given: 0\. Leave out"):
        concordance([1, 0], [1.0, 2.0])
    with pytest.raises(DataError, match=r"\(shams, 2 predictions\) is needed"):
        concordance([1, -1], [1.0, 2.0], shams=[[1.0], [2.0]])
    with pytest.raises(OutOfRange, match="0 draws"):
        identification(references(9), references(9), draws=0, generator=stream())
    with pytest.raises(UnknownName, match="No alternative is called 'alike'"):
        shape(target[0], target[1], alternative="alike", generator=stream())  # type: ignore[arg-type]
