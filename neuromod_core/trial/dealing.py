"""Who receives what, and when: arms to units in balanced orders, members to cells, cells to shards and slots.

Nothing here is drawn from the study's public seed: whoever knew the seed could deal the same orders again and would
know the allocation. The stream is the allocator's own.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from neuromod_core.design import crossover
from neuromod_core.trial.config import StudyConfig, shared_arms
from neuromod_core.trial.plan import Arm, Cell, Unit


@dataclass(frozen=True)
class Place:
    """A cell before it has a code."""

    unit: Unit
    period: int
    arm: str
    member: str
    battery: str


def places(
    config: StudyConfig,
    arms: Sequence[Arm],
    units: Sequence[Unit],
    generator: np.random.Generator,
    further_battery: str,
) -> list[Place]:
    """Return the cells of all units: one full battery per arm in the unit's order, then further members of ensembles.

    Sequences are balanced over places in a shard as well, so that no arm keeps to a row of the batch. Further members
    come after the last period in random order: beside their arm they would tell in which period it was given; they
    are asked what `further_battery` says.
    """
    orders = crossover(
        len(units),
        len(arms),
        generator,
        order=config.order,
        shared=shared_arms([arm.role for arm in arms]),
        runs=[number % config.units_per_shard for number in range(len(units))],
    )
    sham = next((arm.members for arm in arms if arm.role == "P1"), ())
    shuffled = [sham[place] for place in generator.permutation(len(sham))]
    found = []
    for number, unit in enumerate(units):
        dealt = [(arms[index].name, _dealt(config, arms[index], number, shuffled)) for index in orders[number]]
        further = [(arm, member) for arm, members in dealt for member in members[1:]]
        found += [
            Place(unit, period, arm, members[0], "full") for period, (arm, members) in enumerate(dealt) if members
        ]
        for turn, at in enumerate(generator.permutation(len(further)).tolist()):
            arm, member = further[at]
            found.append(Place(unit, len(dealt) + turn, arm, member, further_battery))
    return found


def cells(config: StudyConfig, dealt: Sequence[Place], codes: Sequence[str]) -> tuple[Cell, ...]:
    """Return the cells with shard and slot: within a shard, period by period, so that arms alternate over slots."""
    units = list(dict.fromkeys(place.unit.unit_id for place in dealt))
    shard_of = {unit: number // config.units_per_shard for number, unit in enumerate(units)}
    order = sorted(range(len(dealt)), key=lambda at: (shard_of[dealt[at].unit.unit_id], dealt[at].period, at))
    slots: dict[int, int] = {}
    found = []
    for at in order:
        place, shard = dealt[at], shard_of[dealt[at].unit.unit_id]
        slots[shard] = slots.get(shard, -1) + 1
        found.append(Cell(codes[at], place.unit.unit_id, place.period, slots[shard], shard, place.battery))
    return tuple(found)


def _dealt(config: StudyConfig, arm: Arm, unit: int, shuffled: Sequence[str]) -> list[str]:
    """Return the members of `arm` that a unit receives: all of a small set, a balanced part of the sham ensemble."""
    if arm.role != "P1":
        return list(arm.members)
    per = min(config.sham_per_unit, len(shuffled))
    return [shuffled[(unit * per + place) % len(shuffled)] for place in range(per)]
