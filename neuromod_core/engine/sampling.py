"""From logits to a token: inverse transform sampling, one uniform number per row instead of one per vocabulary entry.

The cumulative distribution is searched in two steps, blocks first, so that only one block per row is ever summed up.
Source: Devroye 1986, chapter III.2 (inversion by guide tables).
"""

from __future__ import annotations

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

BLOCK = 256
LEAST = -1e4  # a finite log of nothing: its exponential is 0


class Drawn(NamedTuple):
    """What was drawn from each row: token (rows,), its log-probability, and the distribution's entropy, in nats."""

    token: Tensor
    logprob: Tensor
    entropy: Tensor


def draw(logits: Tensor, uniform: Tensor) -> Drawn:
    """Return the token of each row at which the cumulative softmax of `logits` (rows, vocabulary) passes `uniform`.

    uniform: (rows,) in [0, 1).  Tokens of probability 0 are never drawn.
    """
    rows, size = logits.shape
    shifted = (logits - logits.amax(-1, keepdim=True)).clamp_(min=LEAST)
    if size % BLOCK:
        shifted = F.pad(shifted, (0, -size % BLOCK), value=LEAST)
    mass = shifted.exp().view(rows, -1, BLOCK)
    blocks = mass.sum(-1)
    prefix = blocks.double().cumsum(-1)
    total = prefix[:, -1:]
    target = torch.minimum(uniform.double()[:, None] * total, torch.nextafter(total, torch.zeros_like(total)))
    block = torch.searchsorted(prefix, target, right=True).clamp(max=prefix.shape[-1] - 1)
    inner = mass.gather(1, block[..., None].expand(-1, -1, BLOCK))[:, 0].double().cumsum(-1)
    rest = target - (prefix - blocks.double()).gather(-1, block)
    last = torch.nextafter(inner[:, -1:], torch.zeros_like(total))
    within = torch.searchsorted(inner, torch.minimum(rest.clamp(min=0), last), right=True)
    token = block * BLOCK + within
    log_total = total[:, 0].log()
    mean = torch.bmm(mass.view(rows, 1, -1), shifted[..., None])[:, 0, 0].double() / total[:, 0]
    return Drawn(
        token[:, 0], (shifted.gather(-1, token)[:, 0].double() - log_total).float(), (log_total - mean).float()
    )
