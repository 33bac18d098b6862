"""What late blocks add to what early ones already say."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from neuromod_core.effects.base import EFFECTS, in_range
from neuromod_core.effects.kinds import LogitEffect
from neuromod_core.effects.subject import Step, Subject
from neuromod_core.kernel.errors import NotOnThisModel


@EFFECTS.add("contrastive_decoding")
@dataclass(frozen=True, kw_only=True)
class ContrastiveDecoding(LogitEffect):
    """Favour what late blocks add (d > 0) or what the early ones said (d < 0):  z' = z + d (log p - log p_early).

    Only plausible tokens, p >= plausible max p, are moved. p_early is read off the block that ends the first `early_at`
    of the depth, by the model's own final norm and unembedding; no second model is loaded.
    Source: Li et al. 2023; early blocks as the amateur: Chuang et al. 2024 (DoLa).
    """

    early_at: float = 0.5
    plausible: float = 0.1
    observable, moves = "late_evidence", 1

    def __post_init__(self) -> None:
        in_range(self.early_at, 0.01, 0.99, "contrastive_decoding: early_at (share of depth)")
        in_range(self.plausible, 1e-6, 0.9, "contrastive_decoding: plausible")

    def check(self, subject: Subject) -> None:
        """Raise NotOnThisModel when no block ends within the first `early_at` of the depth."""
        super().check(subject)
        if self.early(subject) < 0:
            raise NotOnThisModel(
                f"contrastive_decoding reads a block within the first {self.early_at:g} of the depth; the language "
                f"model {subject.name} has {subject.shape.depth} blocks."
            )

    def early(self, subject: Subject) -> int:
        """See `LogitEffect.early`."""
        return math.floor(self.early_at * subject.shape.depth) - 1

    def edit(self, logits: Tensor, dose: Tensor, step: Step) -> Tensor:
        """See `LogitEffect.edit`."""
        logprob = logits.log_softmax(-1)
        added = logprob - step.early[self.early(step.subject)].log_softmax(-1)
        plausible = logprob >= logprob.amax(-1, keepdim=True) + math.log(self.plausible)
        return logits + torch.where(plausible, dose[:, None] * added, 0).to(logits.dtype)
