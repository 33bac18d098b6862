"""Heads with a known part in copying, by where they look on repeated random tokens.

On  [BOS, r_1 .. r_T, r_1 .. r_T]  with attention weights A, means over sequences and queries q of the second copy:

    induction        A[q, q - (T - 1)]   the token after the first occurrence of the current one
    duplicate_token  A[q, q - T]         the first occurrence of the current one
    previous_token   A[q, q - 1]         the token before the current one

Source: Olsson et al. 2022; Wang et al. 2023 (duplicate-token heads).
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from neuromod_core.kernel.rng import rng
from neuromod_core.models import LoadedModel

SEQUENCES, LENGTH, THRESHOLD = 12, 50, 0.3


def repeated_tokens(model: LoadedModel, seed: int = 0) -> Tensor:
    """Return (sequences, 1 + 2 length) tokens: a start token, then the same random ordinary tokens twice."""
    special = set(model.tokenizer.all_special_ids)
    words = np.array([token for token in range(model.tokenizer.vocab_size) if token not in special])
    half = rng(seed, "induction").choice(words, size=(SEQUENCES, LENGTH))
    start = model.tokenizer.bos_token_id
    column = np.full((SEQUENCES, 1), words[0] if start is None else start)
    return torch.from_numpy(np.concatenate([column, half, half], axis=1))


@torch.inference_mode()
def attention_patterns(model: LoadedModel, tokens: Tensor) -> Tensor:
    """Return attention weights (depth, sequences, heads, queries, keys) in explicit algebra."""
    before = model.network.config._attn_implementation
    model.network.set_attn_implementation("eager")
    try:
        output = model.network(tokens.to(model.device), output_attentions=True, use_cache=False)
    finally:
        model.network.set_attn_implementation(before)
    return torch.stack([weights.float().cpu() for weights in output.attentions])


def looks_back(patterns: Tensor, distance: int, length: int = LENGTH) -> Tensor:
    """Return (depth, heads, sequences): the mean weight on the key `distance` tokens back, over the second copy.

    patterns: (depth, sequences, heads, queries, keys) on repeated tokens.
    """
    stripe = patterns.diagonal(offset=-distance, dim1=-2, dim2=-1)
    return stripe[..., -length + 1 :].mean(-1).transpose(1, 2)


def prefix_matching(patterns: Tensor, length: int = LENGTH) -> Tensor:
    """Return the induction score (depth, heads, sequences) of attention patterns on repeated tokens."""
    return looks_back(patterns, length - 1, length)


def split_half(scores: Tensor) -> float:
    """Return the correlation over heads of the scores on odd and even sequences."""
    odd, even = scores[..., ::2].mean(-1).flatten(), scores[..., 1::2].mean(-1).flatten()
    return float(torch.corrcoef(torch.stack([odd, even]))[0, 1])


def head_scores(model: LoadedModel) -> dict[str, Tensor]:
    """Return head set -> scores (depth, heads, sequences) of every head."""
    patterns = attention_patterns(model, repeated_tokens(model))
    distances = {"duplicate_token": LENGTH, "induction": LENGTH - 1, "previous_token": 1}
    return {name: looks_back(patterns, distance) for name, distance in distances.items()}
