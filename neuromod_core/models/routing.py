"""From router logits to the experts a token takes: one rule per architecture with experts."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor
from transformers import PretrainedConfig


class Route(NamedTuple):
    """scores (tokens, chosen) and indices (tokens, chosen) of the experts that tokens take."""

    scores: Tensor
    indices: Tensor


def _softmax_then_choose(logits: Tensor, chosen: int, *, renormalise: bool) -> Route:
    scores, indices = torch.topk(logits.float().softmax(-1), chosen, dim=-1)
    return Route(scores / scores.sum(-1, keepdim=True) if renormalise else scores, indices)


def _mixtral(logits: Tensor, config: PretrainedConfig) -> Route:
    return _softmax_then_choose(logits, config.num_experts_per_tok, renormalise=True)


def _qwen3_moe(logits: Tensor, config: PretrainedConfig) -> Route:
    route = _softmax_then_choose(logits, config.num_experts_per_tok, renormalise=config.norm_topk_prob)
    return Route(route.scores.to(logits.dtype), route.indices)


def _gpt_oss(logits: Tensor, config: PretrainedConfig) -> Route:
    values, indices = torch.topk(logits, config.num_experts_per_tok, dim=-1)
    return Route(values.softmax(-1, dtype=values.dtype), indices)


ROUTES: dict[str, Callable[[Tensor, PretrainedConfig], Route]] = {
    "gpt_oss": _gpt_oss,
    "mixtral": _mixtral,
    "qwen3_moe": _qwen3_moe,
}


def route(logits: Tensor, config: PretrainedConfig) -> Route:
    """Return the route that a model of this configuration takes at router logits (tokens, experts)."""
    return ROUTES[config.model_type](logits, config)
