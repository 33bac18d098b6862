"""Additive biases on next-token logits: repeated tokens, and words of an affect."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from neuromod_core.effects.base import EFFECTS, Stage, in_range
from neuromod_core.effects.kinds import LogitEffect
from neuromod_core.effects.subject import Step, Subject


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
        penalty = (-self.span * dose[:, None]) * (text >= 0)
        return logits.scatter_add(-1, text.clamp(min=0), penalty.to(logits.dtype))


@EFFECTS.add("style_affect_logit_bias")
@dataclass(frozen=True, kw_only=True)
class StyleBias(LogitEffect):
    """Make the words of an affect likelier (d > 0) or rarer (d < 0):  z'[v] = z[v] + span d,  v in the lexicon.

    The lexicons are word lists of our own (`datasets/lexicon`), one token per word.
    """

    bias_type: str
    span: float = 3.0
    observable, moves = "lexicon_mass", 1

    def __post_init__(self) -> None:
        in_range(self.span, 0.01, 20.0, "style_affect_logit_bias: span (nats)")

    def check(self, subject: Subject) -> None:
        """Raise UnknownName when there is no such lexicon."""
        subject.lexicon(self.bias_type)

    def edit(self, logits: Tensor, dose: Tensor, step: Step) -> Tensor:
        """See `LogitEffect.edit`."""
        words = step.subject.lexicon(self.bias_type).to(logits.device)
        return logits.index_add(-1, words, (self.span * dose)[:, None].expand(-1, len(words)).to(logits.dtype))
