"""The size of a study before it is run, and what it could find: counted from its plan, or from its configuration."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass

from neuromod_core.design import sets
from neuromod_core.packs import Pack
from neuromod_core.stats import detectable
from neuromod_core.trial.config import StudyConfig, shared_arms
from neuromod_core.trial.library import Library
from neuromod_core.trial.panel import LIMITS, Panel
from neuromod_core.trial.plan import Plan
from neuromod_core.trial.written import LONG
from tasks.estimating import Estimate

Row = Mapping[str, object]
SENTENCE, CONTEXT, PASSAGE = 11, 90, 80  # tokens, of a typical sentence, prompt and passage
QUESTION, OPENINGS, OPTIONS, PARAGRAPH = 50, 60, 48, 120  # tokens: a short prompt, what is read after it, a paragraph
READ = {
    "requests": QUESTION + OPENINGS,
    "xstest": QUESTION + OPENINGS,
    "problems": QUESTION + OPTIONS,
    "figures": 3 * SENTENCE,
    "grammar": 2 * SENTENCE,
    "paragraphs": PARAGRAPH,
}
WRITTEN = {"replies": (QUESTION, 1), "writing": (QUESTION, 1), "summaries": (2 * CONTEXT, LONG)}
WRITTEN |= {"associations": (CONTEXT, LONG)}
"""Part of a panel -> tokens of its prompt, and of a reply how many lengths are written."""
BANKED = ("requests", "xstest", "replies", "figures", "summaries")  # a bank's texts are asked once: it may run out
GOAL = 0.8  # power


@dataclass(frozen=True)
class Size:
    """Counts of a study. predicted: arms with a target scale.  full: cells with a whole battery.  items: per cell."""

    study: str
    arms: int
    predicted: int
    units: int
    cells: int
    full: int
    shards: int
    items: int
    story_tokens: int
    min_effect: float
    alpha: float
    panel: Panel

    @property
    def tokens(self) -> int:
        """About how many tokens the model reads and writes for scales, neutral text, stories and the panel."""
        stories = self.full * (PASSAGE + self.story_tokens + CONTEXT)
        return self.cells * (2 * self.items * SENTENCE + CONTEXT) + stories + self.panel_tokens

    @property
    def panel_tokens(self) -> int:
        """About how many of them are of the panel, longest replies assumed.

        Sum over parts of  texts x cells per unit x (prompt + what is read or written);  a story that is read once more
        is read by its arm and by the undosed model.
        """
        panel = self.panel
        each = READ | {name: ask + times * panel.reply_tokens for name, (ask, times) in WRITTEN.items()}
        asked = {name: getattr(panel, name) * self.units for name in each}
        asked |= {name: min(asked[name], LIMITS[name][1]) for name in BANKED}
        once: float = sum(asked[name] * each[name] for name in each)
        once += min(panel.telemetry_units, self.units) * 2 * (CONTEXT + self.story_tokens)
        return round(once * self.full / self.units)

    @property
    def smallest(self) -> str:
        """The least specificity contrast of a predicted arm that the study finds with power 0.8.

        min_effect + d SD:  d of a one-sided paired t test at alpha / (number of predicted arms), SD of the contrast
        over units.  Bonferroni in place of max-T: an upper limit.
        """
        if not self.predicted:
            return "no arm is predicted to move a scale"
        d = detectable(self.units, test="greater", alpha=self.alpha / self.predicted, goal=GOAL)
        return f"{self.min_effect:g} nats + {d:.2f} standard deviations"


def size_of(config: StudyConfig, texts: Library) -> Size:
    """Return the size of a study that is not registered."""
    packs = [texts.pack(name) for name in config.arms]
    cells, full = _cells(config, packs)
    return Size(
        study=config.name,
        arms=len(packs),
        predicted=sum(pack.target_scale is not None for pack in packs),
        units=config.units,
        cells=cells,
        full=full,
        shards=-(-config.units // config.units_per_shard),
        items=_items(config, texts),
        story_tokens=config.story_tokens,
        min_effect=config.min_effect,
        alpha=config.alpha,
        panel=config.panel,
    )


def size_of_plan(plan: Plan, texts: Library) -> Size:
    """Return the size of a registered study."""
    return Size(
        study=plan.study,
        arms=len(plan.arms),
        predicted=sum(arm.target_scale is not None for arm in plan.arms),
        units=len(plan.units),
        cells=len(plan.cells),
        full=sum(cell.battery == "full" for cell in plan.cells),
        shards=plan.shards,
        items=_items(plan, texts),
        story_tokens=plan.story_tokens,
        min_effect=plan.min_effect,
        alpha=plan.alpha,
        panel=plan.panel,
    )


def _items(plan: StudyConfig | Plan, texts: Library) -> int:
    scales = texts.administered(plan.scales, plan.primary_scale, plan.foil_items)
    return sum(len(scale.items) for scale in scales)


def _cells(config: StudyConfig, packs: list[Pack]) -> tuple[int, int]:
    """Return how many cells a study has, and how many of them with a full battery."""
    parts = sets(len(packs), shared_arms([pack.role for pack in packs]))
    per_unit = full = 0.0
    for place, pack in enumerate(packs):
        share = sum(place in part for part in parts) / len(parts)
        members = 1
        if pack.role == "P1":
            members = min(config.sham_per_unit, pack.members)
        elif pack.role == "P2":
            members = sum(1 for other in packs if other.target_scale is not None)
        per_unit, full = per_unit + share * members, full + share
    return round(per_unit * config.units), round(full * config.units)


def rows(size: Size, done: Collection[int], measured: Estimate | None) -> list[Row]:
    """Return the size of a study as rows.  done: its shards that are committed."""
    values: dict[str, object] = {
        "study": size.study,
        "arms": size.arms,
        "units": size.units,
        "cells": size.cells,
        "shards": size.shards,
        "shards done": len(done),
        "model tokens (about)": size.tokens,
        "of these for the panel": size.panel_tokens,
        "rows of responses": size.cells * size.items,
        f"smallest effect found (power {GOAL:g})": size.smallest,
    }
    if measured is None:
        values["minutes at 500 tokens/s"] = f"{size.tokens / 500 / 60:.1f}"
    else:
        values |= _measured(measured, done)
    return [{"what": key, "value": value} for key, value in values.items()]


def _measured(found: Estimate, done: Collection[int]) -> dict[str, object]:
    unit, scale = ("GPU-hours", found.gpus) if found.gpus else ("hours on this processor", 1)
    whole, left, total = found.left(()), found.left(done), sum(found.parts.values()) or 1.0
    return {
        "seconds of timing": f"{found.spent:.0f}",
        f"{unit}, all cells": f"{whole.seconds * scale / 3600:.3f}",
        f"{unit}, cells left": f"{left.seconds * scale / 3600:.3f}",
        "minutes left": f"{left.seconds / 60:.1f}",
        "bytes of shards": round(whole.bytes),
        "of its time": ", ".join(f"{name} {100 * value / total:.0f} %" for name, value in found.parts.items() if value),
    }
