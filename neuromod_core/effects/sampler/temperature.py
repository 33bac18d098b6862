"""Temperature: constant, pulsed, rising and in waves over the tokens of a response."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from neuromod_core.effects.base import EFFECTS, Stage, in_range
from neuromod_core.effects.kinds import LogitEffect
from neuromod_core.effects.subject import Step


@EFFECTS.add("temperature")
@dataclass(frozen=True, kw_only=True)
class Temperature(LogitEffect):
    """Flatten (d > 0) or sharpen (d < 0):  z' = z / span**d.  Source: Ackley, Hinton & Sejnowski 1985."""

    span: float = 2.0
    stage = Stage.SCALE
    observable, moves = "entropy", 1

    def __post_init__(self) -> None:
        in_range(self.span, 1.01, 10.0, "temperature: span")

    def edit(self, logits: Tensor, dose: Tensor, step: Step) -> Tensor:
        """See `LogitEffect.edit`."""
        return logits / (self.span ** dose[:, None]).to(logits.dtype)


@EFFECTS.add("pulsed_sampler")
@dataclass(frozen=True, kw_only=True)
class PulsedTemperature(LogitEffect):
    """Focus in bursts (d > 0):  z' = z / (1 - reach d)  while  t mod interval < duration,  t tokens generated so far.

    With base temperature 1 this is T(t) = T_base - delta inside the burst and T_base outside it, delta = reach d.
    d < 0 warms the bursts.  Source: the pulsed schedule T(t) of nicotine-like packs (Neuromod methodology).
    """

    interval: int = 20
    duration: int = 5
    reach: float = 0.9
    doses = (-1.0, 1.0)
    stage = Stage.SCALE
    observable, moves = "entropy", -1

    def __post_init__(self) -> None:
        in_range(self.interval, 1, 10_000, "pulsed_sampler: interval (tokens)")
        in_range(self.duration, 1, self.interval, "pulsed_sampler: duration (tokens)")
        in_range(self.reach, 0.01, 0.99, "pulsed_sampler: reach")

    def edit(self, logits: Tensor, dose: Tensor, step: Step) -> Tensor:
        """See `LogitEffect.edit`."""
        inside = step.index % self.interval < self.duration
        return logits / torch.where(inside, 1 - self.reach * dose, 1.0)[:, None].to(logits.dtype)


@EFFECTS.add("temperature_ramp")
@dataclass(frozen=True, kw_only=True)
class TemperatureRamp(LogitEffect):
    """Flatten (d > 0) or sharpen (d < 0) more and more:  z' = z / span**(d min(1, t / rise)),  t tokens so far.

    The first token is the undosed model's; the dose is full from token `rise` on: an onset.  Source: this project.
    """

    span: float = 2.0
    rise: int = 64
    stage = Stage.SCALE
    observable, moves = "late_entropy", 1

    def __post_init__(self) -> None:
        in_range(self.span, 1.01, 10.0, "temperature_ramp: span")
        in_range(self.rise, 1, 100_000, "temperature_ramp: rise (tokens)")

    def edit(self, logits: Tensor, dose: Tensor, step: Step) -> Tensor:
        """See `LogitEffect.edit`."""
        share = (step.index / self.rise).clamp(max=1)
        return logits / (self.span ** (dose * share))[:, None].to(logits.dtype)


@EFFECTS.add("temperature_wave")
@dataclass(frozen=True, kw_only=True)
class TemperatureWave(LogitEffect):
    """Flatten and sharpen in turn:  z' = z / span**(d sin(2 pi t / period)),  t tokens so far; d < 0 sharpens first.

    The logarithm of the temperature averages 0 over a period, so what changes is the rhythm.  Source: this project.
    """

    span: float = 2.0
    period: int = 32
    stage = Stage.SCALE
    observable, moves = "entropy_swing", 1

    def __post_init__(self) -> None:
        in_range(self.span, 1.01, 10.0, "temperature_wave: span")
        in_range(self.period, 4, 100_000, "temperature_wave: period (tokens)")

    def edit(self, logits: Tensor, dose: Tensor, step: Step) -> Tensor:
        """See `LogitEffect.edit`."""
        phase = torch.sin(2 * math.pi * (step.index % self.period) / self.period)
        return logits / (self.span ** (dose * phase))[:, None].to(logits.dtype)
