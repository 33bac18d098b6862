"""Calibration: vectors are judged on topics they were not made from; what is kept cannot be altered unseen."""

from __future__ import annotations

import json
from itertools import product
from pathlib import Path

import numpy as np
import pytest
import torch

from neuromod_core.calibrate import Cache, Request, calibrate, match_entropy
from neuromod_core.calibrate.activations import stream_norms, tokens_of
from neuromod_core.calibrate.contrast import load_contrast
from neuromod_core.calibrate.entropy import entropy_of
from neuromod_core.calibrate.heads import attention_patterns, looks_back, prefix_matching, repeated_tokens
from neuromod_core.calibrate.vectors import SHUFFLES, fit, sign_vectors, topic_pvalue
from neuromod_core.effects.sampler.temperature import Temperature
from neuromod_core.kernel.errors import CalibrationError, IntegrityError, UnknownName
from neuromod_core.kernel.rng import rng
from neuromod_core.models import LoadedModel
from tests.conftest import ROOT, subject_of

CONCEPTS = sorted(path.stem for path in (ROOT / "datasets" / "contrast").glob("*.jsonl"))
TOPICS = [f"topic{i // 6:02d}" for i in range(72)]


def planted(strength: float, seed: int = 0) -> np.ndarray:
    """Activations (pairs, 2, layers, width) with a concept planted in layer 5 of 10."""
    draw = rng(seed, "planted")
    states = draw.standard_normal((72, 2, 10, 16))
    states[:, 0, 5] += strength * np.eye(16)[3]
    return states


def test_a_planted_concept_is_found_where_it_is() -> None:
    card, found = fit("c", planted(3.0), TOPICS)
    assert card.layer == 5
    assert found.vector[3] > 0.9
    assert np.linalg.norm(found.vector) == pytest.approx(1)
    assert found.midpoint == pytest.approx(1.5, abs=0.3), "halfway between the poles at 0 and 3"
    assert card.valid
    assert card.pvalue == pytest.approx(2 / 2**12)
    assert card.auc > 0.95


def test_the_sign_is_that_of_the_positive_pole() -> None:
    states = planted(3.0)
    _, forward = fit("c", states, TOPICS)
    _, backward = fit("c", states[:, ::-1].copy(), TOPICS)
    assert forward.vector == pytest.approx(-backward.vector)


def test_label_shuffled_vectors_have_the_size_and_not_the_concept() -> None:
    _, found = fit("c", planted(3.0), TOPICS)
    assert np.linalg.norm(found.shuffled, axis=-1) == pytest.approx(np.ones(SHUFFLES))
    assert abs((found.shuffled @ found.vector).mean()) < 0.4
    assert len(np.unique(found.shuffled.round(6), axis=0)) == SHUFFLES


def test_each_head_set_looks_where_its_name_says() -> None:
    length, width = 5, 11
    for distance in (1, length - 1, length):
        pattern = torch.zeros(1, 1, 2, width, width)
        for query in range(length + 1, width):
            pattern[0, 0, 1, query, query - distance] = 1.0
        assert looks_back(pattern, distance, length)[0, :, 0].tolist() == [0.0, 1.0]


def test_noise_is_valid_as_rarely_as_it_says() -> None:
    """Under the null p is uniform: of 60 draws about 3 fall below .05; 9 or more would happen once in 400 times."""
    pvalues = [fit("c", planted(0.0, seed), TOPICS)[0].pvalue for seed in range(60)]
    assert sum(p < 0.05 for p in pvalues) < 9
    assert min(pvalues) >= 2 / 2**12


def test_the_topic_pvalue_is_the_enumeration_spelled_out() -> None:
    sums = rng(1, "sums").standard_normal((8, 3, 5))

    def statistic(signs: tuple[int, ...]) -> float:
        values = []
        for layer in range(3):
            total = sum(
                signs[a] * signs[b] * float(sums[a, layer] @ sums[b, layer])
                for a in range(8)
                for b in range(8)
                if a != b
            )
            values.append(total / sum(float(sums[a, layer] @ sums[a, layer]) for a in range(8)))
        return max(values)

    everything = [statistic(signs) for signs in product((1, -1), repeat=8)]
    expected = np.mean(np.array(everything) >= statistic((1,) * 8) - 1e-12)
    assert topic_pvalue(sums) == pytest.approx(expected)


def test_a_test_that_could_not_succeed_is_refused() -> None:
    with pytest.raises(CalibrationError, match=r"7 topics cannot reach p < 0\.01"):
        topic_pvalue(np.ones((7, 1, 2)))
    assert len(sign_vectors(3)) == 8
    assert (sign_vectors(3)[0] == 1).all()


@pytest.mark.parametrize("concept", CONCEPTS)
def test_contrast_sets_keep_their_rules(concept: str) -> None:
    pairs = load_contrast(ROOT / "datasets" / "contrast", concept)
    assert len(pairs) >= 60
    assert len({pair.topic for pair in pairs}) >= 12
    lengths = [abs(len(pair.positive.split()) - len(pair.negative.split())) for pair in pairs]
    assert max(lengths) <= 2


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", r"c\.jsonl:1: not JSON"),
        ('{"topic": "t", "positive": "p"}', "has the keys topic, positive, negative"),
        ('{"topic": "t", "positive": "p", "negative": " "}', "none is empty"),
        ('{"topic": "t", "positive": "p", "negative": "p"}', "a sentence occurs twice: 'p'"),
        ('{"topic": "t", "positive": "p", "negative": "n"}', "1 pairs on 1 topics; at least 60 pairs on 12 topics"),
    ],
)
def test_a_bad_contrast_set_is_one_clear_line(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "c.jsonl").write_text(text)
    with pytest.raises(CalibrationError, match=message):
        load_contrast(tmp_path, "c")


def test_an_unknown_contrast_set_suggests_the_nearest(tmp_path: Path) -> None:
    (tmp_path / "visionary.jsonl").write_text("")
    with pytest.raises(UnknownName, match="Did you mean 'visionary'"):
        load_contrast(tmp_path, "visonary")


def test_prefix_matching_scores_a_perfect_induction_head_one() -> None:
    length, width = 5, 11
    pattern = torch.zeros(1, 2, 3, width, width)
    for query in range(length + 1, width):
        pattern[0, :, 1, query, query - (length - 1)] = 1.0
    scores = prefix_matching(pattern, length)
    assert scores.shape == (1, 3, 2)
    assert scores[0, 1].tolist() == [1.0, 1.0]
    assert scores[0, [0, 2]].abs().max() == 0


def test_attention_patterns_are_distributions_and_leave_no_trace(model: LoadedModel) -> None:
    before = model.network.config._attn_implementation
    patterns = attention_patterns(model, repeated_tokens(model)[:2])
    assert patterns.shape[:3] == (model.depth, 2, model.heads)
    total = patterns.sum(-1)
    if model.network.config.model_type == "gpt_oss":
        assert bool((total < 1).all()), "the sink, which is no key, takes a share"
    else:
        assert total == pytest.approx(torch.ones(total.shape).numpy(), abs=1e-4)
    assert model.network.config._attn_implementation == before


def test_stream_norms_are_the_medians_without_token_zero(llama: LoadedModel) -> None:
    texts = [tokens_of(llama, "a short text"), tokens_of(llama, "another, somewhat longer text")]
    norms = stream_norms(llama, texts)
    alone = []
    for text in texts:
        with torch.inference_mode():
            states = llama.network(torch.tensor([text]), output_hidden_states=True).hidden_states
        alone.append(states[1][0, 1:].norm(dim=-1))
    assert norms[0] == pytest.approx(float(torch.cat(alone).median()), rel=1e-4)


def test_the_matched_temperature_has_the_entropy_asked_for(llama: LoadedModel) -> None:
    logits = 2 * torch.randn(40, 260, generator=torch.Generator().manual_seed(1))
    target = entropy_of(Temperature().edit(logits, torch.full((40,), 0.37), None))  # type: ignore[arg-type]
    dose = match_entropy(logits, target, subject_of(llama))
    assert dose == pytest.approx(0.37, abs=2e-3)
    with pytest.raises(CalibrationError, match=r"No temperature gives a mean entropy of 99\.000 nats"):
        match_entropy(logits, 99.0, subject_of(llama))


def test_what_is_kept_comes_back_and_cannot_be_altered(tmp_path: Path) -> None:
    cache = Cache(tmp_path)
    assert cache.read("f") is None
    cache.write("f", {"v": np.arange(3, dtype=np.float32)}, {"layer": 4})
    kept = cache.read("f")
    assert kept is not None
    assert kept[0]["v"].tolist() == [0, 1, 2]
    assert json.dumps(kept[1]) == '{"layer": 4}'
    path = tmp_path / "f.calibration"
    path.write_bytes(path.read_bytes()[:-1] + b"\x7f")
    with pytest.raises(IntegrityError, match="was altered"):
        cache.read("f")


def test_a_fresh_calibration_equals_a_kept_one(llama: LoadedModel, tmp_path: Path) -> None:
    texts = ("A short neutral text about rivers.", "Another one, on the making of bread.")
    request = Request(("visionary",), (), ROOT / "datasets" / "contrast", ROOT / "datasets" / "lexicon", neutral=texts)
    fresh, kept = (calibrate(llama, request, Cache(tmp_path / "cache")) for _ in range(2))
    assert fresh.fingerprint == kept.fingerprint
    assert torch.equal(fresh.induction, kept.induction)
    assert torch.equal(fresh.subject.vectors["visionary"].direction, kept.subject.vectors["visionary"].direction)
