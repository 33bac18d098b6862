"""Test-time compute: several responses are written and one is given."""

from __future__ import annotations

import math
from dataclasses import dataclass

from torch import Tensor

from neuromod_core.effects.base import EFFECTS, in_range
from neuromod_core.effects.kinds import ChoiceEffect, Evidence


@EFFECTS.add("verifier_guided_decoding")
@dataclass(frozen=True, kw_only=True)
class VerifierGuided(ChoiceEffect):
    """Write  n = 1 + round(reach d)  responses and give the one the undosed model finds likeliest per token.

    The verifier is the model without its pack: what other effects made the row write is judged by a sober reader.
    Candidates are nested in dose, so a larger dose never gives a worse one.  Source: Stiennon et al. 2020 (best of n).
    """

    reach: float = 4.0
    observable, moves = "verified_likelihood", 1
    verified = True

    def __post_init__(self) -> None:
        in_range(self.reach, 0.5, 64.0, "verifier_guided_decoding: reach (candidates)")

    def candidates(self, dose: float, entropy: float) -> int:
        """See `ChoiceEffect.candidates`."""
        return 1 + round(self.reach * dose)

    def value(self, evidence: Evidence) -> Tensor:
        """See `ChoiceEffect.value`."""
        if evidence.undosed is None:
            raise TypeError("a verified choice was given no likelihoods under the undosed model")
        return evidence.undosed


@EFFECTS.add("compute_at_test_scheduling")
@dataclass(frozen=True, kw_only=True)
class ComputeScheduling(ChoiceEffect):
    """Think longer where it is open what to say:  n = 1 + ceil(rate d H)  responses, H the entropy in nats after the
    prompt; the one likeliest per token under the distribution it was drawn from is given.

    Sure rows cost one response more, unsure ones many. No verifier: the row judges itself, other effects of its pack
    included; alone in a pack it differs from `verifier_guided_decoding` in the number of candidates and nothing else.
    Source: Snell et al. 2024 (compute by difficulty), with entropy as the difficulty.
    """

    rate: float = 2.0
    observable, moves = "own_likelihood", 1

    def __post_init__(self) -> None:
        in_range(self.rate, 0.05, 32.0, "compute_at_test_scheduling: rate (candidates per nat)")

    def candidates(self, dose: float, entropy: float) -> int:
        """See `ChoiceEffect.candidates`."""
        return 1 + math.ceil(self.rate * dose * entropy)

    def value(self, evidence: Evidence) -> Tensor:
        """See `ChoiceEffect.value`."""
        return evidence.own
