"""Penalties on tokens that were used before. They differ in which tokens count, and whether how often matters."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from neuromod_core.effects.base import EFFECTS, Stage, in_range
from neuromod_core.effects.kinds import LogitEffect
from neuromod_core.effects.subject import Step


@EFFECTS.add("repetition_penalty")
@dataclass(frozen=True, kw_only=True)
class RepetitionPenalty(LogitEffect):
    """Discourage (d > 0) or invite (d < 0) repetition:  z'[v] = z[v] - span d count(v),  over prompt and response.

    span is in nats per earlier occurrence.  Source: Neuromod methodology; counting the prompt, as Keskar et al. 2019
    (CTRL) do. `frequency_penalty` counts the response alone.
    """

    span: float = 1.0
    stage = Stage.PENALTY
    observable, moves = "repeated_logit", -1

    def __post_init__(self) -> None:
        in_range(self.span, 0.01, 20.0, "repetition_penalty: span (nats)")

    def edit(self, logits: Tensor, dose: Tensor, step: Step) -> Tensor:
        """See `LogitEffect.edit`."""
        text = torch.cat([step.prompt, step.history], dim=-1)
        return logits - self.span * dose[:, None].to(logits.dtype) * _count(text, logits)


@EFFECTS.add("frequency_penalty")
@dataclass(frozen=True, kw_only=True)
class FrequencyPenalty(LogitEffect):
    """Discourage (d > 0) or invite (d < 0) what was said often:  z'[v] = z[v] - span d count(v),  in the response.

    span is in nats per earlier occurrence; words of the prompt are free.  Source: Neuromod methodology; the definition
    is that of the OpenAI completions API.
    """

    span: float = 1.0
    stage = Stage.PENALTY
    observable, moves = "repeated_logit", -1

    def __post_init__(self) -> None:
        in_range(self.span, 0.01, 20.0, "frequency_penalty: span (nats)")

    def edit(self, logits: Tensor, dose: Tensor, step: Step) -> Tensor:
        """See `LogitEffect.edit`."""
        return logits - self.span * dose[:, None].to(logits.dtype) * _count(step.history, logits)


@EFFECTS.add("presence_penalty")
@dataclass(frozen=True, kw_only=True)
class PresencePenalty(LogitEffect):
    """Push to new tokens (d > 0) or back to used ones (d < 0):  z'[v] = z[v] - span d [v in the response].

    Once or ten times is the same, so it takes more nats than a frequency penalty to be felt; words of the prompt are
    free.  Source: Neuromod methodology; the definition is that of the OpenAI completions API.
    """

    span: float = 2.0
    stage = Stage.PENALTY
    observable, moves = "repeated_logit", -1

    def __post_init__(self) -> None:
        in_range(self.span, 0.01, 20.0, "presence_penalty: span (nats)")

    def edit(self, logits: Tensor, dose: Tensor, step: Step) -> Tensor:
        """See `LogitEffect.edit`."""
        seen = (_count(step.history, logits) > 0).to(logits.dtype)
        return logits - self.span * dose[:, None].to(logits.dtype) * seen


def _count(text: Tensor, logits: Tensor) -> Tensor:
    """Return how often each token occurs in `text` (n, t), shaped like `logits`; -1 is no token."""
    return torch.zeros_like(logits).scatter_add(-1, text.clamp(min=0), (text >= 0).to(logits.dtype))
