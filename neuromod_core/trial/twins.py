"""A/A studies on a real model: one pack under two names, through the administration and the analysis of a study.

Where the twins share their unit's randomness, as arms of a study do, every number must be the same: a difference would
be something that leaks from one cell into another, from the order, the slot in the batch, or the name. Where each twin
draws for itself nothing but luck is left, and a level of .05 must be exceeded by luck alone.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd

from neuromod_core.design import crossover
from neuromod_core.kernel.errors import OutOfRange
from neuromod_core.kernel.rng import rng
from neuromod_core.packs import Pack, parse_pack
from neuromod_core.stats import constant_by_construction, sign_flip
from neuromod_core.trial.administer import administer
from neuromod_core.trial.analysis import Verdict, scale_shifts, side_effects, tables
from neuromod_core.trial.checks import Check, claimed
from neuromod_core.trial.control import pilot_units
from neuromod_core.trial.plan import Arm, Cell, Plan, Unit
from neuromod_core.trial.room import Line, Room, Seat
from neuromod_core.trial.scoring import Label, Labels, neutral_of, scores_of
from neuromod_core.trial.simulate import plan_of

FIRST, SECOND = "twin", "its twin"
UNITS, ITEMS, TOKENS = 6, 2, 12  # small on purpose: an A/A study has no effect to find
LEAST = 10
STORY = ("entropy", "logprob")
Tick = Callable[[], None]


@dataclass(frozen=True, eq=False)
class Outcome:
    """What one A/A study gives: verdicts on the second twin against the first, and raw rows with unit and arm."""

    verdicts: list[Verdict]
    responses: pd.DataFrame
    stories: pd.DataFrame


def twin() -> Pack:
    """Return a pack with chance in it: tokens hidden from attention at random, and a raised temperature."""
    names = ("attention_masking", "temperature")
    pack = {
        "name": "twin",
        "description": "Chance: tokens are hidden from attention at random, and sampling is warmer.",
        "class": "control",
        "version": 1,
        "effects": [{"effect": name, "weight": 0.5, "direction": "up"} for name in names],
    }
    return parse_pack(json.dumps(pack), "the pack of the A/A study")


def planned(room: Room) -> Plan:
    """Return the plan of one A/A study: two arms, the pilot vignettes, few items of every scale of the room."""
    scales = [scale.name for scale in room.scales]
    arms = [Arm(name, "pack", "{}", "", None, None, ("",), {}) for name in (FIRST, SECOND)]
    units = [replace(unit, options=False) for unit in pilot_units(room.prompter.library, UNITS)]
    plan = plan_of(arms, scales, minimum=0.0, draws=9_999, resamples=199)
    return replace(plan, units=tuple(units), primary_reading="statement")


def studied(room: Room, plan: Plan, pack: Pack, name: str, *, shared: bool) -> Outcome:
    """Return what a study gives.

    name: of the study; cells have codes and orders of their own.  shared: whether both twins draw the same numbers.
    """
    generator = rng(plan.seed, "twins", name)
    cells: list[Cell] = []
    seats: list[Seat] = []
    labels: dict[str, Label] = {}
    orders = crossover(len(plan.units), 2, generator)
    for period in range(2):
        for unit, order in zip(plan.units, orders, strict=True):
            arm = plan.arms[order[period]].name
            cell = Cell(generator.bytes(16).hex(), unit.unit_id, period, len(cells), 0, "full")
            cells.append(cell)
            labels[cell.cell_code] = (arm, "")
            seats.append(Seat(cell, _drawing(unit, name if shared else f"{name}, {arm}"), replace(pack, name=arm)))
    told = replace(plan, cells=tuple(cells))
    responses, stories = (_named(lines, cells, labels) for lines in administer(room, seats))
    known = Labels(labels)
    found = scale_shifts(told, tables(told, scores_of(told, responses, known)))
    return Outcome(found + side_effects(told, neutral_of(told, responses, known)), responses, stories)


def _named(lines: Sequence[Line], cells: Sequence[Cell], labels: Mapping[str, Label]) -> pd.DataFrame:
    """Return raw rows with unit and arm."""
    units = {cell.cell_code: cell.unit_id for cell in cells}
    rows = pd.DataFrame(lines)
    codes = [str(code) for code in rows["cell_code"]]
    return rows.assign(unit_id=[units[code] for code in codes], arm=[labels[code][0] for code in codes])


def _drawing(unit: Unit, name: str) -> Unit:
    """Return the unit as its rows draw: the stream of a row is named by the unit."""
    return replace(unit, unit_id=f"{unit.unit_id}, {name}")


def story_differences(stories: pd.DataFrame, column: str) -> np.ndarray[tuple[int], np.dtype[np.float64]]:
    """Return the second twin's mean over a story's tokens minus the first's, per unit."""
    means = stories.assign(mean=[float(np.mean(values)) for values in stories[column]])
    wide = means.pivot(index="unit_id", columns="arm", values="mean")
    found: np.ndarray[tuple[int], np.dtype[np.float64]] = (wide[SECOND] - wide[FIRST]).to_numpy(dtype=np.float64)
    return found


def exact(outcome: Outcome) -> list[Check]:
    """Return the checks of a study whose twins share their randomness: no number and no token may differ."""
    moved = sum(verdict.informative for verdict in outcome.verdicts)
    return [
        _none("same draws: raw rows in which the twins differ", *_differing(outcome.responses)),
        _none("same draws: stories in which the twins differ", *_differing(outcome.stories)),
        _none("same draws: hypotheses with any difference", moved, len(outcome.verdicts)),
    ]


def _differing(rows: pd.DataFrame) -> tuple[int, int]:
    """Return how many rows of the second twin have none of the first that is equal in everything, of how many."""
    said = rows.drop(columns=["cell_code", "arm"]).apply(lambda row: repr(row.tolist()), axis=1)
    first, second = (said[rows["arm"] == arm] for arm in (FIRST, SECOND))
    return int((~second.isin(set(first))).sum()), len(second)


def _none(name: str, count: int, n: int) -> Check:
    return Check(part="exact", name=name, value=count / n, low=0.0, high=0.0, n=n, error=0.0)


def pvalues(outcome: Outcome, generator: np.random.Generator) -> Mapping[str, float]:
    """Return the p-value of every measure that the twins differ in, from one study."""
    found = {f"{verdict.reading}, {verdict.scale}": verdict.p for verdict in outcome.verdicts}
    for column in STORY:
        differences = story_differences(outcome.stories, column)
        alike = constant_by_construction(differences)
        found[f"stories, {column}"] = None if alike else sign_flip(differences, generator=generator).pvalue
    return {name: p for name, p in found.items() if p is not None}


def audit(room: Room, studies: int, tick: Tick = lambda: None) -> list[Check]:
    """Return the checks of one study with shared randomness and of many without; `tick` is told of each study.

    Raises:
        OutOfRange: for fewer than ten studies.
    """
    if studies < LEAST:
        raise OutOfRange(f"An audit of {studies} A/A studies says nothing; at least {LEAST}.")
    small = replace(room, scales=tuple(scale.short(ITEMS) for scale in room.scales), story_tokens=TOKENS)
    plan, pack = planned(small), twin()
    checks = exact(studied(small, plan, pack, "shared", shared=True))
    tick()
    found: dict[str, list[float]] = {}
    for number in range(studies):
        name = f"study {number}"
        one = studied(small, plan, pack, name, shared=False)
        for measure, p in pvalues(one, rng(plan.seed, "twins' stories", name)).items():
            found.setdefault(measure, []).append(p)
        tick()
    return checks + [claimed(f"own draws: {measure}", np.array(p) <= plan.alpha).check for measure, p in found.items()]
