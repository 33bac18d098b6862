"""Models in folders: what is read is what was saved, and what cannot be read is refused in one line that helps."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers.utils import logging

from neuromod_core.kernel.errors import ModelError, UnknownArchitecture
from neuromod_core.kernel.types import digest, file_digest
from neuromod_core.models import TINY, LoadedModel, ModelSpec, load, tiny
from neuromod_core.models.folder import INDEX, SINGLE, tensors, weights_digest

PROMPT = torch.tensor([[72, 101, 108, 108, 111, 44, 32, 119]])


@pytest.fixture(autouse=True)
def _no_bars() -> Iterator[None]:
    logging.disable_progress_bar()
    yield
    logging.enable_progress_bar()


def save(model: LoadedModel, folder: Path, shard: str = "1GB") -> ModelSpec:
    """Save a model as others find it on the hub."""
    model.network.save_pretrained(folder, max_shard_size=shard)
    model.tokenizer.save_pretrained(folder)
    return ModelSpec(folder.name, "transformers", str(folder), dtype="float32")


def logits(model: LoadedModel) -> torch.Tensor:
    with torch.inference_mode():
        found: torch.Tensor = model.network(PROMPT).logits
    return found


@pytest.mark.parametrize("architecture", sorted(TINY))
def test_what_is_loaded_is_what_was_saved(architecture: str, tmp_path: Path) -> None:
    saved = tiny(architecture, seed=5)
    spec = save(saved, tmp_path / "model")
    found = load(spec, tmp_path)
    assert torch.equal(logits(found), logits(saved))
    assert found.stop_tokens == saved.stop_tokens
    assert found.encode("Hello, world") == saved.encode("Hello, world")
    assert found.anatomy == saved.anatomy
    assert not any(parameter.requires_grad for parameter in found.network.parameters())
    assert load(spec, tmp_path).fingerprint == found.fingerprint


def test_shards_are_one_model(tmp_path: Path) -> None:
    model = tiny("llama", seed=5)
    whole, parts = save(model, tmp_path / "whole"), save(model, tmp_path / "parts", shard="20KB")
    files = sorted((tmp_path / "parts").glob("*.safetensors"))
    assert len(files) > 2
    found = load(parts, tmp_path)
    assert torch.equal(logits(found), logits(load(whole, tmp_path)))
    assert found.weights_sha256 == digest([file_digest(file) for file in files])
    assert tensors(tmp_path / "parts") == tensors(tmp_path / "whole")


def test_weights_beside_those_that_the_index_names_are_none_of_ours(tmp_path: Path) -> None:
    spec = save(tiny("llama", seed=5), tmp_path / "parts", shard="20KB")
    before = load(spec, tmp_path).weights_sha256
    save_file({"other": torch.zeros(3)}, tmp_path / "parts" / "consolidated.safetensors")
    assert load(spec, tmp_path).weights_sha256 == before


def test_a_missing_shard_is_named(tmp_path: Path) -> None:
    spec = save(tiny("llama"), tmp_path / "model", shard="20KB")
    gone = sorted((tmp_path / "model").glob("*.safetensors"))[1]
    gone.unlink()
    with pytest.raises(ModelError, match=rf"lacks {gone.name}, named by its {INDEX}: 1 of"):
        load(spec, tmp_path)


def truncate(file: Path) -> None:
    file.write_bytes(file.read_bytes()[:-100])


def cut_header(file: Path) -> None:
    file.write_bytes(file.read_bytes()[:50])


def empty(file: Path) -> None:
    file.write_bytes(b"")


def point(file: Path) -> None:
    file.write_text("version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 9\n")


def other_format(file: Path) -> None:
    file.rename(file.with_name("pytorch_model.bin"))


def lose_a_tensor(file: Path) -> None:
    kept = load_file(file)
    kept.pop("model.norm.weight")
    save_file(kept, file, metadata={"format": "pt"})


def misshape_a_tensor(file: Path) -> None:
    kept = load_file(file)
    kept["model.norm.weight"] = torch.ones(7)
    save_file(kept, file, metadata={"format": "pt"})


def lose_the_tokenizer(file: Path) -> None:
    for other in file.parent.glob("tokenizer*"):
        other.unlink()


def lose_the_configuration(file: Path) -> None:
    (file.parent / "config.json").unlink()


DAMAGE = {
    truncate: r"model\.safetensors has \d+ bytes and its header says \d+: it is truncated or damaged",
    cut_header: "is not a safetensors file, or is truncated within its header",
    empty: "is not a safetensors file, or is truncated within its header",
    point: "is a pointer of git-lfs, not the weights: run `git lfs pull`",
    other_format: rf"holds no \.safetensors weights \(it holds pytorch_model\.bin\): {SINGLE} or {INDEX} is needed",
    lose_a_tensor: r"do not fill a llama model: 1 tensors are missing or misshapen, the first is model\.norm\.weight",
    misshape_a_tensor: "do not fill a llama model: 1 tensors are missing or misshapen",
    lose_the_tokenizer: "holds no tokenizer",
    lose_the_configuration: r"has no usable config\.json",
}


@pytest.mark.parametrize("damage", DAMAGE, ids=lambda damage: str(damage.__name__))
@pytest.mark.filterwarnings("ignore")
def test_damage_is_said_in_one_line(damage: object, tmp_path: Path) -> None:
    spec = save(tiny("llama"), tmp_path / "model")
    assert callable(damage)
    damage(tmp_path / "model" / SINGLE)
    with pytest.raises(ModelError, match=DAMAGE[damage]) as raised:  # type: ignore[index]
        load(spec, tmp_path)
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize("text", ["{", "{}", '{"weight_map": {}}'])
def test_a_damaged_index_is_named(text: str, tmp_path: Path) -> None:
    spec = save(tiny("llama"), tmp_path / "model", shard="20KB")
    (tmp_path / "model" / INDEX).write_text(text)
    with pytest.raises(ModelError, match=INDEX):
        load(spec, tmp_path)


def test_weights_of_another_digest_are_refused(tmp_path: Path) -> None:
    spec = save(tiny("llama"), tmp_path / "model")
    found = load(spec, tmp_path).weights_sha256
    assert load(dataclasses.replace(spec, sha256=found), tmp_path).weights_sha256 == found
    with pytest.raises(ModelError, match=f"its weights have sha256 {found}, expected {'0' * 64}"):
        load(dataclasses.replace(spec, sha256="0" * 64), tmp_path)


def test_a_digest_is_kept_for_one_version_of_a_file(tmp_path: Path) -> None:
    save(tiny("llama"), tmp_path / "model")
    file, kept = tmp_path / "model" / SINGLE, tmp_path / "digests"
    first = weights_digest(tmp_path / "model", kept)
    assert first == weights_digest(tmp_path / "model", kept) == file_digest(file)
    assert len(list(kept.iterdir())) == 1
    data = bytearray(file.read_bytes())
    data[-1] ^= 1
    file.write_bytes(data)
    assert weights_digest(tmp_path / "model", kept) == file_digest(file) != first
    for note in kept.iterdir():
        note.write_text("half")  # a process died while writing it
    assert weights_digest(tmp_path / "model", kept) == file_digest(file)


def test_an_unknown_architecture_is_refused_before_any_weight_is_read(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "bloom"}))
    with pytest.raises(UnknownArchitecture, match=r"anatomy of 'bloom' models is not known. Known: falcon, gemma2"):
        load(ModelSpec("x", "transformers", str(tmp_path)), tmp_path)


def test_what_writes_no_text_is_refused(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "vit"}))
    with pytest.raises(ModelError, match=r"'x' \(vit\) is not a causal language model"):
        load(ModelSpec("x", "transformers", str(tmp_path)), tmp_path)


@pytest.mark.parametrize(
    ("spec", "said"),
    [
        (ModelSpec("x", "nowhere"), "has source 'nowhere'. Allowed: embedded, tiny, transformers"),
        (ModelSpec("x", "transformers"), "names no path. Give a hub id or a folder"),
        (ModelSpec("x", "transformers", dtype="int4"), "dtype 'int4'. Allowed: auto, bfloat16, float16, float32, int8"),
    ],
)
def test_a_spec_that_makes_no_sense_is_refused(spec: ModelSpec, said: str, tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=said):
        load(spec, tmp_path)
