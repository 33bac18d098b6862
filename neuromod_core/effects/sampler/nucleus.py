"""Truncation of the next-token distribution."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from neuromod_core.effects.base import EFFECTS, LogitEffect, Stage, in_range
from neuromod_core.effects.subject import Step


@EFFECTS.add("top_p")
@dataclass(frozen=True, kw_only=True)
class TopP(LogitEffect):
    """Keep the smallest set of tokens with mass >= p = 1 + reach d  (d < 0; nothing is wider than p = 1).

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
        ordered, order = logits.sort(dim=-1, descending=True, stable=True)
        mass_before = ordered.softmax(-1).cumsum(-1) - ordered.softmax(-1)
        outside = mass_before >= (1 + self.reach * dose)[:, None]
        outside[:, 0] = False
        return logits.masked_fill(outside.new_zeros(outside.shape).scatter(-1, order, outside), float("-inf"))
