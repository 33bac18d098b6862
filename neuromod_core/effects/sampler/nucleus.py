"""Truncation of the next-token distribution."""

from __future__ import annotations

from dataclasses import dataclass

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
        mass = 1 + self.reach * dose
        cutoff, found = _cutoff(logprob, mass, min(HEAD, logits.shape[-1]))
        if not bool(found.all()):
            deep = (~found).nonzero()[:, 0]
            cutoff = cutoff.index_copy(0, deep, _cutoff(logprob[deep], mass[deep], logits.shape[-1])[0])
        return logits.masked_fill(logprob < cutoff[:, None], float("-inf"))


def _cutoff(logprob: Tensor, mass: Tensor, head: int) -> tuple[Tensor, Tensor]:
    """Return the log-probability (n,) of the least likely token kept, and whether the `head` likeliest tell it."""
    likeliest = logprob.topk(head, dim=-1).values
    before = likeliest.exp().cumsum(-1) - likeliest.exp()
    kept = (before < mass[:, None]).sum(-1).clamp(min=1)
    cutoff = likeliest.gather(-1, kept[:, None] - 1)[:, 0]
    return cutoff, (kept < head) | (head == logprob.shape[-1])
