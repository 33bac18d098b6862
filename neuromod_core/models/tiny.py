"""Random two-layer models of each architecture, and a byte-level tokenizer: real machinery, no download.

A random model must never be used to claim that a behaviour changed; it is for laws that hold for any weights.
"""

from __future__ import annotations

import hashlib

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import AutoModelForCausalLM, PretrainedConfig, PreTrainedTokenizerFast
from transformers.models.auto.configuration_auto import CONFIG_MAPPING

from neuromod_core.kernel.register import unknown
from neuromod_core.models.loaded import LoadedModel

VOCABULARY = 260
PAD, BOS, EOS = 256, 257, 258
CHAT = (
    "{% for message in messages %}<{{ message['role'][0] }}>{{ message['content'] }}\n{% endfor %}"
    "{% if add_generation_prompt %}<a>{% endif %}"
)
_COMMON: dict[str, object] = {
    "vocab_size": VOCABULARY,
    "pad_token_id": PAD,
    "bos_token_id": BOS,
    "eos_token_id": EOS,
    "tie_word_embeddings": False,
}
_LLAMA_LIKE: dict[str, object] = {
    **_COMMON,
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 8,
    "max_position_embeddings": 512,
    "initializer_range": 0.3,
}
_EXPERTS: dict[str, object] = {"num_local_experts": 4, "num_experts_per_tok": 2}
_LAYERS = ["sliding_attention", "full_attention"]
TINY: dict[str, dict[str, object]] = {
    "falcon": {
        **_COMMON,
        "hidden_size": 32,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "alibi": False,
        "new_decoder_architecture": False,
        "multi_query": True,
        "parallel_attn": True,
        "bias": False,
        "max_position_embeddings": 512,
        "initializer_range": 0.3,
    },
    "gemma2": {**_LLAMA_LIKE, "sliding_window": 8, "query_pre_attn_scalar": 8, "layer_types": _LAYERS},
    "gemma3_text": {**_LLAMA_LIKE, "sliding_window": 8, "query_pre_attn_scalar": 8, "layer_types": _LAYERS},
    "gpt2": {**_COMMON, "n_embd": 32, "n_layer": 2, "n_head": 4, "n_positions": 512, "initializer_range": 0.3},
    "gpt_neox": {
        **_COMMON,
        "hidden_size": 32,
        "intermediate_size": 64,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "max_position_embeddings": 512,
        "initializer_range": 0.3,
    },
    "gpt_oss": {
        **_LLAMA_LIKE,
        **_EXPERTS,
        "sliding_window": 8,
        "layer_types": _LAYERS,
        "rope_parameters": {"rope_type": "default", "rope_theta": 10000.0},
    },
    "llama": _LLAMA_LIKE,
    "mistral": {**_LLAMA_LIKE, "sliding_window": 8},
    "mixtral": {**_LLAMA_LIKE, **_EXPERTS},
    "opt": {
        **_COMMON,
        "hidden_size": 32,
        "word_embed_proj_dim": 32,
        "ffn_dim": 64,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "max_position_embeddings": 512,
        "init_std": 0.3,
    },
    "phi3": _LLAMA_LIKE,
    "qwen2": _LLAMA_LIKE,
    "qwen3": _LLAMA_LIKE,
    "qwen3_moe": {
        **_LLAMA_LIKE,
        "num_experts": 4,
        "num_experts_per_tok": 2,
        "moe_intermediate_size": 32,
        "norm_topk_prob": True,
        "decoder_sparse_step": 1,
    },
}


def byte_tokenizer() -> PreTrainedTokenizerFast:
    """Return a tokenizer with one token per byte, pad, bos and eos tokens, and a short chat template."""
    vocabulary = {symbol: index for index, symbol in enumerate(sorted(pre_tokenizers.ByteLevel.alphabet()))}
    tokenizer = Tokenizer(models.BPE(vocab=vocabulary, merges=[]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens(["<pad>", "<bos>", "<eos>"])
    wrapped = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, pad_token="<pad>", bos_token="<bos>", eos_token="<eos>", padding_side="left"
    )
    wrapped.chat_template = CHAT
    return wrapped


def tiny_config(architecture: str) -> PretrainedConfig:
    """Return the configuration of the tiny model of `architecture`."""
    if architecture not in TINY:
        raise unknown("tiny architecture", architecture, list(TINY))
    config: PretrainedConfig = CONFIG_MAPPING[architecture](**TINY[architecture])
    return config


def tiny(architecture: str, seed: int = 0) -> LoadedModel:
    """Return a random float32 model of `architecture`, two layers of width 32, the same for the same seed."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        network = AutoModelForCausalLM.from_config(tiny_config(architecture), dtype=torch.float32).eval()
    state = hashlib.sha256()
    for name, value in sorted(network.state_dict().items()):
        state.update(name.encode() + value.contiguous().numpy().tobytes())
    return LoadedModel(
        name=f"tiny-{architecture}",
        network=network.requires_grad_(False),
        tokenizer=byte_tokenizer(),
        weights_sha256=state.hexdigest(),
        stop_tokens=frozenset({EOS}),
    )
