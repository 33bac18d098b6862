"""The same code on a GPU: what is read and written there is what is read and written here, within rounding.

Skips without one. Nothing here is about speed.
"""

from __future__ import annotations

import dataclasses

import pytest
import torch
from accelerate import dispatch_model

from neuromod_core.engine import Row, best_path, dosed, generate, score
from neuromod_core.engine.dosed import Path
from neuromod_core.models import LoadedModel, tiny
from neuromod_core.models.placing import gather
from tests.conftest import subject_of
from tests.laws.test_effects import NONE, RESPONSES, differing, mixed, pack_of, rows_of

needs_gpu = pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU on this machine")
TOLERANCE = 5e-3  # nats over a response: float32, other kernels


def moved(architecture: str, dtype: torch.dtype) -> LoadedModel:
    model = tiny(architecture, seed=3)
    return dataclasses.replace(model, network=model.network.to("cuda", dtype))


def read(model: LoadedModel, rows: list[Row], path: Path) -> torch.Tensor:
    with dosed(model, path) as session:
        scored = score(session, rows, RESPONSES, subject_of(model))
    return torch.tensor([[[cell.raw, cell.expressed] for cell in line] for line in scored], dtype=torch.float64)


@needs_gpu
@pytest.mark.parametrize("architecture", ["llama", "qwen3", "gemma2", "gpt2", "mixtral"])
def test_a_gpu_reads_what_a_processor_reads(architecture: str) -> None:
    here, there = tiny(architecture, seed=3), moved(architecture, torch.float32)
    rows = rows_of(mixed(subject_of(here)))
    assert not differing(read(here, rows, "library"), read(there, rows, best_path(there)), rows, TOLERANCE)


@needs_gpu
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_every_effect_runs_in_half_precision(dtype: torch.dtype) -> None:
    model = moved("llama", dtype)
    rows = rows_of(mixed(subject_of(model)))
    for path in ("library", "fused"):
        assert not bool(read(model, rows, path).isnan().any())


@needs_gpu
def test_a_gpu_writes_through_refilled_slots() -> None:
    model = moved("llama", torch.float32)
    rows = rows_of(mixed(subject_of(model)))
    with dosed(model, "fused") as session:
        written = generate(session, rows, subject_of(model), tokens=8, slots=7)
    assert all(0 < len(text.tokens) <= 8 for text in written)


@pytest.mark.skipif(torch.cuda.device_count() < 2, reason="fewer than two GPUs on this machine")
def test_weights_on_two_gpus_read_and_steer_as_on_one() -> None:
    one, two = moved("llama", torch.float32), tiny("llama", seed=3)
    first = {"model.embed_tokens": 0, "model.rotary_emb": 0, "model.layers.0": 0}
    dispatch_model(two.network, {**first, "model.layers.1": 1, "model.norm": 1, "lm_head": 1})
    two = dataclasses.replace(two, home=gather(two.network))
    rows = rows_of([pack_of(name, 0.5) for name in ("steering", "temperature", "top_p")] + [NONE])
    assert not differing(read(one, rows, "library"), read(two, rows, "library"), rows, TOLERANCE)


@pytest.mark.parametrize("path", ["library", "fused"])
def test_every_effect_runs_in_bfloat16_here(path: Path) -> None:
    model = tiny("llama", seed=3)
    model = dataclasses.replace(model, network=model.network.to(torch.bfloat16))
    rows = rows_of(mixed(subject_of(model)))
    found = read(model, rows, path)
    assert not bool(found.isnan().any())
    undosed = read(model, rows[-2:], path)
    assert not differing(found[-2:], undosed, rows[-2:], 1.0)
