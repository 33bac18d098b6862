"""The configuration of a model's language part, and whether the platform can run it, before any weight is read."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from transformers import AutoConfig, PretrainedConfig
from transformers.models.auto.configuration_auto import CONFIG_MAPPING
from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING_NAMES

from neuromod_core.kernel.errors import ModelError
from neuromod_core.models.anatomy import known
from neuromod_core.models.folder import Stored

HEAD = "lm_head."


@dataclass(frozen=True)
class Part:
    """The language model inside a checkpoint that also sees, hears or speaks.

    kind: its architecture.  path: attributes from the checkpoint's configuration to its own.
    names: how its tensors are named there (regular expression of the beginning) and alone.
    """

    kind: str
    path: tuple[str, ...]
    names: Mapping[str, str]


PARTS: Mapping[str, Part] = {
    "gemma3": Part(
        "gemma3_text",
        ("text_config",),
        {
            r"^language_model\.model\.": "model.",
            r"^model\.language_model\.": "model.",
            r"^language_model\.lm_head\.": HEAD,
        },
    ),
    "qwen2_5_omni": Part(
        "qwen2",
        ("thinker_config", "text_config"),
        {r"^thinker\.model\.": "model.", r"^thinker\.lm_head\.": HEAD},
    ),
}
MULTIMODAL_ROPE = "mrope_section"  # for text alone its three axes agree, and it is the common rotary embedding


@dataclass(frozen=True)
class Configured:
    """The configuration of a causal language model, and the names of its tensors in a checkpoint that holds more."""

    config: PretrainedConfig
    names: Mapping[str, str] | None = None

    def own(self, stored: Mapping[str, Stored]) -> Mapping[str, Stored]:
        """Return those of a checkpoint's tensors that belong to the language model."""
        if self.names is None:
            return stored
        return {name: tensor for name, tensor in stored.items() if any(re.match(start, name) for start in self.names)}


def configured(name: str, folder: Path) -> Configured:
    """Return the configuration of the language model in a folder.

    Raises:
        ModelError: without a readable config.json, or for something that is no causal language model.
        UnknownArchitecture: when its anatomy is not known.
    """
    try:
        config = AutoConfig.from_pretrained(folder)
    except (OSError, ValueError, KeyError) as cause:
        raise ModelError(f"Model {name!r}: {folder} has no usable config.json: {_line(cause)}") from cause
    if part := PARTS.get(config.model_type):
        return Configured(_language(config, part), part.names)
    if config.model_type not in MODEL_FOR_CAUSAL_LM_MAPPING_NAMES:
        raise ModelError(f"Model {name!r} ({config.model_type}) is not a causal language model.")
    known(config.model_type)
    return Configured(config)


def _language(config: PretrainedConfig, part: Part) -> PretrainedConfig:
    owner = config
    for step in part.path:
        owner, config = config, getattr(config, step)
    config.tie_word_embeddings = owner.tie_word_embeddings  # who has the unembedding decides whether it is a copy
    if config.model_type == part.kind:
        return config
    body = {key: value for key, value in config.to_dict().items() if key not in ("model_type", "architectures")}
    rope = {key: value for key, value in body["rope_parameters"].items() if key != MULTIMODAL_ROPE}
    body["rope_parameters"] = rope | {"rope_type": "default"}
    made: PretrainedConfig = CONFIG_MAPPING[part.kind](**body)
    return made


def _line(cause: Exception) -> str:
    return " ".join(str(cause).split())[:200]
