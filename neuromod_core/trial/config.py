"""A study as its configuration states it, checked before anything is loaded."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType

from neuromod_core.design import Order, sequences
from neuromod_core.design.williams import ORDERS
from neuromod_core.kernel.errors import ConfigError, DesignError, OutOfRange
from neuromod_core.kernel.register import unknown
from neuromod_core.models import ModelSpec
from neuromod_core.trial.library import Library
from neuromod_core.trial.panel import Panel

ANALYSIS: Mapping[str, tuple[float, float]] = MappingProxyType(
    {"min_effect": (0, 100), "alpha": (1e-6, 0.5), "draws": (999, 10_000_000), "resamples": (999, 1_000_000)}
)
"""The keys of the analysis, with what each may be: all that an amendment may change."""


def shared_arms(roles: Sequence[str]) -> tuple[int, ...]:
    """Return the arms that every unit receives however many there are: the baseline, and what arms are compared with.

    >>> shared_arms(["P0", "P1", "pack", "P2"])
    (0, 1, 3)
    """
    return (0, *(place for place, role in enumerate(roles) if place and role in ("P1", "P2")))


@dataclass(frozen=True)
class StudyConfig:
    """What a study asks, of whom, and how it will be judged.

    arms: pack names; the first is the baseline.  dose: factor on every dose of the packs under test and the assay.
    units: number of distinct vignettes.  sham_per_unit: draws of the sham ensemble that each unit receives.
    pilot_units: vignettes of the positive control, none of them a unit (sign flips need five to reach p < .05).
    foil_items: items administered of every scale but the primary one, spread evenly over it.
    units_per_shard: units whose cells run in one batch.  option_units: units on which option readings that are not
    primary are still monitored.  sampled_units: units on which written replies are sampled and read too.
    story_tokens: length of a story.  batch: texts in one scoring pass.
    min_effect: smallest specificity contrast of interest, nats per pair.  alpha: error rate of the primary family.
    draws: sign flips where enumeration is too large.  resamples: of the bootstrap-t intervals.
    order: how orders are made, "williams" (balanced for carry-over too) or "cyclic".
    allow_unvalidated: whether packs may use vectors that failed their validation; every row then says so.
    panel: what is measured beside the scales.
    """

    name: str
    title: str
    question: str
    model: ModelSpec
    arms: tuple[str, ...]
    scales: tuple[str, ...]
    primary_scale: str
    units: int
    seed: int = 0
    dose: float = 1.0
    sham_per_unit: int = 3
    pilot_units: int = 8
    units_per_shard: int = 2
    option_units: int = 8
    sampled_units: int = 0
    foil_items: int = 8
    story_tokens: int = 96
    batch: int = 192
    min_effect: float = 0.5
    alpha: float = 0.05
    draws: int = 100_000
    resamples: int = 9_999
    allow_unvalidated: bool = False
    order: Order = "williams"
    panel: Panel = field(default_factory=Panel)

    def __post_init__(self) -> None:
        if self.order not in ORDERS:
            raise unknown("order", self.order, list[str](ORDERS), "design.order")
        for name, low, high in (
            ("units", 2, 10_000),
            ("dose", -4, 4),
            ("sham_per_unit", 1, 1_000),
            ("pilot_units", 5, 1_000),
            ("units_per_shard", 1, self.units),
            ("option_units", 0, self.units),
            ("sampled_units", 0, self.units),
            ("foil_items", 1, 1_000),
            ("story_tokens", 1, 4_096),
            ("batch", 1, 100_000),
            *((name, *limits) for name, limits in ANALYSIS.items()),
        ):
            value = getattr(self, name)
            if not low <= value <= high:
                raise OutOfRange(f"study {self.name!r}: {name} is {value:g}; allowed is {low:g} to {high:g}.")
        for name, values in (("arms", self.arms), ("scales", self.scales)):
            if len(set(values)) < len(values):
                raise ConfigError(f"study {self.name!r}: {name} names one twice: {', '.join(values)}.")
        if self.primary_scale not in self.scales:
            raise ConfigError(f"study {self.name!r}: primary_scale {self.primary_scale!r} is not among its scales.")

    def check(self, library: Library) -> None:
        """Raise unless packs and scales exist and the arms can be compared: a baseline, a P1, and targets measured."""
        packs = [library.pack(name) for name in self.arms]
        for name in self.scales:
            library.scale(name)
        count = len(sequences(len(packs), self.order, shared_arms([pack.role for pack in packs])))
        if self.units % count:
            raise DesignError(
                f"study {self.name!r}: units is {self.units}; {len(packs)} arms need a multiple of {count}, "
                f"so that every order of a {self.order} design is used equally often."
            )
        if len(self.scales) < 2:
            raise ConfigError(f"study {self.name!r}: a specificity contrast needs a scale and a foil; given one scale.")
        if packs[0].role not in ("none", "P0"):
            raise ConfigError(
                f"study {self.name!r}: the first arm is the baseline and does nothing; given {self.arms[0]!r}."
            )
        for role in ("P1", "P2"):
            if len([pack for pack in packs if pack.role == role]) > 1:
                raise ConfigError(f"study {self.name!r}: at most one {role} arm.")
        for pack in packs:
            if pack.target_scale is not None and pack.target_scale not in self.scales:
                raise ConfigError(
                    f"study {self.name!r}: arm {pack.name!r} targets {pack.target_scale!r}, not among its scales."
                )
        study_vignettes = sum(1 for vignette in library.vignettes if vignette.split == "study")
        if self.units > study_vignettes:
            raise OutOfRange(
                f"study {self.name!r}: units is {self.units}; {study_vignettes} distinct vignettes are written."
            )
