"""A pack: a named set of effects with their doses. Values only; who receives it, and where, is not its business."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from functools import cached_property
from typing import Literal

from neuromod_core.effects import Effect, Subject
from neuromod_core.effects.kinds import ChoiceEffect, LogitEffect, PromptEffect
from neuromod_core.effects.sampler.temperature import Temperature
from neuromod_core.effects.steering.add import Steering
from neuromod_core.kernel.errors import OutOfRange, PackError
from neuromod_core.kernel.types import digest

APART = (LogitEffect, PromptEffect, ChoiceEffect)  # kinds that leave the forward pass of given tokens as it is


def leaves_the_pass(effect: Effect) -> bool:
    """Return whether an effect leaves the forward pass of given tokens as it is, like one on logits."""
    return isinstance(effect, APART) and not effect.needs


@dataclass(frozen=True)
class Dosed:
    """An effect at a signed dose."""

    name: str
    effect: Effect
    dose: float

    def __post_init__(self) -> None:
        low, high = self.effect.doses
        if not low <= self.dose <= high:
            raise OutOfRange(f"{self.name}: dose is {self.dose:g}; allowed is {low:g} to {high:g}.")

    def __str__(self) -> str:
        changed = [
            f"{field.name}={getattr(self.effect, field.name)}"
            for field in dataclasses.fields(self.effect)
            if getattr(self.effect, field.name) != field.default
        ]
        return f"{self.name} {self.dose:+.3g}" + (f" ({', '.join(changed)})" if changed else "")


@dataclass(frozen=True)
class Pack:
    """What one arm receives.

    kind: control, assay, or a pharmacological class; it groups arms in reports and nothing else.
    system: text put in place of the neutral system message (a prompt-only arm), None for none.
    target_scale, predicted_sign: the scale it is predicted to move, and which way; None when nothing is predicted.
    members: how many sham draws the pack stands for (0: it is a single pack).
    match: "entropy" when its temperature is to be solved so that its mean next-token entropy equals another pack's.
    kl: nats by which the pack changes the next token of neutral text (95th percentile over tokens), when all its doses
        are to be scaled to that; of every member by itself. None leaves the doses as they are written.
    """

    name: str
    description: str
    kind: str
    effects: tuple[Dosed, ...] = ()
    system: str | None = None
    target_scale: str | None = None
    predicted_sign: Literal[-1, 1] | None = None
    members: int = 0
    match: Literal["entropy"] | None = None
    kl: float | None = None

    def __post_init__(self) -> None:
        if self.members and not any(isinstance(item.effect, Steering) for item in self.effects):
            raise PackError(f"Pack {self.name!r} has members but no steering effect whose shams they could be.")
        if self.kl is not None and not any(item.dose for item in self.effects):
            raise PackError(f"Pack {self.name!r} asks for a KL divergence but has no dose that could be scaled to it.")

    @cached_property
    def fingerprint(self) -> str:
        """Digest of what the pack does; names and descriptions of packs do not enter."""
        doses = sorted(digest([item.name, dataclasses.asdict(item.effect), item.dose]) for item in self.effects)
        return digest([doses, self.system, self.members, self.match, self.kl])

    @property
    def role(self) -> str:
        """Part the pack plays in a design: none, P0, P1, P2, persona, assay or pack. Read off what it does."""
        if self.members:
            return "P1"
        if self.match is not None:
            return "P2"
        if self.kind == "assay":
            return "assay"
        if self.system is not None:
            return "persona"
        if not self.effects:
            return "none"
        return "pack" if any(item.dose for item in self.effects) else "P0"

    @property
    def forward_effects(self) -> tuple[Dosed, ...]:
        """The effects that change a forward pass: all but those on its tokens, on logits and on whole responses."""
        return tuple(item for item in self.effects if not leaves_the_pass(item.effect))

    def check(self, subject: Subject) -> None:
        """Raise when an effect means nothing on `subject`, naming the pack."""
        for item in self.effects:
            item.effect.check(subject)

    def scaled(self, factor: float) -> Pack:
        """Return the pack with every dose times `factor`; raise OutOfRange where that leaves an effect's range."""
        if factor == 1:
            return self
        effects = tuple(dataclasses.replace(item, dose=item.dose * factor) for item in self.effects)
        return dataclasses.replace(self, effects=effects)

    def member(self, draw: int) -> Pack:
        """Return the `draw`-th sham of an ensemble, a single pack."""
        if not 0 <= draw < self.members:
            raise OutOfRange(f"Pack {self.name!r} has members 0 to {self.members - 1}; asked for {draw}.")
        effects = tuple(
            dataclasses.replace(item, effect=dataclasses.replace(item.effect, draw=draw))
            if isinstance(item.effect, Steering) and item.effect.sham != "none"
            else item
            for item in self.effects
        )
        return dataclasses.replace(self, effects=effects, members=0)

    @property
    def singles(self) -> tuple[Pack, ...]:
        """The single packs it stands for: its members, or itself."""
        return tuple(self.member(draw) for draw in range(self.members)) or (self,)

    def matched(self, dose: float) -> Pack:
        """Return a matched pack with its temperature at the solved dose, a single pack."""
        effects = tuple(
            dataclasses.replace(item, dose=dose) if isinstance(item.effect, Temperature) else item
            for item in self.effects
        )
        return dataclasses.replace(self, effects=effects, match=None)

    def __str__(self) -> str:
        parts = [str(item) for item in self.effects] + (["system text"] if self.system else [])
        return f"{self.name}: {'; '.join(parts) or 'nothing'}"
