"""Residual streams of given texts at every layer, in batches."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from neuromod_core.engine.rows import pad_right
from neuromod_core.kernel.errors import CalibrationError
from neuromod_core.models import LoadedModel

BATCH = 24
Array = NDArray[np.float64]


def tokens_of(model: LoadedModel, text: str) -> list[int]:
    """Return the tokens of a text without special tokens; raise CalibrationError when there are none."""
    tokens: list[int] = model.tokenizer(text, add_special_tokens=False)["input_ids"]
    if not tokens:
        raise CalibrationError(f"The tokenizer of {model.name} gives no token for {text[:40]!r}.")
    return tokens


def opening(model: LoadedModel) -> list[int]:
    """Return the tokens that open a turn of the model in its chat template: what it sees before it writes."""
    empty = [{"role": "user", "content": ""}]
    with_turn = model.tokenizer.apply_chat_template(empty, add_generation_prompt=True, tokenize=False)
    without = model.tokenizer.apply_chat_template(empty, add_generation_prompt=False, tokenize=False)
    return tokens_of(model, with_turn[len(without) :])


@torch.inference_mode()
def streams(model: LoadedModel, texts: Sequence[Sequence[int]], reduce: Callable[[Tensor, Tensor], Tensor]) -> Tensor:
    """Return `reduce(states, mask)` of every block's output, stacked to (texts, depth, ...), float32.

    reduce: from states (rows, tokens, width) and mask (rows, tokens) to (rows, ...).
    """
    parts: list[Tensor] = []
    order = sorted(range(len(texts)), key=lambda number: len(texts[number]))  # so that little is padding
    for start in range(0, len(texts), BATCH):
        batch = pad_right([texts[number] for number in order[start : start + BATCH]], model.device)
        caught: list[Tensor] = []

        def catch(_module: object, _inputs: object, output: Tensor | tuple[Tensor, ...]) -> None:
            states = output[0] if isinstance(output, tuple) else output
            caught.append(reduce(states.float(), batch.mask.bool()))  # noqa: B023 - used within this turn of the loop

        handles = [block.register_forward_hook(catch) for block in model.blocks]
        try:
            model.hidden(batch.tokens, batch.mask, torch.arange(batch.tokens.shape[1])[None].to(model.device), None)
        finally:
            for handle in handles:
                handle.remove()
        parts.append(torch.stack(caught, dim=1).cpu())
    found = torch.cat(parts)
    return torch.empty_like(found).index_copy_(0, torch.tensor(order), found)


def mean_and_last(skip: int) -> Callable[[Tensor, Tensor], Tensor]:
    """Return a reduction: the mean state over real tokens after the first `skip`, and the state at the last one.

    To (rows, 2, width), from texts padded on the right.
    """

    def reduce(states: Tensor, mask: Tensor) -> Tensor:
        counted = mask.clone()
        counted[:, :skip] = False
        mean = (states * counted[..., None]).sum(1) / counted.sum(1, keepdim=True)
        last = states[torch.arange(len(states), device=states.device), mask.sum(1) - 1]
        return torch.stack([mean, last], dim=1)

    return reduce


def middle_states(model: LoadedModel, texts: Sequence[str]) -> Array:
    """Return the mean state (texts, width) of every text at the middle layer: where a text stands among others."""
    states = streams(model, [tokens_of(model, text) for text in texts], _mean)
    return np.asarray(states[:, model.depth // 2].numpy(), dtype=np.float64)


def _mean(states: Tensor, mask: Tensor) -> Tensor:
    mean: Tensor = (states * mask[..., None]).sum(1) / mask.sum(1, keepdim=True)
    return mean


def norms_after_first(states: Tensor, mask: Tensor) -> Tensor:
    """Return the norms (rows, tokens) of the states, NaN at padding and at token 0, whose norm is an outlier."""
    norms: Tensor = states.norm(dim=-1).masked_fill(~mask, float("nan"))
    norms[:, 0] = float("nan")
    return norms


def stream_norms(model: LoadedModel, texts: Sequence[Sequence[int]]) -> Tensor:
    """Return the median norm (depth,) of the residual stream per layer over the texts' tokens, token 0 excluded."""
    width = max(len(text) for text in texts)

    def reduce(states: Tensor, mask: Tensor) -> Tensor:
        norms = norms_after_first(states, mask)
        missing = norms.new_full((len(norms), width - norms.shape[1]), float("nan"))
        return torch.cat([norms, missing], dim=-1)

    norms = streams(model, texts, reduce)
    median: Tensor = norms.permute(1, 0, 2).flatten(1).nanmedian(dim=-1).values
    return median
