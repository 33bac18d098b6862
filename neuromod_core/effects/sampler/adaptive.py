"""Temperatures that look first: at the distribution's own entropy, or at what kind of token it is."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from neuromod_core.effects.base import EFFECTS, Stage, in_range
from neuromod_core.effects.kinds import LogitEffect
from neuromod_core.effects.subject import Step, Subject
from neuromod_core.kernel.errors import NotOnThisModel


@EFFECTS.add("entropy_adaptive_temperature")
@dataclass(frozen=True, kw_only=True)
class EntropyTemperature(LogitEffect):
    """Sharpen (d > 0) or flatten (d < 0) where the model is sure:  z' = z span**(d half / (H + half)),  H in nats.

    H is the entropy of z itself: at H = 0 this is a temperature of span**-d, at H = half half of that in the exponent,
    and open places (large H) stay as they are.  Source: Zhang et al. 2024 (EDT), in a form that stays finite at H = 0.
    """

    span: float = 2.0
    half: float = 1.0
    stage = Stage.SCALE
    observable, moves = "entropy", -1

    def __post_init__(self) -> None:
        in_range(self.span, 1.01, 10.0, "entropy_adaptive_temperature: span")
        in_range(self.half, 0.01, 20.0, "entropy_adaptive_temperature: half (nats)")

    def edit(self, logits: Tensor, dose: Tensor, step: Step) -> Tensor:
        """See `LogitEffect.edit`."""
        entropy = torch.special.entr(logits.softmax(-1)).sum(-1)
        gain: Tensor = self.span ** (dose * self.half / (entropy + self.half))
        return logits * gain[:, None].to(logits.dtype)


@EFFECTS.add("token_class_temperature")
@dataclass(frozen=True, kw_only=True)
class ClassTemperature(LogitEffect):
    """Flatten (d > 0) or sharpen (d < 0) the choice within a class of tokens, C, and leave the mass of C as it is:
    z'[v] = z[v] / T + log sum_C exp(z) - log sum_C exp(z / T)  for v in C,  T = span**d;  z'[v] = z[v] elsewhere.

    `tokens` names the class, read off what tokens spell: word, continuation, capital, digit, punctuation, space.
    Keeping the mass makes it a temperature: words are chosen more freely, not more often.  Source: this project.
    """

    tokens: str = "word"
    span: float = 2.0
    stage = Stage.SCALE
    observable, moves = "class_entropy", 1

    def __post_init__(self) -> None:
        in_range(self.span, 1.01, 10.0, "token_class_temperature: span")

    def check(self, subject: Subject) -> None:
        """Raise UnknownName when there is no such class, NotOnThisModel when it has fewer than two tokens."""
        super().check(subject)
        members = int(subject.reading().token_class(self.tokens).sum())
        if members < 2:
            raise NotOnThisModel(
                f"token_class_temperature chooses within class {self.tokens!r}, which has {members} tokens in the "
                f"vocabulary of the language model {subject.name}."
            )

    def edit(self, logits: Tensor, dose: Tensor, step: Step) -> Tensor:
        """See `LogitEffect.edit`."""
        inside = step.subject.reading().token_class(self.tokens).to(logits.device)
        tempered = logits / (self.span ** dose[:, None]).to(logits.dtype)
        mass, after = (
            each.masked_fill(~inside, float("-inf")).logsumexp(-1, keepdim=True) for each in (logits, tempered)
        )
        return torch.where(inside, tempered - after + mass, logits)
