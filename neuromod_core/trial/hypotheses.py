"""The primary hypotheses of a plan: which arm, on which scale, against which placebo, in which reading."""

from __future__ import annotations

from dataclasses import dataclass

from neuromod_core.trial.plan import Arm, Plan

COMPARED = {"P1": "raw", "P2": "expressed"}  # the placebos that are comparators, and in which form of the reading


def reading_of(plan: Plan, kind: str) -> str:
    """Return the primary reading of a kind, "raw" or "expressed"; a plan without one falls to statements, claimless."""
    return f"{plan.primary_reading or 'statement'}_{kind}"


@dataclass(frozen=True)
class Claim:
    """An arm on one scale against one placebo, as the specificity contrast."""

    plan: Plan
    arm: Arm
    placebo: Arm
    scale: str
    form: str

    @property
    def reading(self) -> str:
        """Return the reading in which both are compared."""
        return reading_of(self.plan, self.form)

    @property
    def sign(self) -> float:
        """Return the predicted direction."""
        return float(self.arm.predicted_sign or 1)

    @property
    def name(self) -> str:
        """Return the hypothesis in words."""
        if self.arm.predicted_sign is None or self.arm.target_scale != self.scale:
            return f"{self.arm.name} against {self.placebo.name} on {self.scale}"
        return f"{self.arm.name} moves {self.scale} {'up' if self.sign > 0 else 'down'}"

    @property
    def foils(self) -> tuple[str, ...]:
        """Return the scales whose mean is taken off."""
        return tuple(scale for scale in self.plan.scales if scale != self.scale)

    @property
    def members(self) -> tuple[str, ...]:
        """Return the members of the placebo that belong to this arm."""
        return (self.arm.name,) if self.placebo.role == "P2" else self.placebo.members


def comparators(plan: Plan) -> list[Arm]:
    """Return the placebos that arms are compared with."""
    return [arm for role in COMPARED if (arm := plan.arm(role)) is not None]


def claims_of(plan: Plan) -> list[Claim]:
    """Return the primary hypotheses of a plan, comparator by comparator."""
    return [
        Claim(plan, arm, placebo, arm.target_scale, COMPARED[placebo.role])
        for placebo in comparators(plan)
        for arm in plan.arms
        if arm.target_scale is not None and arm.predicted_sign is not None
    ]
