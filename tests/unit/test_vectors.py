"""Vectors are judged on topics they were not made from, by a test that is exact, against shams of the same make."""

from __future__ import annotations

from itertools import product
from pathlib import Path

import numpy as np
import pytest

from neuromod_core.calibrate.causal import Causal
from neuromod_core.calibrate.complete import crossed
from neuromod_core.calibrate.contrast import Pair, load_contrast
from neuromod_core.calibrate.methods import METHODS, first_component, legacy, pca, unit
from neuromod_core.calibrate.validate import (
    areas,
    cross_fitted,
    flips,
    judged,
    layer_profile,
    nested,
    products,
    pvalues,
    separation,
)
from neuromod_core.calibrate.vectors import SHUFFLES, fit
from neuromod_core.calibrate.wording import Wording, auc, distinct_ngrams, faults, parting_word, words
from neuromod_core.effects import Subject, Vector
from neuromod_core.kernel.errors import CalibrationError, MissingVector, UnknownName
from neuromod_core.kernel.rng import rng
from tests.conftest import ROOT

TOPICS = [f"topic{i // 6:02d}" for i in range(72)]
NUMBERS = np.arange(72) // 6


def planted(strength: float, seed: int = 0) -> np.ndarray:
    """Activations (pairs, 2, layers, width) with a concept planted in layer 5 of 10."""
    draw = rng(seed, "planted")
    states = draw.standard_normal((72, 2, 10, 16))
    states[:, 0, 5] += strength * np.eye(16)[3]
    return states


def few(seed: int = 2) -> tuple[np.ndarray, np.ndarray]:
    """A small set: 24 pairs on 8 topics, 3 layers of width 5, with a faint concept."""
    states = rng(seed, "few").standard_normal((24, 2, 3, 5))
    states[:, 0, 1, 0] += 0.7
    return states, np.arange(24) // 3


def test_a_planted_concept_is_found_where_it_is() -> None:
    states = planted(3.0)
    card, found = fit("c", {"mean": states, "last": states}, TOPICS)
    assert card.layer == 5
    assert set(card.layers) == {5}
    assert found.vector[3] > 0.9
    assert np.linalg.norm(found.vectors, axis=-1) == pytest.approx(np.ones(10))
    assert found.midpoint == pytest.approx(1.5, abs=0.3), "halfway between the poles at 0 and 3"
    assert card.valid, card.failures
    assert card.p_separation == card.p_auc == pytest.approx(1 / 2**11)
    assert card.auc > 0.95
    assert card.separation == pytest.approx(3.0, abs=0.6)
    assert card.others["last token"][0] == pytest.approx(card.others["pca"][0], abs=0.3)


def test_the_sign_is_that_of_the_positive_pole_for_every_method() -> None:
    states = planted(3.0)
    for name in set(METHODS) - {"legacy"}:
        poles = states, states[:, ::-1].copy()
        forward, backward = (fit("c", {"mean": each}, TOPICS, method=name)[1] for each in poles)
        assert forward.vector == pytest.approx(-backward.vector, abs=1e-6), name
        assert forward.vector[3] > 0.8, name


def test_the_published_recipe_takes_the_concept_away() -> None:
    """A strong mean and a stronger spread along another axis: centring keeps the spread, not the mean."""
    states = rng(0, "legacy").standard_normal((72, 2, 1, 16))
    states[:, 0, 0, 3] += 4.0
    states[:, 0, 0, 7] += 6.0 * np.where(np.arange(72) % 2, 1, -1)
    assert abs(legacy(states)[3]) < 0.3
    assert abs(legacy(states)[7]) > 0.9
    assert METHODS["mean_difference"](states[:, :, 0])[3] > 0.9


def test_a_vector_of_the_published_recipe_is_never_valid() -> None:
    card, found = fit("c", {"mean": planted(6.0)}, TOPICS, method="legacy")
    assert card.failures == ("the published recipe is here to be compared",) or len(card.failures) > 1
    assert not card.valid
    assert (found.vectors == found.vector).all(), "one direction for all layers"
    assert card.separation == pytest.approx(fit("c", {"mean": planted(6.0)}, TOPICS)[0].others["legacy"][0]), (
        "chosen or compared, it is the same recipe"
    )


def test_a_vector_can_be_made_at_the_last_token() -> None:
    mean, last = planted(0.0), planted(3.0)
    card, found = fit("c", {"mean": mean, "last": last}, TOPICS, position="last")
    assert (card.position, card.layer) == ("last", 5)
    assert found.vector[3] > 0.9
    assert abs(card.others["mean of tokens"][0]) < 1
    with pytest.raises(CalibrationError, match="Position 'last' was not read; there are mean"):
        fit("c", {"mean": mean}, TOPICS, position="last")


def test_a_topic_is_judged_by_the_vector_made_without_it_whatever_its_place() -> None:
    """A set with some of the topics, under their names, is judged topic by topic; strange ones by the whole vector."""
    states = planted(3.0)
    _, found = fit("c", {"mean": states}, TOPICS)
    own = sorted(set(TOPICS))
    pairs = [Pair(topic, "a", "b") for topic in TOPICS]
    here = states[:, :, 5]
    some = NUMBERS >= 7
    without = np.stack([found.without[topic] for topic in NUMBERS[some]])
    by_hand = separation(np.einsum("psw,pw->ps", here[some], without)[..., None])[0]
    part = [pair for pair, kept in zip(pairs, some, strict=True) if kept]
    assert crossed(found, own, here[some], part) == pytest.approx(by_hand)
    strange = [Pair(f"other {pair.topic}", "a", "b") for pair in part]
    assert crossed(found, own, here[some], strange) == pytest.approx(
        separation((here[some] @ found.vector)[..., None])[0]
    )


def test_pca_of_differences_is_pca_of_states_centred_within_their_pair() -> None:
    states = planted(2.0)[:, :, 5]
    centred = (states - states.mean(1, keepdims=True)).reshape(-1, 16)
    assert abs(unit(first_component(centred)[0]) @ pca(states)) == pytest.approx(1.0)
    assert first_component(centred)[1] == pytest.approx(first_component(states[:, 0] - states[:, 1])[1])


def test_an_unknown_method_suggests_the_nearest() -> None:
    with pytest.raises(UnknownName, match=r"No extraction method is called 'logistc'.*'logistic'"):
        fit("c", {"mean": planted(1.0)}, TOPICS, method="logistc")


def test_label_shuffled_vectors_have_the_size_and_not_the_concept() -> None:
    _, found = fit("c", {"mean": planted(3.0)}, TOPICS)
    assert np.linalg.norm(found.shuffled, axis=-1) == pytest.approx(np.ones(SHUFFLES))
    assert abs((found.shuffled @ found.vector).mean()) < 0.4
    assert len(np.unique(found.shuffled.round(6), axis=0)) == SHUFFLES


def test_noise_is_valid_as_rarely_as_it_says() -> None:
    """Under the null p is uniform: of 60 draws about 3 fall below .05; 9 or more would happen once in 400 times."""
    found = np.array([pvalues(products(planted(0.0, seed)[:, :, :2], NUMBERS)) for seed in range(60)])
    assert (found < 0.05).sum(0).max() < 9
    assert found.min() >= 1 / 2**11


def test_projections_leave_the_judged_topic_out() -> None:
    states, topics = few()
    found = cross_fitted(products(states, topics), np.ones((1, 8)))[0]
    differences = states[:, 0] - states[:, 1]
    for pair, topic in enumerate(topics):
        for layer in range(3):
            vector = differences[topics != topic, layer].mean(0)
            expected = states[pair, :, layer] @ vector / np.linalg.norm(vector)
            assert found[pair, :, layer] == pytest.approx(expected)


def test_the_pvalues_are_the_enumeration_spelled_out() -> None:
    states, topics = few()
    everything = []
    for signs in product((1, -1), repeat=8):
        flipped = states.copy()
        for topic, sign in enumerate(signs):
            if sign < 0:
                flipped[topics == topic] = flipped[topics == topic][:, ::-1]
        scores = np.stack(
            [judged(flipped[:, :, layer], topics, METHODS["mean_difference"]) for layer in range(3)], axis=-1
        )
        spread = np.sqrt(scores.var(0, ddof=1).mean(0))
        d_prime = ((scores[:, 0] - scores[:, 1]).mean(0) / spread).max()
        everything.append((d_prime, max(auc(scores[:, 0, k], scores[:, 1, k]) for k in range(3))))
    reached = np.array(everything) >= np.array(everything[0]) - 1e-9
    assert pvalues(products(states, topics)) == pytest.approx(tuple(reached.mean(0)))


def test_areas_count_pairs() -> None:
    projections = rng(3, "areas").standard_normal((2, 20, 2, 3))
    found = areas(projections)
    for flip, layer in product(range(2), range(3)):
        wins = (projections[flip, :, None, 0, layer] > projections[flip, None, :, 1, layer]).mean()
        assert found[flip, layer] == pytest.approx(wins)
    assert auc(np.array([1.0, 2.0]), np.array([1.0, 0.0])) == pytest.approx(0.875), "ties count half"


def test_a_layer_chosen_for_a_topic_saw_nothing_of_it() -> None:
    """Whatever a topic says, the layers and vectors that judge it stay: only its own scores move."""
    states, topics = few()
    before, layers = nested(products(states, topics))
    changed = states.copy()
    changed[topics == 4] += 10 * rng(5, "change").standard_normal((3, 2, 3, 5))
    after, other = nested(products(changed, topics))
    assert layers[4] == other[4]
    assert not np.allclose(before[topics == 4], after[topics == 4])


def test_the_choice_of_a_layer_is_not_rewarded() -> None:
    """On noise, the best of 12 layers looks good and the nested figure does not (leaving out costs it a little)."""
    looked, honest = [], []
    for seed in range(30):
        found = products(rng(seed, "choice").standard_normal((48, 2, 12, 6)), np.arange(48) // 4)
        looked.append(layer_profile(found).max())
        honest.append(separation(nested(found)[0][..., None])[0])
    assert np.mean(looked) > 0.2
    assert np.mean(honest) < 0.1


def test_a_test_that_could_not_succeed_is_refused() -> None:
    with pytest.raises(CalibrationError, match=r"7 topics cannot reach p < 0\.01: the smallest possible p is 0\.0156"):
        flips(7)
    assert len(flips(8)) == 128
    assert (flips(12)[0] == 1).all()
    many = flips(20, "c")
    assert many.shape == (4097, 20)
    assert (many[0] == 1).all()


def test_activations_that_are_not_finite_are_refused() -> None:
    states = planted(1.0)
    states[3, 1, 2, 0] = np.nan
    with pytest.raises(CalibrationError, match="The activations of contrast set 'c' are not finite"):
        fit("c", {"mean": states}, TOPICS)


def test_a_vector_that_fails_says_why_and_is_refused_by_packs() -> None:
    card, found = fit("noise", {"mean": planted(0.0)}, TOPICS)
    assert not card.valid
    assert any(clause.startswith("topics do not agree on d'") for clause in card.failures)
    subject = Subject("m", shape=None, vectors={"noise": Vector("noise", 0, found.vector, 1.0, card.valid)})  # type: ignore[arg-type]
    with pytest.raises(MissingVector, match="'noise', which failed its validation"):
        subject.vector("noise")


def test_a_vector_that_moves_nothing_more_than_shams_fails() -> None:
    def checked(shift: float) -> Causal:
        shams = tuple(np.linspace(-2, 2, 40))
        above = sum(one >= shift for one in shams)
        return Causal(0.2, shift, (shift,) * 12, shams[:20], shams[20:], (1 + above) / 41)

    assert checked(3.0).passed
    assert not checked(1.0).passed
    assert not Causal(0.2, -3.0, (), (), (), 0.01).passed


@pytest.mark.parametrize("path", sorted((ROOT / "datasets" / "contrast").glob("*.jsonl")), ids=lambda path: path.stem)
def test_every_shipped_set_keeps_the_laws_of_wording(path: Path) -> None:
    pairs = load_contrast(path.parent, path.stem)
    texts = [text for pair in pairs for text in (pair.positive, pair.negative)]
    longest = max(abs(len(words(pair.positive)) - len(words(pair.negative))) for pair in pairs)
    assert len(pairs) >= 120
    assert all(9 <= len(words(text)) <= 22 for text in texts)
    found = Wording(path.stem, len(pairs), 12, longest, distinct_ngrams(texts), parting_word(pairs), 0.5)
    assert faults(found) == []
