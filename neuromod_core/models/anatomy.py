"""The one table that says where the parts of a model are. Everything else asks it."""

from __future__ import annotations

from dataclasses import dataclass

from torch import nn
from transformers import PreTrainedModel

from neuromod_core.kernel.errors import UnknownArchitecture


@dataclass(frozen=True)
class Anatomy:
    """Where a causal language model of one architecture keeps its parts (dotted paths from the model's root).

    blocks: the list of decoder blocks; the residual stream is their output (a tensor, or the first of a tuple).
    embedding: the module whose output enters the first block before position information, if that is separate.
    head: the unembedding, from the last hidden state to logits.
    router: path inside a block to the expert router, None for dense models.
    """

    blocks: str
    embedding: str
    head: str
    router: str | None = None

    def find(self, model: PreTrainedModel, part: str) -> nn.Module:
        """Return the module at the path this anatomy gives for `part` ("blocks", "embedding" or "head")."""
        paths = {"blocks": self.blocks, "embedding": self.embedding, "head": self.head}
        module: nn.Module = model.get_submodule(paths[part])
        return module


_LLAMA_LIKE = Anatomy("model.layers", "model.embed_tokens", "lm_head")

ANATOMIES: dict[str, Anatomy] = {
    "gpt2": Anatomy("transformer.h", "transformer.wte", "lm_head"),
    "llama": _LLAMA_LIKE,
    "mistral": _LLAMA_LIKE,
    "mixtral": Anatomy("model.layers", "model.embed_tokens", "lm_head", router="mlp.gate"),
    "qwen2": _LLAMA_LIKE,
    "qwen3": _LLAMA_LIKE,
}


def anatomy(model: PreTrainedModel) -> Anatomy:
    """Return the anatomy of `model`.

    Raises:
        UnknownArchitecture: when its `model_type` is not in the table; the message lists those that are.
    """
    kind = model.config.model_type
    if kind not in ANATOMIES:
        raise UnknownArchitecture(
            f"The anatomy of {kind!r} models is not known. Known: {', '.join(sorted(ANATOMIES))}. "
            "(neuromod_core/models/anatomy.py has one row per architecture)"
        )
    return ANATOMIES[kind]
