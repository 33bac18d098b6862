"""Sampling text from rows with different packs, one forward pass per token for all of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from neuromod_core.effects import Subject
from neuromod_core.engine.cache import reserve
from neuromod_core.engine.rows import Row, pad_left
from neuromod_core.engine.session import Session
from neuromod_core.kernel.rng import rng
from neuromod_core.packs import bind


@dataclass(frozen=True)
class Generation:
    """What one row wrote.

    tokens: the response, its stop token included.  entropy, logprob: per token, in nats, of the distribution that was
    sampled from (after the pack's sampler effects).
    """

    tokens: tuple[int, ...]
    stop: Literal["stop token", "length"]
    entropy: tuple[float, ...]
    logprob: tuple[float, ...]


def uniforms(rows: Sequence[Row], count: int) -> Tensor:
    """Return (rows, count) uniform numbers, each row's from the stream it owns."""
    draws = [rng(row.stream.root, row.stream.name, "tokens").random(count) for row in rows]
    return torch.from_numpy(np.stack(draws))


def invert(logprob: Tensor, uniform: Tensor) -> Tensor:
    """Return the token (rows, 1) at which the cumulative distribution passes `uniform` (rows, 1).

    Inverse transform sampling: one number per row instead of one per vocabulary entry. Tokens of probability 0 are
    never returned.  Source: Devroye 1986.
    """
    cumulative = logprob.double().exp().cumsum(-1)
    total = cumulative[:, -1:]
    below = torch.nextafter(total, torch.zeros_like(total))
    return torch.searchsorted(cumulative, torch.minimum(uniform * total, below), right=True)


def _trim(row: int, tokens: Tensor, entropy: Tensor, logprob: Tensor, stops: frozenset[int]) -> Generation:
    written = tokens[row].tolist()
    ends = [index for index, token in enumerate(written) if token in stops]
    count = ends[0] + 1 if ends else len(written)
    return Generation(
        tokens=tuple(written[:count]),
        stop="stop token" if ends else "length",
        entropy=tuple(entropy[row, :count].tolist()),
        logprob=tuple(logprob[row, :count].tolist()),
    )


@torch.inference_mode()
def generate(session: Session, rows: Sequence[Row], subject: Subject, *, tokens: int) -> list[Generation]:
    """Sample up to `tokens` tokens for every row, from the model's own distribution as the row's pack edits it.

    A row's text depends on its prompt, pack and stream alone. Sampling stops at a stop token; the batch goes on until
    all rows have stopped.
    """
    model, device = session.model, session.model.device
    binding = bind([row.pack for row in rows], [row.stream for row in rows], subject, device=device)
    start = pad_left([row.prompt for row in rows], device)
    width = start.tokens.shape[1]
    cache, mask = reserve(model.depth, width + tokens), start.mask
    uniform = uniforms(rows, tokens).to(device)
    written = torch.full((len(rows), tokens), -1, dtype=torch.long, device=device)
    entropy, logprob = (torch.zeros(len(rows), tokens, device=device) for _ in range(2))
    stop = torch.tensor(sorted(model.stop_tokens), dtype=torch.long, device=device)
    stopped = torch.zeros(len(rows), dtype=torch.bool, device=device)
    hidden = session.forward(start.tokens, mask, pad=start.pad, binding=binding, phase="prompt", cache=cache)
    for step in range(tokens):
        index = torch.full((len(rows),), step, device=device)
        edited = binding.edit_logits(model.logits(hidden[:, -1]), index, written[:, :step])
        distribution = edited.log_softmax(-1)
        chosen = invert(distribution, uniform[:, step : step + 1])
        written[:, step : step + 1] = chosen
        entropy[:, step] = torch.special.entr(distribution.exp()).sum(-1)
        logprob[:, step] = distribution.gather(-1, chosen)[:, 0]
        stopped |= torch.isin(chosen[:, 0], stop)
        if bool(stopped.all()) or step == tokens - 1:
            break
        mask = torch.cat([mask, mask.new_ones(len(rows), 1)], dim=-1)
        hidden = session.forward(chosen, mask, pad=start.pad, binding=binding, phase="response", cache=cache)
    return [_trim(row, written[:, : step + 1], entropy, logprob, model.stop_tokens) for row in range(len(rows))]
