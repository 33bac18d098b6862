"""What a model will need is what it then takes, where it goes is where it fits, and what cannot fit is refused."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from accelerate import dispatch_model

from neuromod_core.engine import score
from neuromod_core.engine.cache import reserve
from neuromod_core.engine.dosed import dosed
from neuromod_core.kernel.errors import ModelError
from neuromod_core.models import TINY, ModelSpec, load, tiny
from neuromod_core.models.folder import Stored, tensors
from neuromod_core.models.formats import Format, format_of, unpacking
from neuromod_core.models.memory import (
    GIB,
    Batch,
    Free,
    Need,
    _container,
    cache_bytes,
    free_memory,
    weight_bytes,
    work_bytes,
)
from neuromod_core.models.placing import Placement, gather, place
from neuromod_core.models.tiny import tiny_config
from tests.conftest import subject_of
from tests.laws.test_effects import RESPONSES, mixed, rows_of
from tests.unit.test_models_files import save

FORMATS = [Format("float32", torch.float32), Format("bfloat16", torch.bfloat16)]
BIG = Need(weights=16 * GIB, cache=5 * GIB, work=GIB)


# ---------------------------------------------------------------------------------------------------------- how much


@pytest.mark.parametrize("format", FORMATS, ids=lambda format: str(format.name))
@pytest.mark.parametrize("architecture", sorted(TINY))
def test_the_weights_are_as_large_as_predicted(architecture: str, format: Format, tmp_path: Path) -> None:
    model = tiny(architecture)
    save(model, tmp_path / "model")
    network = model.network.to(format.dtype)
    taken = sum(parameter.numel() * parameter.element_size() for parameter in network.parameters())
    assert weight_bytes(tensors(tmp_path / "model"), format) == taken


@pytest.mark.parametrize("architecture", sorted(set(TINY) - {"falcon"}))
def test_keys_and_values_are_as_large_as_predicted(architecture: str) -> None:
    model, batch = tiny(architecture), Batch(rows=3, tokens=11)
    tokens = torch.full((batch.rows, batch.tokens), 65)
    cache = reserve(model.depth, batch.tokens)
    with torch.inference_mode():
        model.hidden(tokens, torch.ones_like(tokens), torch.arange(batch.tokens)[None], cache)
    held = [part for layer in cache.layers for part in (layer.keys, layer.values)]
    assert cache_bytes(model.network.config, torch.float32, batch) == sum(x.numel() * x.element_size() for x in held)


def test_one_key_head_for_all_is_never_underestimated() -> None:
    config, batch = tiny_config("falcon"), Batch(rows=1, tokens=1)
    assert cache_bytes(config, torch.float32, batch) >= 2 * config.num_hidden_layers * 8 * 4


def test_need_grows_with_the_batch_the_format_and_the_vocabulary() -> None:
    config = tiny_config("llama")
    assert cache_bytes(config, torch.float32, Batch(2, 7)) == 2 * cache_bytes(config, torch.bfloat16, Batch(2, 7))
    assert cache_bytes(config, torch.float32, Batch(4, 7)) == 2 * cache_bytes(config, torch.float32, Batch(2, 7))
    before = work_bytes(config, torch.float32)
    config.vocab_size *= 2
    assert work_bytes(config, torch.float32) > before


def test_four_bits_take_an_eighth_of_the_matrices_and_all_of_the_rest() -> None:
    stored = {
        "model.embed_tokens.weight": Stored("BF16", (100, 64)),
        "model.layers.0.mlp.up_proj.weight": Stored("BF16", (128, 64)),
        "model.norm.weight": Stored("F32", (64,)),
    }
    kept = 2 * (100 * 64 + 64)
    assert weight_bytes(stored, Format("bfloat16", torch.bfloat16)) == kept + 2 * 128 * 64
    assert weight_bytes(stored, Format("nf4", torch.bfloat16, 4.5)) == kept + 128 * 64 * 4.5 / 8
    assert weight_bytes(stored, Format("int8", torch.bfloat16, 8.0)) == kept + 128 * 64


def test_packed_weights_count_unpacked() -> None:
    stored = {
        "experts.down_proj_blocks": Stored("U8", (4, 8, 2, 16)),
        "experts.down_proj_scales": Stored("U8", (4, 8, 2)),
    }
    assert weight_bytes(stored, Format("bfloat16", torch.bfloat16)) == 4 * 8 * 2 * 32 * 2


@pytest.mark.parametrize(
    ("files", "left"),
    [
        ({}, []),
        ({"memory.max": "max", "memory.current": "5", "memory.stat": ""}, []),
        ({"memory.max": "100", "memory.current": "70", "memory.stat": "anon 3\ninactive_file 20\n"}, [50]),
        ({"memory.max": "100", "memory.current": "170", "memory.stat": "inactive_file 0\n"}, [0]),
        (
            {
                "memory/memory.limit_in_bytes": "100",
                "memory/memory.usage_in_bytes": "70",
                "memory/memory.stat": "inactive_file 1\ntotal_inactive_file 30\n",
            },
            [60],
        ),
    ],
)
def test_the_limit_of_a_container_counts(files: dict[str, str], left: list[int], tmp_path: Path) -> None:
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text + "\n")
    assert _container(tmp_path) == left


def test_this_machine_has_memory() -> None:
    free = free_memory()
    assert free.processor > 2**26
    assert len(free.gpus) == torch.cuda.device_count()


# ------------------------------------------------------------------------------------------------------------- where


def spec(device_map: str = "auto", dtype: str = "auto") -> ModelSpec:
    return ModelSpec("big", "transformers", dtype=dtype, device_map=device_map)


@pytest.mark.parametrize(
    ("device_map", "free", "devices"),
    [
        ("auto", Free(30 * GIB), {"": "cpu"}),
        ("auto", Free(1, (10 * GIB, 24 * GIB)), {"": "cuda:1"}),
        ("auto", Free(1, (12 * GIB, 12 * GIB)), None),
        ("cpu", Free(30 * GIB, (80 * GIB,)), {"": "cpu"}),
        ("cuda", Free(1, (80 * GIB,)), {"": "cuda:0"}),
        ("cuda:1", Free(1, (1, 80 * GIB)), {"": "cuda:1"}),
        ('{"model.embed_tokens": 0, "model.layers": "cuda:1"}', Free(1, (12 * GIB, 12 * GIB)), "as said"),
    ],
)
def test_weights_go_where_they_fit(device_map: str, free: Free, devices: object) -> None:
    if devices == "as said":
        devices = {"model.embed_tokens": "cuda:0", "model.layers": "cuda:1"}
    found = place(spec(device_map), BIG, free)
    assert found.devices == devices
    assert found.spread is (devices is None or len(found.devices or ()) > 1)


@pytest.mark.parametrize(
    ("asked", "free", "said"),
    [
        (
            spec(),
            Free(18 * GIB),
            "needs 16.0 GiB of weights + 5.0 GiB of keys and values + 1.0 GiB of work = 22.0 GiB; free on the "
            "processor: 18.0 GiB. Take a smaller model, a smaller runtime.batch, or a machine with GPUs or more "
            "memory.",
        ),
        (
            spec(dtype="float32"),
            Free(8 * GIB),
            "the processor: 8.0 GiB. Take a smaller model, model.dtype=bfloat16, or a machine with GPUs or more "
            "memory.",
        ),
        (
            spec(),
            Free(99 * GIB, (10 * GIB, 10 * GIB)),
            "all 2 GPUs: 20.0 GiB. Take a smaller model, a smaller runtime.batch, model.dtype=nf4, or more or "
            "larger GPUs.",
        ),
        (spec("cuda:1"), Free(99 * GIB, (80 * GIB, 10 * GIB)), "free on cuda:1: 10.0 GiB"),
        (spec("cuda"), Free(99 * GIB), "is to be placed on cuda:0. Here there is cpu."),
        (spec("cuda:2"), Free(1, (80 * GIB,)), "is to be placed on cuda:2. Here there is cpu, cuda:0."),
        (spec("gpu"), Free(99 * GIB), "device_map 'gpu'. Allowed: auto, cpu, cuda:NUMBER, or module: device pairs."),
        (spec("{model: 0"), Free(99 * GIB), "is not a JSON object"),
        (spec('{"": "disk"}'), Free(99 * GIB), "device_map 'disk'"),
    ],
)
def test_what_cannot_fit_is_refused_with_its_numbers(asked: ModelSpec, free: Free, said: str) -> None:
    with pytest.raises(ModelError) as raised:
        place(asked, BIG, free)
    assert said in str(raised.value)
    assert "'big'" in str(raised.value)


def test_a_model_too_large_is_refused_before_its_weights_are_read(tmp_path: Path) -> None:
    asked = save(tiny("llama"), tmp_path / "model")
    with pytest.raises(ModelError, match=r"'model' does not fit: it needs .*; free on the processor: 1 MiB"):
        load(asked, tmp_path, free=Free(2**20))
    assert not (tmp_path / "digests").exists()
    load(asked, tmp_path, free=Free(2**40), batch=Batch(1, 1))


@pytest.mark.parametrize("architecture", ["gpt2", "mixtral"])
def test_a_model_in_parts_is_dosed_as_one_in_one_piece(architecture: str) -> None:
    """With the hooks of accelerate around every part, here all on the processor."""
    whole, parts = tiny(architecture, seed=3), tiny(architecture, seed=3)
    dispatch_model(parts.network, {"": "cpu"}, force_hooks=True)
    assert gather(parts.network) == torch.device("cpu")
    assert hasattr(parts.blocks[0], "_hf_hook")
    subject, readings = subject_of(whole), []
    rows = rows_of(mixed(subject)[::3])
    for model in (whole, parts):
        with dosed(model, "library") as session:
            readings.append(score(session, rows, RESPONSES, subject))
    assert readings[0] == readings[1]


# ---------------------------------------------------------------------------------------------------------- in what


@pytest.mark.parametrize("dtype", ["int8", "nf4"])
def test_bitsandbytes_is_for_cuda(dtype: str) -> None:
    with pytest.raises(ModelError, match=rf"dtype '{dtype}', which needs a CUDA GPU.*: not here. Here"):
        format_of(spec(dtype=dtype), gpu=False)


def test_a_half_precision_model_is_loaded_as_asked(tmp_path: Path) -> None:
    asked = save(tiny("llama"), tmp_path / "model")
    found = load(ModelSpec("m", "transformers", asked.path, dtype="bfloat16"), tmp_path)
    assert found.dtype == torch.bfloat16
    assert found.fingerprint != load(asked, tmp_path).fingerprint


def test_other_quantised_checkpoints_are_refused(tmp_path: Path) -> None:
    asked = save(tiny("llama"), tmp_path / "model")
    file = tmp_path / "model" / "config.json"
    body = json.loads(file.read_text()) | {"quantization_config": {"quant_method": "gptq", "bits": 4}}
    file.write_text(json.dumps(body))
    with pytest.raises(ModelError, match=r"stored quantised \(gptq\), which is not supported. Take the unquantised"):
        load(asked, tmp_path)
    assert unpacking("plain", tiny_config("llama")) is None


def test_the_argument_for_the_library() -> None:
    assert Placement({"": "cpu"}).argument is None
    assert Placement(None).argument == "auto"
    assert Placement({"": "cuda:1"}).argument == {"": "cuda:1"}
