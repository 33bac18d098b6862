"""Attention by place: which part of the text gains or loses, whatever its content. Biases are in nats of odds."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from neuromod_core.effects.base import EFFECTS, Stage, in_range, one_of
from neuromod_core.effects.kinds import ScoreEffect
from neuromod_core.effects.subject import Place


@EFFECTS.add("attention_sinks_anchors")
@dataclass(frozen=True, kw_only=True)
class SinkAnchors(ScoreEffect):
    """Hold on to the opening of the text (d > 0) or let go of it (d < 0):  S'(T, t) = S(T, t) + span d  for t < sinks.

    The first tokens are where heads rest when nothing concerns them: a positive dose calms heads, a negative one makes
    them take part.  Source: Xiao et al. 2024 (attention sinks).
    """

    sinks: int = 4
    span: float = 2.0
    family = "attention"
    observable, moves = "sink_mass", 1

    def __post_init__(self) -> None:
        in_range(self.sinks, 1, 10_000, "attention_sinks_anchors: sinks (tokens)")
        in_range(self.span, 0.01, 20.0, "attention_sinks_anchors: span (nats)")

    def edit(self, scores: Tensor, dose: Tensor, place: Place) -> Tensor:
        """See `ScoreEffect.edit`."""
        return scores + self.span * dose[:, None, None, None] * (place.keys < self.sinks)[:, None, None, :]


@EFFECTS.add("positional_bias_tweak")
@dataclass(frozen=True, kw_only=True)
class PositionalBias(ScoreEffect):
    """Favour a part of the past (d > 0) or its opposite (d < 0):  S'(T, t) = S(T, t) + span d f(t / T).

    f(r) = r for recency, 1 - r for primacy, 1 - |2r - 1| for the middle. Relative to the text so far, unlike
    `odds_decay_kv`: the odds of oldest and newest differ by span d at any length.  Source: Neuromod methodology; the
    effect it mimics or undoes: Liu et al. 2024 (lost in the middle).
    """

    bias: Literal["recency", "primacy", "middle"] = "recency"
    span: float = 3.0
    family = "attention"
    observable, moves = "distant_mass", -1

    def __post_init__(self) -> None:
        one_of(self.bias, ("recency", "primacy", "middle"), "positional_bias_tweak: bias")
        in_range(self.span, 0.01, 20.0, "positional_bias_tweak: span (nats)")

    def edit(self, scores: Tensor, dose: Tensor, place: Place) -> Tensor:
        """See `ScoreEffect.edit`."""
        age = place.keys[:, None, :] / place.queries[:, :, None].clamp(min=1)
        shapes = {"recency": age, "primacy": 1 - age, "middle": 1 - (2 * age - 1).abs()}
        return scores + self.span * dose[:, None, None, None] * shapes[self.bias][:, None]


@EFFECTS.add("prompt_attention_gain")
@dataclass(frozen=True, kw_only=True)
class PromptAttention(ScoreEffect):
    """Attend to what was read (d > 0) or to what one wrote oneself (d < 0), while writing:  S'(T, t) = S(T, t) + span d
    for prompt keys t and response queries T.

    Source: Neuromod methodology; a contextual-grounding bias as in Shi et al. 2024 (CAD), inside attention.
    """

    span: float = 2.0
    family = "attention"
    observable, moves = "prompt_mass", 1

    def __post_init__(self) -> None:
        in_range(self.span, 0.01, 20.0, "prompt_attention_gain: span (nats)")

    def edit(self, scores: Tensor, dose: Tensor, place: Place) -> Tensor:
        """See `ScoreEffect.edit`."""
        read = place.keys < place.start[:, None]
        across = place.written[:, None, :, None] & read[:, None, None, :]
        return scores + self.span * dose[:, None, None, None] * across


@EFFECTS.add("local_attention_gain")
@dataclass(frozen=True, kw_only=True)
class LocalAttention(ScoreEffect):
    """Sharpen (d > 0) or blunt (d < 0) attention nearby only:  S'(T, t) = span**d S(T, t)  where  T - t < window.

    Source: this project; the near context is where syntax is read, the far one where topic is (Khandelwal et al. 2018).
    """

    window: int = 16
    span: float = 2.0
    family = "attention"
    stage = Stage.SCALE
    observable, moves = "local_score_size", 1

    def __post_init__(self) -> None:
        in_range(self.window, 1, 1_000_000, "local_attention_gain: window (tokens)")
        in_range(self.span, 1.01, 10.0, "local_attention_gain: span")

    def edit(self, scores: Tensor, dose: Tensor, place: Place) -> Tensor:
        """See `ScoreEffect.edit`."""
        return scores * torch.where(place.distance < self.window, self.span ** dose[:, None, None, None], 1.0)


@EFFECTS.add("attention_oscillation")
@dataclass(frozen=True, kw_only=True)
class AttentionOscillation(ScoreEffect):
    """Let attention wax and wane along the text:  S'(T, t) = S(T, t) (1 + reach d w(T / period)),  w(x) = sin(2 pi x).

    T counts tokens, so the wave is the same with and without a cache. `wave="square"` takes the sign of the sine. A
    negative dose starts with the trough.  Source: periodic oscillation, Neuromod methodology.
    """

    period: int = 32
    wave: Literal["sine", "square"] = "sine"
    reach: float = 0.5
    doses = (-1.0, 1.0)
    family = "attention"
    stage = Stage.SCALE
    observable, moves = "crest_score_size", 1

    def __post_init__(self) -> None:
        in_range(self.period, 2, 100_000, "attention_oscillation: period (tokens)")
        one_of(self.wave, ("sine", "square"), "attention_oscillation: wave")
        in_range(self.reach, 0.01, 1.0, "attention_oscillation: reach")

    def edit(self, scores: Tensor, dose: Tensor, place: Place) -> Tensor:
        """See `ScoreEffect.edit`."""
        phase = (place.queries % self.period) / self.period
        wave = torch.sin(2 * math.pi * phase) if self.wave == "sine" else 1.0 - 2.0 * (phase >= 0.5)
        return scores * (1 + self.reach * dose[:, None] * wave)[:, None, :, None]
