"""Calibration: head sets, norms, entropy placebos; what is kept cannot be altered unseen."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from neuromod_core.calibrate import Cache, Request, calibrate, match_entropy
from neuromod_core.calibrate.activations import stream_norms, tokens_of
from neuromod_core.calibrate.contrast import load_contrast
from neuromod_core.calibrate.entropy import entropy_of
from neuromod_core.calibrate.heads import attention_patterns, looks_back, prefix_matching, repeated_tokens
from neuromod_core.effects.sampler.temperature import Temperature
from neuromod_core.kernel.errors import CalibrationError, IntegrityError, UnknownName
from neuromod_core.models import LoadedModel
from tests.conftest import ROOT, subject_of


def test_each_head_set_looks_where_its_name_says() -> None:
    length, width = 5, 11
    for distance in (1, length - 1, length):
        pattern = torch.zeros(1, 1, 2, width, width)
        for query in range(length + 1, width):
            pattern[0, 0, 1, query, query - distance] = 1.0
        assert looks_back(pattern, distance, length)[0, :, 0].tolist() == [0.0, 1.0]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", r"c\.jsonl:1: not JSON"),
        ('{"topic": "t", "positive": "p"}', "has the keys topic, positive, negative"),
        ('{"topic": "t", "positive": "p", "negative": " "}', "none is empty"),
        ('{"topic": "t", "positive": "p", "negative": "p"}', "a sentence occurs twice: 'p'"),
        ('{"topic": "t", "positive": "p", "negative": "n"}', "1 pairs on 1 topics; at least 100 pairs on 12 topics"),
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
    assert cache.read("vector", "f") is None
    cache.write("vector", "f", {"v": np.arange(3, dtype=np.float32)}, {"layer": 4})
    kept = cache.read("vector", "f")
    assert kept is not None
    assert kept[0]["v"].tolist() == [0, 1, 2]
    assert json.dumps(kept[1]) == '{"layer": 4}'
    path = tmp_path / "vector.f.safetensors"
    assert cache.used == {path}
    path.write_bytes(path.read_bytes()[:-1] + b"\x7f")
    with pytest.raises(IntegrityError, match="was altered"):
        cache.read("vector", "f")
    path.write_bytes(b"short")
    with pytest.raises(IntegrityError, match="cannot be read"):
        cache.read("vector", "f")


def test_what_ships_is_read_where_the_cache_has_nothing(tmp_path: Path) -> None:
    Cache(tmp_path / "shipped").write("heads", "f", {"v": np.ones(1, dtype=np.float32)}, {})
    both = Cache(tmp_path / "own", tmp_path / "shipped")
    assert both.find("heads", "f") == tmp_path / "shipped" / "heads.f.safetensors"
    both.write("heads", "f", {"v": np.ones(1, dtype=np.float32)}, {})
    assert both.find("heads", "f") == tmp_path / "own" / "heads.f.safetensors"
    assert both.find("heads", "g") is None


def test_a_fresh_calibration_equals_a_kept_one(llama: LoadedModel, tmp_path: Path) -> None:
    texts = ("A short neutral text about rivers.", "Another one, on the making of bread.")
    request = Request(("visionary",), (), ROOT / "datasets" / "contrast", ROOT / "datasets" / "lexicon", neutral=texts)
    fresh, kept = (calibrate(llama, request, Cache(tmp_path / "cache")) for _ in range(2))
    assert fresh.fingerprint == kept.fingerprint
    assert torch.equal(fresh.induction, kept.induction)
    assert torch.equal(fresh.subject.vectors["visionary"].direction, kept.subject.vectors["visionary"].direction)
