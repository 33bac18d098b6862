"""Temperature, constant and pulsed."""

from __future__ import annotations

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
        return logits / self.span ** dose[:, None]


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
        return logits / torch.where(inside, 1 - self.reach * dose, 1.0)[:, None]
