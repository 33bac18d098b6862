"""Truncation by mass: the smallest set of tokens, in some order, that holds a given probability."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from neuromod_core.effects.base import EFFECTS, Stage, in_range
from neuromod_core.effects.kinds import LogitEffect
from neuromod_core.effects.subject import Step

HEAD = 1024  # tokens that usually hold the nucleus; deeper ones are sorted only where they do not


@EFFECTS.add("top_p")
@dataclass(frozen=True, kw_only=True)
class TopP(LogitEffect):
    """Keep the smallest set of tokens with mass >= p = 1 + reach d  (d < 0; nothing is wider than p = 1), and its ties.

    The undosed nucleus is the whole vocabulary, so only d <= 0 means something; a positive dose is out of range rather
    than a silent no-op. The most likely token always stays.  Source: Holtzman et al. 2020.
    """

    reach: float = 0.9
    doses = (-1.0, 0.0)
    stage = Stage.TRUNCATE
    observable, moves = "entropy", 1

    def __post_init__(self) -> None:
        in_range(self.reach, 0.01, 0.999, "top_p: reach")

    def edit(self, logits: Tensor, dose: Tensor, step: Step) -> Tensor:
        """See `LogitEffect.edit`."""
        logprob = logits.log_softmax(-1)
        return _nucleus(logits, logprob, logprob, 1 + self.reach * dose)


@EFFECTS.add("typical_p")
@dataclass(frozen=True, kw_only=True)
class TypicalP(LogitEffect):
    """Keep the most typical tokens, those with the least |-log p[v] - H|, up to mass >= p = 1 - reach d, and ties.

    H is the distribution's entropy: what is far likelier than expected goes as well as what is far less likely.
    Source: Meister et al. 2023 (locally typical sampling).
    """

    reach: float = 0.8
    doses = (0.0, 1.0)
    stage = Stage.TRUNCATE
    observable, moves = "kept_tokens", -1

    def __post_init__(self) -> None:
        in_range(self.reach, 0.01, 0.999, "typical_p: reach")

    def edit(self, logits: Tensor, dose: Tensor, step: Step) -> Tensor:
        """See `LogitEffect.edit`."""
        logprob = logits.log_softmax(-1)
        entropy = torch.special.entr(logprob.exp()).sum(-1, keepdim=True)
        return _nucleus(logits, -(logprob + entropy).abs(), logprob, 1 - self.reach * dose)


def _nucleus(logits: Tensor, rank: Tensor, logprob: Tensor, mass: Tensor) -> Tensor:
    """Return `logits` without the tokens that rank below the first ones that together hold `mass` (n,)."""
    cutoff, found = _cutoff(rank, logprob, mass, min(HEAD, logits.shape[-1]))
    if not bool(found.all()):
        deep = (~found).nonzero()[:, 0]
        cutoff = cutoff.index_copy(0, deep, _cutoff(rank[deep], logprob[deep], mass[deep], logits.shape[-1])[0])
    return logits.masked_fill(rank < cutoff[:, None], float("-inf"))


def _cutoff(rank: Tensor, logprob: Tensor, mass: Tensor, head: int) -> tuple[Tensor, Tensor]:
    """Return the rank (n,) of the last token kept, and whether the `head` first tell it."""
    first = rank.topk(head, dim=-1)
    p = logprob.gather(-1, first.indices).exp()
    before = p.cumsum(-1) - p
    kept = (before < mass[:, None]).sum(-1).clamp(min=1)
    cutoff = first.values.gather(-1, kept[:, None] - 1)[:, 0]
    return cutoff, (kept < head) | (head == logprob.shape[-1])
