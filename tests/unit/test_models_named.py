"""The models that `conf/model` names: each composes, is pinned, has a known anatomy, and is as large as it says."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

import httpx
import pytest
import torch
from huggingface_hub import constants, errors
from omegaconf import OmegaConf
from safetensors.torch import save_file
from transformers import AutoModelForCausalLM, PretrainedConfig
from transformers.models.auto.configuration_auto import CONFIG_MAPPING

from flows.settings import Model, settings
from neuromod_core.kernel.errors import ConfigError, ModelError
from neuromod_core.models import ModelSpec, load, tiny
from neuromod_core.models.anatomy import known
from neuromod_core.models.hub import SMALL, fetch, remedy
from neuromod_core.models.memory import Free
from tests.conftest import ROOT
from tests.unit.test_models_files import save

FILES = sorted(path.stem for path in (ROOT / "conf" / "model").glob("*.yaml"))
LLAMA = {"num_key_value_heads": 8, "vocab_size": 128256}
QWEN_7B = {
    "hidden_size": 3584,
    "intermediate_size": 18944,
    "num_hidden_layers": 28,
    "num_attention_heads": 28,
    "num_key_value_heads": 4,
    "vocab_size": 152064,
    "tie_word_embeddings": False,
}
GPT_OSS = {"hidden_size": 2880, "intermediate_size": 2880, "num_attention_heads": 64, "vocab_size": 201088}
GPT_OSS |= {"num_key_value_heads": 8, "head_dim": 64, "num_experts_per_tok": 4}
GEMMA = {"head_dim": 256, "tie_word_embeddings": True}
PUBLISHED: Mapping[str, tuple[str, Mapping[str, object]]] = {
    "gemma-2-9b": (
        "gemma2",
        GEMMA
        | {"hidden_size": 3584, "intermediate_size": 14336, "num_hidden_layers": 42, "num_attention_heads": 16}
        | {"num_key_value_heads": 8, "vocab_size": 256000},
    ),
    "gemma-3-1b": (
        "gemma3_text",
        GEMMA
        | {"hidden_size": 1152, "intermediate_size": 6912, "num_hidden_layers": 26, "num_attention_heads": 4}
        | {"num_key_value_heads": 1, "vocab_size": 262144},
    ),
    "gemma-3-270m": (
        "gemma3_text",
        GEMMA
        | {"hidden_size": 640, "intermediate_size": 2048, "num_hidden_layers": 18, "num_attention_heads": 4}
        | {"num_key_value_heads": 1, "vocab_size": 262144},
    ),
    "gpt-oss-120b": ("gpt_oss", GPT_OSS | {"num_hidden_layers": 36, "num_local_experts": 128}),
    "gpt-oss-20b": ("gpt_oss", GPT_OSS | {"num_hidden_layers": 24, "num_local_experts": 32}),
    "llama-3.1-70b": (
        "llama",
        LLAMA | {"hidden_size": 8192, "intermediate_size": 28672, "num_hidden_layers": 80, "num_attention_heads": 64},
    ),
    "llama-3.1-8b": (
        "llama",
        LLAMA | {"hidden_size": 4096, "intermediate_size": 14336, "num_hidden_layers": 32, "num_attention_heads": 32},
    ),
    "mixtral-8x22b": (
        "mixtral",
        {"hidden_size": 6144, "intermediate_size": 16384, "num_hidden_layers": 56, "num_attention_heads": 48}
        | {"num_key_value_heads": 8, "vocab_size": 32768, "num_local_experts": 8, "num_experts_per_tok": 2},
    ),
    "qwen2.5-0.5b": (
        "qwen2",
        {"hidden_size": 896, "intermediate_size": 4864, "num_hidden_layers": 24, "num_attention_heads": 14}
        | {"num_key_value_heads": 2, "vocab_size": 151936, "tie_word_embeddings": True},
    ),
    "qwen2.5-7b": ("qwen2", QWEN_7B),
    "qwen2.5-omni-7b": ("qwen2", QWEN_7B),
}


@pytest.mark.parametrize("name", FILES)
def test_every_model_is_named_and_pinned(name: str) -> None:
    body = OmegaConf.to_container(OmegaConf.load(ROOT / "conf" / "model" / f"{name}.yaml"))
    found = ModelSpec(**Model.model_validate(body).model_dump())
    assert found.name == name
    assert found.source == ("embedded" if name == "smollm2-135m" else "tiny" if "tiny" in name else "transformers")
    if found.source == "transformers" and name != "local":
        assert re.fullmatch(r"[\w.-]+/[\w.-]+", found.path or "")
        assert re.fullmatch(r"[0-9a-f]{40}", found.revision or ""), "a branch may move; a commit does not"
        assert name in PUBLISHED
    if found.source == "tiny":
        assert known(found.path or "")


@pytest.mark.parametrize("name", ["gpt-oss-20b", "local", "smollm2-135m", "tiny-llama"])
def test_a_model_composes(name: str) -> None:
    assert settings([f"model={name}"]).config().model.name == name


def billions(kind: str, sizes: Mapping[str, object]) -> float:
    """The parameters of a model of these published sizes, from those with one and two blocks; no memory is taken."""

    def parameters(depth: int) -> int:
        config: PretrainedConfig = CONFIG_MAPPING[kind](**sizes | {"num_hidden_layers": depth})
        with torch.device("meta"):
            network = AutoModelForCausalLM.from_config(config)
        return sum(parameter.numel() for parameter in network.parameters())

    one, two = parameters(1), parameters(2)
    return (one + (int(str(sizes["num_hidden_layers"])) - 1) * (two - one)) / 1e9


@pytest.mark.parametrize("name", sorted(PUBLISHED))
def test_a_model_is_as_large_as_its_file_says(name: str) -> None:
    kind, sizes = PUBLISHED[name]
    assert known(kind)
    text = (ROOT / "conf" / "model" / f"{name}.yaml").read_text(encoding="utf-8")
    (said,) = re.findall(r"([\d.]+) GiB", text)
    digits = len(said.partition(".")[2])
    assert f"{billions(kind, sizes) * 2e9 / 2**30:.{digits}f}" == said


def test_a_map_of_devices_is_read_from_the_command_line() -> None:
    given = "model.device_map={model.layers: cuda:1, model.embed_tokens: 0}"
    assert settings(["model=tiny-llama", given]).config().model.device_map == (
        '{"model.embed_tokens": 0, "model.layers": "cuda:1"}'
    )
    with pytest.raises(ConfigError, match=r"model\.device_map"):
        settings(["model=tiny-llama", "model.device_map=3"])


# ---------------------------------------------------------------------------------------------------- parts of others


def gemma_that_sees() -> torch.nn.Module:
    from transformers import Gemma3Config, Gemma3ForConditionalGeneration

    text = tiny("gemma3_text").network.config.to_dict()
    vision = {"hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2}
    vision |= {"image_size": 28, "patch_size": 14}
    return Gemma3ForConditionalGeneration(Gemma3Config(text_config=text, vision_config=vision, mm_tokens_per_image=4))


def test_the_language_part_of_a_model_that_sees(tmp_path: Path) -> None:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(1)
        whole = gemma_that_sees().eval()
    whole.save_pretrained(tmp_path / "model")  # type: ignore[operator]
    tiny("gemma3_text").tokenizer.save_pretrained(tmp_path / "model")
    tokens = torch.arange(60, 80)[None]
    found = load(ModelSpec("m", "transformers", str(tmp_path / "model"), dtype="float32"), tmp_path)
    with torch.inference_mode():
        assert torch.equal(found.network(tokens).logits, whole(input_ids=tokens).logits)
    assert found.network.config.model_type == "gemma3_text"


def test_the_language_part_of_a_model_that_hears_and_speaks(tmp_path: Path) -> None:
    from transformers import Qwen2_5OmniConfig, Qwen2_5OmniThinkerConfig, Qwen2_5OmniThinkerForConditionalGeneration

    kept = ("vocab_size", "hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads")
    own = tiny("qwen2").network.config
    text = {key: getattr(own, key) for key in (*kept, "num_key_value_heads", "pad_token_id", "eos_token_id")}
    text |= {"rope_scaling": {"mrope_section": [1, 1, 2], "type": "default", "rope_type": "default"}}
    sight = {"depth": 1, "hidden_size": 16, "num_heads": 2, "intermediate_size": 16, "out_hidden_size": 32}
    sound = {"d_model": 16, "encoder_layers": 1, "encoder_attention_heads": 2, "encoder_ffn_dim": 16, "output_dim": 32}
    config = Qwen2_5OmniThinkerConfig(
        text_config=text | {"tie_word_embeddings": False}, vision_config=sight, audio_config=sound
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(1)
        whole = Qwen2_5OmniThinkerForConditionalGeneration(config).eval()
    folder = tmp_path / "model"
    Qwen2_5OmniConfig(thinker_config=config.to_dict()).save_pretrained(folder)
    tiny("qwen2").tokenizer.save_pretrained(folder)
    weights = {
        f"thinker.{name.replace('model.language_model.', 'model.')}": value.contiguous()
        for name, value in whole.state_dict().items()
    }
    save_file(weights | {"talker.model.norm.weight": torch.ones(3)}, folder / "model.safetensors", {"format": "pt"})
    tokens = torch.arange(60, 80)[None]
    found = load(ModelSpec("m", "transformers", str(folder), dtype="float32"), tmp_path)
    with torch.inference_mode():
        expected = whole(input_ids=tokens, position_ids=torch.arange(20).expand(3, 1, -1)).logits
        assert torch.allclose(found.network(tokens).logits, expected, atol=1e-5)
    assert found.network.config.model_type == "qwen2"


def test_weights_packed_in_four_bits_are_unpacked(tmp_path: Path) -> None:
    """As gpt-oss is published: blocks of 32 weights, a byte for two, and an exponent for each block."""
    model = tiny("gpt_oss")
    spec = save(model, tmp_path / "model")
    stored = {name: value.contiguous() for name, value in model.network.state_dict().items()}
    codes = torch.Generator().manual_seed(3)
    for layer in range(2):
        for part, rows, columns in (("gate_up_proj", 128, 32), ("down_proj", 32, 64)):
            stored.pop(f"model.layers.{layer}.mlp.experts.{part}")
            shape = (4, rows, columns // 32)
            name = f"model.layers.{layer}.mlp.experts.{part}"
            stored[f"{name}_blocks"] = torch.randint(0, 256, (*shape, 16), dtype=torch.uint8, generator=codes)
            stored[f"{name}_scales"] = torch.full(shape, 125, dtype=torch.uint8)
    save_file(stored, tmp_path / "model" / "model.safetensors", {"format": "pt"})
    model.network.config.quantization_config = {"quant_method": "mxfp4", "modules_to_not_convert": []}
    model.network.config.save_pretrained(tmp_path / "model")
    found = load(ModelSpec("m", "transformers", spec.path, dtype="bfloat16"), tmp_path)
    experts = found.blocks[0].get_submodule("mlp.experts")
    weights = experts.get_parameter("down_proj").float() * 4
    assert set(weights.unique().tolist()) <= {sign * size for size in (0, 0.5, 1, 1.5, 2, 3, 4, 6) for sign in (1, -1)}
    assert len(weights.unique()) == 15
    assert bool(found.network(torch.arange(60, 80)[None]).logits.isfinite().all())


# -------------------------------------------------------------------------------------------------------------- the hub

SPEC = ModelSpec("big", "transformers", "owner/big", revision="1" * 40)


def answer(status: int) -> httpx.Response:
    return httpx.Response(status, request=httpx.Request("GET", "http://hub/owner/big"))


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (errors.GatedRepoError("403", response=answer(403)), "owner/big is gated. Accept its licence .* HF_TOKEN"),
        (errors.RepositoryNotFoundError("404", response=answer(404)), "'owner/big' is neither a folder nor a model"),
        (errors.HFValidationError("bad id"), "'owner/big' is neither a folder nor a model"),
        (errors.RevisionNotFoundError("404", response=answer(404)), f"has no revision '{'1' * 40}'"),
        (errors.LocalEntryNotFoundError("none"), f"HF_HUB_OFFLINE=0 hf download owner/big --revision {'1' * 40}"),
        (errors.OfflineModeIsEnabled("off"), "is not in the hub's cache"),
        (
            errors.HfHubHTTPError("500\nserver error", response=answer(500)),
            "the hub did not give owner/big: 500 server",
        ),
        (OSError("disk is full"), "the hub did not give owner/big: disk is full"),
    ],
    ids=lambda value: type(value).__name__,
)
def test_what_to_do_about_the_hub_is_one_line(error: Exception, said: str) -> None:
    found = remedy(SPEC, error)
    assert re.search(said, found)
    assert "\n" not in found


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A cache of the hub, offline, laid out as the hub's client does: references and snapshots by commit."""
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    home = tmp_path / "hub" / "models--owner--big"
    (home / "refs").mkdir(parents=True)
    (home / "refs" / "main").write_text("1" * 40)
    save(tiny("llama", seed=4), home / "snapshots" / ("1" * 40), shard="20KB")
    return home


@pytest.mark.parametrize("revision", [None, "main", "1" * 40])
def test_the_hubs_cache_serves_offline(revision: str | None, hub: Path, tmp_path: Path) -> None:
    found = load(ModelSpec("big", "transformers", "owner/big", revision=revision, dtype="float32"), tmp_path)
    assert torch.equal(found.word_vectors(), tiny("llama", seed=4).word_vectors())


def test_offline_without_a_copy_says_how_to_get_one(hub: Path, tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="owner/other is not in the hub's cache"):
        load(ModelSpec("big", "transformers", "owner/other"), tmp_path)
    with pytest.raises(ModelError, match="--revision 2222222222222222222222222222222222222222"):
        fetch(ModelSpec("big", "transformers", "owner/big", revision="2" * 40), SMALL)


def test_a_model_of_the_hub_that_cannot_fit_is_refused_before_its_weights_are_fetched(
    hub: Path, tmp_path: Path
) -> None:
    for file in hub.glob("snapshots/*/*.safetensors"):
        file.unlink()
    with pytest.raises(ModelError, match="'big' does not fit"):
        load(SPEC, tmp_path, free=Free(2**20))
    with pytest.raises(ModelError, match="lacks model-00001-of"):
        load(SPEC, tmp_path)
