"""What chances a next token may take."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from neuromod_core.effects.base import EFFECTS, in_range
from neuromod_core.effects.kinds import LogitEffect
from neuromod_core.effects.subject import Step


@EFFECTS.add("risk_preference_steering")
@dataclass(frozen=True, kw_only=True)
class RiskPreference(LogitEffect):
    """Seek (d > 0) or avoid (d < 0) surprise:  z'[v] = z[v] + span d tanh((s[v] - H) / width),  s = -log p.

    s is a token's surprisal and H its expectation, the entropy, in nats: tokens less likely than expected gain at most
    span d, likelier ones lose as much. Unlike a temperature, whose gain grows with s without bound, the reward is the
    same for all long shots, so that d > 0 takes second choices rather than noise.  Source: this project.
    """

    span: float = 1.0
    width: float = 1.0
    family = "objective"
    observable, moves = "surprisal_taken", 1

    def __post_init__(self) -> None:
        in_range(self.span, 0.01, 10.0, "risk_preference_steering: span (nats)")
        in_range(self.width, 0.01, 20.0, "risk_preference_steering: width (nats)")

    def edit(self, logits: Tensor, dose: Tensor, step: Step) -> Tensor:
        """See `LogitEffect.edit`."""
        logprob = logits.log_softmax(-1)
        entropy = torch.special.entr(logprob.exp()).sum(-1, keepdim=True)
        reward = torch.tanh((-logprob - entropy) / self.width)
        return logits + (self.span * dose[:, None] * reward).to(logits.dtype)
