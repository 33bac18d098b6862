"""A model in memory with what the engine and the effects ask of it: states, logits, parts, tokens, a fingerprint."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel, PreTrainedTokenizerBase
from transformers.cache_utils import Cache

from neuromod_core.kernel.errors import NotOnThisModel
from neuromod_core.kernel.register import unknown
from neuromod_core.kernel.types import digest
from neuromod_core.models.anatomy import Anatomy, anatomy
from neuromod_core.models.lexis import TOKEN_CLASSES, classify


@dataclass(frozen=True, eq=False)
class LoadedModel:
    """A causal language model with its tokenizer and anatomy.

    weights_sha256: digest of the weights file (of the state dict for random models).
    home: the device that states enter and leave on, where the weights lie on several; None where they lie on one.
    """

    name: str
    network: PreTrainedModel
    tokenizer: PreTrainedTokenizerBase
    weights_sha256: str
    stop_tokens: frozenset[int] = field(default_factory=frozenset)
    home: torch.device | None = None

    @cached_property
    def anatomy(self) -> Anatomy:
        """Where the parts are."""
        return anatomy(self.network)

    @cached_property
    def blocks(self) -> tuple[nn.Module, ...]:
        """The decoder blocks, first to last."""
        return tuple(self.anatomy.find(self.network, "blocks").children())

    @cached_property
    def embedding(self) -> nn.Module:
        """The token embedding."""
        return self.anatomy.find(self.network, "embedding")

    @cached_property
    def routers(self) -> tuple[nn.Module | None, ...]:
        """The expert router of every block, None where a block has none."""
        path = self.anatomy.router
        found = [dict(block.named_modules()).get(path) if path else None for block in self.blocks]
        return tuple(found)

    @property
    def depth(self) -> int:
        """Number of decoder blocks."""
        return int(self.network.config.num_hidden_layers)

    @property
    def heads(self) -> int:
        """Number of query heads per block."""
        return int(self.network.config.num_attention_heads)

    @property
    def kv_heads(self) -> int:
        """Number of key-value heads per block."""
        return int(getattr(self.network.config, "num_key_value_heads", None) or self.heads)

    @property
    def experts(self) -> int:
        """Number of experts per block; 0 on dense models."""
        config = self.network.config
        found = getattr(config, "num_local_experts", None) or getattr(config, "num_experts", None)
        return int(found or 0) if self.anatomy.router else 0

    @property
    def chosen_experts(self) -> int:
        """Number of experts a token takes; 0 on dense models."""
        return int(self.network.config.num_experts_per_tok) if self.experts else 0

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
        """Where the weights are; on several devices, where states enter and leave."""
        return self.home or torch.device(self.network.device)

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
        """Return float32 logits (..., vocabulary) of hidden states (..., width) after the final norm."""
        logits: Tensor = self.anatomy.find(self.network, "head")(hidden).float()
        cap = getattr(self.network.config, "final_logit_softcapping", None)
        return logits if cap is None else torch.tanh(logits / cap) * cap

    def early_logits(self, stream: Tensor) -> Tensor:
        """Return float32 logits read off a residual stream (..., width) by the final norm and the unembedding.

        Source: nostalgebraist 2020 (the logit lens).
        """
        normed: Tensor = self.anatomy.find(self.network, "norm")(stream)
        return self.logits(normed)

    def encode(self, text: str) -> tuple[int, ...]:
        """Return the tokens of a text, without special tokens."""
        return tuple(self.tokenizer(text, add_special_tokens=False)["input_ids"])

    def word_vectors(self) -> Tensor:
        """Return the token embeddings (vocabulary, width)."""
        vectors: Tensor = self.embedding.weight.detach()  # type: ignore[operator]
        return vectors

    @cached_property
    def _classes(self) -> dict[str, Tensor]:
        return classify(self.tokenizer, self.vocabulary)

    def token_class(self, name: str) -> Tensor:
        """Return which tokens belong to a class of `lexis.TOKEN_CLASSES`, (vocabulary,) bool."""
        if name not in TOKEN_CLASSES:
            raise unknown("token class", name, list(TOKEN_CLASSES))
        return self._classes[name]

    @torch.inference_mode()
    def mean_stream(self, text: str) -> Tensor:
        """Return the undosed residual stream (depth, width) of a text, averaged over its tokens but the first."""
        tokens, caught = torch.tensor([self.encode(text)], device=self.device), []

        def catch(_module: nn.Module, _inputs: object, output: Tensor | tuple[Tensor, ...]) -> None:
            caught.append((output[0] if isinstance(output, tuple) else output)[0].float())

        handles = [block.register_forward_hook(catch) for block in self.blocks]
        try:
            self.hidden(tokens, torch.ones_like(tokens), torch.arange(tokens.shape[1], device=self.device)[None], None)
        finally:
            for handle in handles:
                handle.remove()
        return torch.stack([states[1:].mean(0) for states in caught]).cpu()

    def linear_shape(self, path: str) -> tuple[int, int]:
        """Return (outputs, inputs) of the linear module at a dotted path.

        Raises:
            NotOnThisModel: when the model has no linear module there.
        """
        module = dict(self.network.named_modules()).get(path)
        if not isinstance(module, nn.Linear):
            raise NotOnThisModel(f"{self.name} has no linear module at {path!r}.")
        return module.out_features, module.in_features

    @cached_property
    def fingerprint(self) -> str:
        """Digest of weights, number format, configuration and vocabulary: equal fingerprints mean the same model."""
        config = {key: str(value) for key, value in self.network.config.to_diff_dict().items() if key[0] != "_"}
        config.pop("transformers_version", None)
        words = sorted(self.tokenizer.get_vocab().items())
        return digest([self.weights_sha256, str(self.dtype), config, digest([list(pair) for pair in words])])
