"""The one table that says where the parts of a model are. Everything else asks it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from torch import nn
from transformers import PreTrainedModel

from neuromod_core.kernel.errors import UnknownArchitecture

Part = Literal["blocks", "embedding", "norm", "head"]


@dataclass(frozen=True)
class Anatomy:
    """Where a causal language model of one architecture keeps its parts (dotted paths from the model's root).

    blocks: the list of decoder blocks; the residual stream is their output (a tensor, or the first of a tuple).
    embedding: the module whose output enters the first block before position information, if that is separate.
    norm: the last norm, between the residual stream and the unembedding.
    head: the unembedding, from the last hidden state to logits.
    router: path inside a block to the expert router, None for dense models.
    attention: whether its attention goes through the attention interface, so that scores are within reach.
    fused: whether the fast forward pass knows its block (RMS norms, rotary embedding, gated MLP).
    """

    blocks: str
    embedding: str
    norm: str
    head: str = "lm_head"
    router: str | None = None
    attention: bool = True
    fused: bool = False

    def find(self, model: PreTrainedModel, part: Part) -> nn.Module:
        """Return the module at the path this anatomy gives for `part`."""
        paths = {"blocks": self.blocks, "embedding": self.embedding, "norm": self.norm, "head": self.head}
        module: nn.Module = model.get_submodule(paths[part])
        return module


def _llama_like(router: str | None = None, *, fused: bool = False) -> Anatomy:
    return Anatomy("model.layers", "model.embed_tokens", "model.norm", router=router, fused=fused)


ANATOMIES: dict[str, Anatomy] = {
    "falcon": Anatomy("transformer.h", "transformer.word_embeddings", "transformer.ln_f", attention=False),
    "gemma2": _llama_like(),
    "gemma3_text": _llama_like(),
    "gpt2": Anatomy("transformer.h", "transformer.wte", "transformer.ln_f"),
    "gpt_neox": Anatomy("gpt_neox.layers", "gpt_neox.embed_in", "gpt_neox.final_layer_norm"),
    "gpt_oss": _llama_like("mlp.router"),
    "llama": _llama_like(fused=True),
    "mistral": _llama_like(fused=True),
    "mixtral": _llama_like("mlp.gate"),
    "opt": Anatomy("model.decoder.layers", "model.decoder.embed_tokens", "model.decoder.final_layer_norm"),
    "phi3": _llama_like(),
    "qwen2": _llama_like(fused=True),
    "qwen3": _llama_like(fused=True),
    "qwen3_moe": _llama_like("mlp.gate"),
}


def known(kind: str) -> Anatomy:
    """Return the anatomy of an architecture.

    Raises:
        UnknownArchitecture: when it is not in the table; the message lists those that are.
    """
    if kind not in ANATOMIES:
        raise UnknownArchitecture(
            f"The anatomy of {kind!r} models is not known. Known: {', '.join(sorted(ANATOMIES))}. "
            "(neuromod_core/models/anatomy.py has one row per architecture)"
        )
    return ANATOMIES[kind]


def anatomy(model: PreTrainedModel) -> Anatomy:
    """Return the anatomy of `model`.

    Raises:
        UnknownArchitecture: when its `model_type` is not in the table; the message lists those that are.
    """
    return known(model.config.model_type)
