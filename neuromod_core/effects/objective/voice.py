"""Additive biases on the words of a list: an affect, or the voice of a persona. Lists are in `datasets/lexicon`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from neuromod_core.effects.base import EFFECTS, in_range, one_of
from neuromod_core.effects.kinds import LogitEffect
from neuromod_core.effects.subject import Step, Subject
from neuromod_core.kernel.errors import NotOnThisModel

Persona = Literal["professional", "friendly", "authoritative", "creative"]
OPPOSITE: Mapping[str, str] = {
    "professional": "friendly",
    "friendly": "professional",
    "authoritative": "creative",
    "creative": "authoritative",
}


@EFFECTS.add("style_affect_logit_bias")
@dataclass(frozen=True, kw_only=True)
class StyleBias(LogitEffect):
    """Make the words of an affect likelier (d > 0) or rarer (d < 0):  z'[v] = z[v] + span d,  v in the lexicon.

    `bias_type` names a word list of our own, one token per word.  Source: Neuromod methodology.
    """

    bias_type: str
    span: float = 3.0
    family = "objective"
    observable, moves = "lexicon_mass", 1

    def __post_init__(self) -> None:
        in_range(self.span, 0.01, 20.0, "style_affect_logit_bias: span (nats)")

    @property
    def needs_lexicons(self) -> tuple[str, ...]:
        """See `Effect.needs_lexicons`."""
        return (self.bias_type,)

    def check(self, subject: Subject) -> None:
        """Raise UnknownName when there is no such lexicon."""
        super().check(subject)
        subject.lexicon(self.bias_type)

    def edit(self, logits: Tensor, dose: Tensor, step: Step) -> Tensor:
        """See `LogitEffect.edit`."""
        return _raised(logits, step.subject.lexicon(self.bias_type), self.span * dose)


@EFFECTS.add("persona_voice_constraints")
@dataclass(frozen=True, kw_only=True)
class PersonaVoice(LogitEffect):
    """Speak in the voice of a persona (d > 0) or of its opposite (d < 0):
    z'[v] = z[v] + span d ([v in own words] - against [v in the opposite's words]).

    Opposites are professional and friendly, authoritative and creative. A bias on words, not a persona: whether the
    text is taken for one is a question for raters.  Source: Neuromod methodology.
    """

    persona: Persona = "professional"
    span: float = 3.0
    against: float = 0.5
    family = "objective"
    observable, moves = "persona_odds", 1

    def __post_init__(self) -> None:
        one_of(self.persona, tuple(OPPOSITE), "persona_voice_constraints: persona")
        in_range(self.span, 0.01, 20.0, "persona_voice_constraints: span (nats)")
        in_range(self.against, 0.01, 2.0, "persona_voice_constraints: against")

    @property
    def needs_lexicons(self) -> tuple[str, ...]:
        """See `Effect.needs_lexicons`."""
        return self.persona, OPPOSITE[self.persona]

    def check(self, subject: Subject) -> None:
        """Raise UnknownName when one of the two word lists is missing."""
        super().check(subject)
        for name in self.needs_lexicons:
            subject.lexicon(name)

    def edit(self, logits: Tensor, dose: Tensor, step: Step) -> Tensor:
        """See `LogitEffect.edit`."""
        own, opposite = (step.subject.lexicon(name) for name in self.needs_lexicons)
        return _raised(_raised(logits, own, self.span * dose), opposite, -self.against * self.span * dose)


def _raised(logits: Tensor, words: Tensor, by: Tensor) -> Tensor:
    """Return `logits` with those of `words` (tokens, each once) raised `by` (n,) nats."""
    added = by[:, None].expand(-1, len(words)).to(logits.dtype)
    return logits.index_add(-1, words.to(logits.device), added)


@EFFECTS.add("length_pressure")
@dataclass(frozen=True, kw_only=True)
class LengthPressure(LogitEffect):
    """Come to an end sooner (d > 0) or later (d < 0):  z'[v] = z[v] + span d,  v a token that ends a response.

    Source: the length bias of Murray & Chiang 2018, as a reward in nats.
    """

    span: float = 4.0
    family = "objective"
    observable, moves = "stop_mass", 1

    def __post_init__(self) -> None:
        in_range(self.span, 0.01, 20.0, "length_pressure: span (nats)")

    def check(self, subject: Subject) -> None:
        """Raise NotOnThisModel when nothing is known to end a response."""
        super().check(subject)
        if not subject.reading().stop_tokens:
            raise NotOnThisModel(f"LengthPressure weighs stop tokens; {subject.name} has none.")

    def edit(self, logits: Tensor, dose: Tensor, step: Step) -> Tensor:
        """See `LogitEffect.edit`."""
        stops = torch.tensor(sorted(step.subject.reading().stop_tokens), device=logits.device)
        return _raised(logits, stops, self.span * dose)
