"""Effects on logits that draw: what they draw belongs to the row's stream and the token's index."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from neuromod_core.effects.base import EFFECTS, Stage, in_range
from neuromod_core.effects.kinds import LogitEffect
from neuromod_core.effects.subject import Step, normals, uniforms


@EFFECTS.add("logit_noise")
@dataclass(frozen=True, kw_only=True)
class LogitNoise(LogitEffect):
    """Blur the preferences among tokens:  z' = z + span d e,  e ~ N(0, I), drawn anew for each row and token written.

    span is in nats. On average over draws it flattens, but at each token it also reorders, as a temperature never does.
    Source: this project.
    """

    span: float = 1.0
    doses = (0.0, 2.0)
    observable, moves = "logit_distance", 1
    stochastic = True

    def __post_init__(self) -> None:
        in_range(self.span, 0.001, 20.0, "logit_noise: span (nats)")

    def edit(self, logits: Tensor, dose: Tensor, step: Step) -> Tensor:
        """See `LogitEffect.edit`."""
        noise = normals(step.streams, "logit_noise", step.index[:, None], logits.shape[-1])[:, 0]
        return logits + (self.span * dose[:, None] * noise).to(logits.dtype)


@EFFECTS.add("random_logit_bias")
@dataclass(frozen=True, kw_only=True)
class RandomLogitBias(LogitEffect):
    """Like some tokens better than others, for no reason:  z' = z + span d e,  e ~ N(0, I), drawn once per row.

    span is in nats. The same tokens stay preferred through a whole response, which noise drawn anew does not do: a sham
    of every effect that favours words, without a content of its own.  Source: this project.
    """

    span: float = 1.0
    doses = (0.0, 2.0)
    observable, moves = "logit_distance", 1
    stochastic = True

    def __post_init__(self) -> None:
        in_range(self.span, 0.001, 20.0, "random_logit_bias: span (nats)")

    def edit(self, logits: Tensor, dose: Tensor, step: Step) -> Tensor:
        """See `LogitEffect.edit`."""
        once = torch.zeros_like(step.index)[:, None]
        bias = normals(step.streams, "random_logit_bias", once, logits.shape[-1])[:, 0]
        return logits + (self.span * dose[:, None] * bias).to(logits.dtype)


@EFFECTS.add("exclude_top_choices")
@dataclass(frozen=True, kw_only=True)
class ExcludeTopChoices(LogitEffect):
    """Now and then refuse the obvious:  with probability  q = rate d  per token, remove every token with
    p[v] >= threshold but the least likely of these.

    Where fewer than two tokens pass the threshold nothing is removed, so forced tokens stay. The tokens at which it
    strikes are nested in dose.  Source: XTC sampler, community practice since 2024.
    """

    rate: float = 0.5
    threshold: float = 0.1
    doses = (0.0, 2.0)
    stage = Stage.TRUNCATE
    observable, moves = "obvious_tokens", -1
    stochastic = True

    def __post_init__(self) -> None:
        in_range(self.rate, 0.001, 0.5, "exclude_top_choices: rate")
        in_range(self.threshold, 0.0001, 0.5, "exclude_top_choices: threshold")

    def edit(self, logits: Tensor, dose: Tensor, step: Step) -> Tensor:
        """See `LogitEffect.edit`."""
        drawn = uniforms(step.streams, "exclude_top_choices", step.index[:, None], 1)[:, 0]
        obvious = logits.softmax(-1) >= self.threshold
        least = logits.masked_fill(~obvious, float("inf")).amin(-1, keepdim=True)
        removed = obvious & (logits > least) & (drawn < self.rate * dose[:, None])
        return logits.masked_fill(removed, float("-inf"))
