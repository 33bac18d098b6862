"""Stopping an arm for safety while a study runs: looks at registered places, arms as codes, missing cells with reasons.

A shard's cells depend on the shards before its look and on nothing else, so that a study that is resumed, or run by
somebody else, stops the same arms at the same place. The baseline is never stopped: nothing could be compared without.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import pandas as pd

from neuromod_core.instruments import Scale
from neuromod_core.kernel.errors import IntegrityError
from neuromod_core.safety import Halt, Stop
from neuromod_core.store.commits import read_table
from neuromod_core.store.tables import schema_of
from neuromod_core.trial.archive import Archive, frame
from neuromod_core.trial.panel import ENDPOINTS, StopRule
from neuromod_core.trial.plan import Outline, Registration
from neuromod_core.trial.room import Line, Seat
from neuromod_core.trial.scoring import Labels

STOPPED = "arm stopped"


@dataclass(frozen=True)
class Look:
    """What one look says of one arm, by its code. number: 1 for the first; shard: the first one it decides about."""

    number: int
    shard: int
    arm: str
    halt: Halt

    def as_row(self) -> dict[str, object]:
        """Return the row of a table of looks."""
        return {"look": self.number, "shard": self.shard, "arm": self.arm, **self.halt.as_row()}


@dataclass(frozen=True)
class Watch:
    """Who watches safety while a study runs: a rule, and each cell's arm as a code; no name, no pack.

    shard_of: cell code -> shard.  arm_of: cell code -> arm code.  spared: the code of the baseline.
    """

    rule: StopRule
    shards: int
    shard_of: Mapping[str, int]
    arm_of: Mapping[str, str]
    spared: str

    @property
    def looks(self) -> int:
        """How many looks there are: one before each batch of `every` shards but the first."""
        return (self.shards - 1) // self.rule.every

    def before(self, shard: int) -> int:
        """Return how many shards must be there before this one may run: those up to the last look before it."""
        return shard // self.rule.every * self.rule.every

    def history(self, panel: pd.DataFrame, until: int) -> list[Look]:
        """Return the looks before shard `until`, of arms that were not stopped before. panel: rows of earlier shards.

        Once an arm is stopped it is looked at no more.
        """
        rule = self.rule
        judge = Stop(ENDPOINTS[rule.endpoint], rule.bound, alpha=rule.alpha, looks=max(1, self.looks))
        rows = panel[(panel["instrument"] == rule.endpoint) & panel["event"].notna()]
        shard, arm = rows["cell_code"].map(self.shard_of), rows["cell_code"].map(self.arm_of)
        stopped: set[str] = set()
        found = []
        for number in range(1, until // rule.every + 1):
            at = number * rule.every
            for code in sorted(set(self.arm_of.values()) - stopped - {self.spared}):
                seen = rows[(shard < at) & (arm == code)]["event"]
                if len(seen):
                    found.append(Look(number, at, code, judge.judge(int(seen.sum()), len(seen))))
            stopped |= {look.arm for look in found if look.halt.stop}
        return found

    def reasons(self, panel: pd.DataFrame, shard: int) -> Mapping[str, str]:
        """Return why cells of a shard are not run, by code: those of stopped arms. No arm is named."""
        stops = {look.arm: look for look in self.history(panel, shard) if look.halt.stop}
        return {
            code: f"{STOPPED} at look {stops[arm].number}: {stops[arm].halt.endpoint}"
            for code, arm in self.arm_of.items()
            if self.shard_of[code] == shard and arm in stops
        }


def watch(registration: Registration) -> Watch | None:
    """Return who watches a registered study; None when it has no stop rule."""
    plan = registration.plan
    if plan.panel.stop is None:
        return None
    names = {arm.name: code for arm, code in zip(plan.arms, registration.codes, strict=True)}
    return Watch(
        rule=plan.panel.stop,
        shards=plan.shards,
        shard_of={cell.cell_code: cell.shard for cell in plan.cells},
        arm_of={item.cell_code: names[item.arm] for item in registration.allocation},
        spared=names[plan.baseline],
    )


def unseen(archive: Archive, registration: Registration, shard: int) -> list[int]:
    """Return the shards that a look before this one needs and that are not committed, in order."""
    watcher = watch(registration)
    return sorted(set(range(watcher.before(shard))) - set(archive.done(registration))) if watcher else []


def not_run(archive: Archive, registration: Registration, shard: int) -> Mapping[str, str]:
    """Return why cells of a shard are not run, by code, from the shards that are committed.

    Raises:
        IntegrityError: when a shard that a look before this one needs is not there.
    """
    if (watcher := watch(registration)) is None:
        return {}
    if missing := unseen(archive, registration, shard):
        raise IntegrityError(f"Shard {shard} comes after a safety look that needs shard {missing[0]}; run that first.")
    done = archive.done(registration)
    markers = {done[number].shard_id: done[number] for number in range(watcher.before(shard))}
    return watcher.reasons(frame(read_table(archive.store, "panel", markers=markers)), shard)


def looks(registration: Registration, panel: pd.DataFrame) -> list[Look]:
    """Return all looks of a study whose shards are all there, arms by code."""
    watcher = watch(registration)
    return watcher.history(panel, watcher.shards - 1) if watcher else []


def missed(
    scales: Sequence[Scale], seats: Sequence[Seat], reasons: Mapping[str, str], *, unvalidated: bool
) -> list[Line]:
    """Return the rows of `responses` of cells that were not run: every item, missing with the reason."""
    empty = dict.fromkeys(schema_of("responses").names)
    return [
        empty
        | {"cell_code": seat.cell.cell_code, "instrument": scale.name, "item": item.id, "reading": "statement"}
        | {"valid": False, "reason": reasons[seat.cell.cell_code], "unvalidated": unvalidated}
        for seat in seats
        for scale in scales
        for item in scale.items
    ]


def ran(rows: pd.DataFrame) -> pd.DataFrame:
    """Return the rows of cells that were run."""
    stopped = rows["reason"].fillna("").astype(str).str.startswith(STOPPED)
    return rows[~stopped]


def explained(plan: Outline, scores: pd.DataFrame, responses: pd.DataFrame, labels: Labels) -> pd.DataFrame:
    """Return scores with the reason of the stop where the cell of a score was not run."""
    held = responses[responses["reason"].fillna("").astype(str).str.startswith(STOPPED)]
    if held.empty:
        return scores
    units = {cell.cell_code: cell.unit_id for cell in plan.cells}
    reasons = dict(zip(held["cell_code"].astype(str), held["reason"].astype(str), strict=True))
    why = {(units[code], *labels.by_cell[code]): reason for code, reason in reasons.items()}
    keys = zip(scores["unit_id"], scores["arm"], scores["member"], strict=True)
    return scores.assign(reason=[why.get(key, old) for key, old in zip(keys, scores["reason"], strict=True)])
