"""The order as it was executed: read from the commit markers, tabulated against arms, and compared with the plan.

Executed index, batch slot and process depend on scheduling. They live in markers, outside the hashed data, and say
nothing of arms; with the opened allocation they show whether scheduling favoured one.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import cast

import numpy as np
import pandas as pd

from neuromod_core.design import BalanceAudit, BalanceRow, CarryOver, balance, carry_over
from neuromod_core.kernel.errors import DesignError, IntegrityError
from neuromod_core.kernel.types import Json
from neuromod_core.trial.archive import Archive
from neuromod_core.trial.hypotheses import reading_of
from neuromod_core.trial.plan import Cell, Plan, Registration
from neuromod_core.trial.room import Seat

ORDER = "analysis/order.json"
NOT_JUDGED = 1_000_000


@dataclass(frozen=True)
class Executed:
    """One cell as it ran. index: rank of its shard in execution; slot: row of the batch; process: who ran it."""

    cell: Cell
    arm: str
    index: int
    slot: int
    process: str


def ran(seats: Sequence[Seat], *, index: int, process: str) -> Mapping[str, Json]:
    """Return what a shard's marker keeps of its execution. index: how many shards were committed before it began."""
    return {"index": index, "process": process, "cells": [seat.cell.cell_code for seat in seats]}


def planned(registration: Registration) -> list[Executed]:
    """Return the cells in the order in which the plan has them."""
    arm_of = {item.cell_code: item.arm for item in registration.allocation}
    return [
        Executed(cell, arm_of[cell.cell_code], cell.shard, cell.slot, "any")
        for cell in sorted(registration.plan.cells, key=lambda cell: (cell.shard, cell.slot))
    ]


def executed(archive: Archive, registration: Registration) -> list[Executed]:
    """Return the cells in the order in which they ran.

    Raises:
        IntegrityError: when a marker does not say how its shard ran, or names other cells than the plan.
    """
    cells = {cell.cell_code: cell for cell in registration.plan.cells}
    arm_of = {item.cell_code: item.arm for item in registration.allocation}
    found = []
    for shard, marker in archive.done(registration).items():
        match marker.provenance.get("executed"):
            case {"index": int() as index, "process": str() as process, "cells": list() as codes}:
                pass
            case _:
                raise IntegrityError(f"The marker of shard {shard} does not say in which order its cells ran.")
        if sorted(codes) != sorted(code for code, cell in cells.items() if cell.shard == shard):
            raise IntegrityError(f"The marker of shard {shard} names other cells than the plan.")
        found += [
            Executed(cells[code], arm_of[code], index, slot, process) for slot, code in enumerate(map(str, codes))
        ]
    return sorted(found, key=lambda one: (one.index, one.cell.shard, one.slot))


def audits(plan: Plan, ran_cells: Sequence[Executed]) -> list[BalanceAudit]:
    """Return the balance of an order over arms: one audit, or one per set where units receive different arms."""
    full = [one for one in ran_cells if one.cell.battery == "full"]
    arms: defaultdict[str, set[str]] = defaultdict(set)
    for one in full:
        arms[one.cell.unit_id].add(one.arm)
    sets = sorted({tuple(sorted(given)) for given in arms.values()})
    groups = [[one for one in full if tuple(sorted(arms[one.cell.unit_id])) == part] for part in sets]
    return [_audit(plan, group, whole=len(groups) == 1) for group in groups]


def _audit(plan: Plan, cells: Sequence[Executed], *, whole: bool) -> BalanceAudit:
    units = [plan.unit(one.cell.unit_id) for one in cells]
    return balance(
        [one.cell.unit_id for one in cells],
        [one.arm for one in cells],
        periods=_periods(cells),
        nuisance={
            "wording": [str(unit.paraphrase) for unit in units],
            "item wording": [str(unit.item_wording) for unit in units],
            "option order": [unit.option_order for unit in units],
            "option labels": [unit.labels for unit in units],
            "opener": [unit.opener for unit in units],
            "passage": [unit.passage for unit in units],
            "batch slot": [one.slot for one in cells],
            "executed index": [one.index for one in cells],
            "process": [one.process for one in cells],
        },
        allowed=_allowed(plan, cells, whole=whole),
    )


def _periods(cells: Sequence[Executed]) -> list[int]:
    """Return the period in which each cell ran: its rank within its unit."""
    seen: defaultdict[str, int] = defaultdict(int)
    periods = []
    for one in cells:
        periods.append(seen[one.cell.unit_id])
        seen[one.cell.unit_id] += 1
    return periods


def _allowed(plan: Plan, cells: Sequence[Executed], *, whole: bool) -> Mapping[str, int]:
    """Return the spreads that the design itself allows: 1 per batch slot with one square, 2 with the two of an odd t.

    A cyclic order does not balance neighbours; with ragged shards, or sets, slots cannot be balanced: not judged.
    """
    sizes = {len({one.cell.unit_id for one in cells if one.cell.shard == shard}) for shard in range(plan.shards)} - {0}
    even = len({one.arm for one in cells}) % 2 == 0 or plan.order == "cyclic"
    slot = (1 if even else 2) if whole and len(sizes) == 1 else NOT_JUDGED
    return {"batch slot": slot} | ({"carry-over": NOT_JUDGED} if plan.order == "cyclic" else {})


def departures(registration: Registration, ran_cells: Sequence[Executed]) -> list[str]:
    """Return the cells that ran in another batch slot than planned, by code."""
    return [one.cell.cell_code for one in ran_cells if one.slot != one.cell.slot]


def carried(plan: Plan, scores: pd.DataFrame, ran_cells: Sequence[Executed]) -> CarryOver | str:
    """Return the carry-over F of the primary scale in the raw primary reading, or why there is none.

    A diagnostic: nothing is decided by it.
    """
    wanted = scores[(scores["scale"] == plan.primary_scale) & (scores["reading"] == reading_of(plan, "raw"))]
    keyed = wanted.sort_values("member").groupby(["unit_id", "arm"])["value"].first().to_dict()
    full = [one for one in ran_cells if one.cell.battery == "full"]
    values = [cast(float, keyed.get((one.cell.unit_id, one.arm), float("nan"))) for one in full]
    if not np.isfinite(values).all():
        return f"{int((~np.isfinite(values)).sum())} of {len(values)} cells have no valid score"
    try:
        return carry_over(values, [one.cell.unit_id for one in full], [one.arm for one in full], periods=_periods(full))
    except DesignError as error:
        return str(error)


def order_table(registration: Registration, ran_cells: Sequence[Executed]) -> dict[str, object]:
    """Return the audit of an executed order as data: cross-tabs, each with its lowest and highest count over arms."""
    found = audits(registration.plan, ran_cells)
    return {
        "cells": len(ran_cells),
        "processes": len({one.process for one in ran_cells}),
        "departures": departures(registration, ran_cells),
        "audits": [[_row(row) for row in audit.rows] for audit in found],
        "balanced": all(audit.ok for audit in found),
    }


def _row(row: BalanceRow) -> dict[str, object]:
    return {**row.as_row(), "allowed": None if row.allowed >= NOT_JUDGED else row.allowed}
