"""A model in memory with what the engine asks of it: hidden states, logits, blocks, shapes, and a fingerprint."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel, PreTrainedTokenizerBase
from transformers.cache_utils import Cache

from neuromod_core.kernel.types import digest
from neuromod_core.models.anatomy import anatomy


@dataclass(frozen=True)
class ModelSpec:
    """A model as a configuration names it.

    source: "embedded" (the package model), "tiny" (random weights, for tests), or "transformers" (hub id or folder).
    path: what the source needs: an architecture for tiny models, a hub id or a folder for transformers.
    sha256: expected digest of the safetensors weights; None accepts any and records what was found.
    dtype: "auto" takes bfloat16 where the processor has matrix units for it, else float32.
    """

    name: str
    source: str
    path: str | None = None
    revision: str | None = None
    sha256: str | None = None
    dtype: str = "auto"


@dataclass(frozen=True, eq=False)
class LoadedModel:
    """A causal language model with its tokenizer and anatomy.

    weights_sha256: digest of the weights file (of the state dict for random models).
    """

    name: str
    network: PreTrainedModel
    tokenizer: PreTrainedTokenizerBase
    weights_sha256: str
    stop_tokens: frozenset[int] = field(default_factory=frozenset)

    @cached_property
    def blocks(self) -> tuple[nn.Module, ...]:
        """The decoder blocks, first to last."""
        return tuple(anatomy(self.network).find(self.network, "blocks").children())

    @cached_property
    def embedding(self) -> nn.Module:
        """The token embedding."""
        return anatomy(self.network).find(self.network, "embedding")

    @property
    def depth(self) -> int:
        """Number of decoder blocks."""
        return int(self.network.config.num_hidden_layers)

    @property
    def heads(self) -> int:
        """Number of query heads per block."""
        return int(self.network.config.num_attention_heads)

    @property
    def width(self) -> int:
        """Width of the residual stream."""
        return int(self.network.config.hidden_size)

    @property
    def vocabulary(self) -> int:
        """Number of entries of the vocabulary."""
        return int(self.network.config.vocab_size)

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        return torch.device(self.network.device)

    @property
    def dtype(self) -> torch.dtype:
        """The number format of the weights and activations."""
        dtype: torch.dtype = self.network.dtype
        return dtype

    def hidden(self, tokens: Tensor, mask: Tensor, positions: Tensor, cache: Cache | None) -> Tensor:
        """Return the last hidden states (rows, tokens, width), after the final norm; `cache` is extended in place."""
        states: Tensor = self.network.base_model(
            input_ids=tokens,
            attention_mask=mask,
            position_ids=positions,
            past_key_values=cache,
            use_cache=cache is not None,
        ).last_hidden_state
        return states

    def logits(self, hidden: Tensor) -> Tensor:
        """Return float32 logits (..., vocabulary) of hidden states (..., width)."""
        logits: Tensor = anatomy(self.network).find(self.network, "head")(hidden)
        return logits.float()

    @cached_property
    def fingerprint(self) -> str:
        """Digest of weights, number format, configuration and vocabulary: equal fingerprints mean the same model."""
        config = {key: str(value) for key, value in self.network.config.to_diff_dict().items() if key[0] != "_"}
        config.pop("transformers_version", None)
        words = sorted(self.tokenizer.get_vocab().items())
        return digest([self.weights_sha256, str(self.dtype), config, digest([list(pair) for pair in words])])
