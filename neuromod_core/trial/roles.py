"""Who may hold what before unblinding. A role is a frozen value made by the allocator; it has no field for the rest.

    allocator   registration: plan, allocation, key           makes all other roles
    runner      public plan, the pack of each cell in memory  cannot be printed, pickled or written down
    scorer      public plan, raw rows                         sees cell codes
    analyst     plan with arms as codes, scores               sees a dummy allocation of the arm codes
    unblinder   registration, records, code commit            opens the allocation, if the ledger permits it

Fields are typed, and checked again when a role is made: a registration where a public plan belongs is refused.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import NoReturn

import pandas as pd

from neuromod_core.kernel.errors import IntegrityError
from neuromod_core.kernel.rng import rng
from neuromod_core.packs import Pack
from neuromod_core.trial.administer import pack_of
from neuromod_core.trial.analysis import Verdict, analyse
from neuromod_core.trial.archive import Archive
from neuromod_core.trial.crossed import cross_verdicts
from neuromod_core.trial.plan import BATTERIES, Arm, Plan, PublicPlan, Registration, cells_of
from neuromod_core.trial.room import Seat
from neuromod_core.trial.scoring import Label, Labels, neutral_of, scores_of

CODE = re.compile(r"[0-9a-f]{32}")


def _only(value: object, kind: type) -> None:
    """Raise unless `value` is exactly what a role may hold there."""
    if type(value) is not kind:
        raise IntegrityError(f"This role holds a {kind.__name__} there; given a {type(value).__name__}.")


@dataclass(frozen=True)
class CodedPlan:
    """A plan whose arms are codes: no name, no pack, no fingerprint.

    Raises:
        IntegrityError: for an arm that says what it is.
    """

    plan: Plan

    def __post_init__(self) -> None:
        _only(self.plan, Plan)
        if self.plan.calibration or self.plan.unvalidated:
            raise IntegrityError("An analyst's plan does not say which vectors its packs use.")
        for arm in self.plan.arms:
            if not CODE.fullmatch(arm.name) or arm.pack or arm.fingerprint:
                raise IntegrityError("An analyst's plan has arms that are codes, without packs and fingerprints.")


@dataclass(frozen=True, repr=False)
class Runner:
    """Who administers cells: knows each cell's pack, and keeps it in this process's memory."""

    plan: PublicPlan
    packs: Mapping[str, Pack]

    def __post_init__(self) -> None:
        _only(self.plan, PublicPlan)

    def __repr__(self) -> str:
        return f"Runner({len(self.packs)} cells)"

    def __reduce__(self) -> NoReturn:
        raise IntegrityError("A runner's packs stay in its memory: it cannot be pickled.")

    def seats(self, shard: int) -> list[Seat]:
        """Return the seats of a shard in slot order."""
        return [
            Seat(cell, self.plan.unit(cell.unit_id), self.packs[cell.cell_code]) for cell in cells_of(self.plan, shard)
        ]


@dataclass(frozen=True, eq=False)
class Scorer:
    """Who turns raw rows into scores: knows cells by their codes alone."""

    plan: PublicPlan
    responses: pd.DataFrame

    def __post_init__(self) -> None:
        _only(self.plan, PublicPlan)
        _only(self.responses, pd.DataFrame)

    def scores(self) -> pd.DataFrame:
        """Return the scores, with the cell code where the arm will be."""
        return scores_of(self.plan, self.responses, self._cells())

    def neutral(self) -> pd.DataFrame:
        """Return nats per token on neutral text, with the cell code where the arm will be."""
        return neutral_of(self.plan, self.responses, self._cells())

    def _cells(self) -> Labels:
        return Labels({cell.cell_code: (cell.cell_code, "") for cell in self.plan.cells})


@dataclass(frozen=True, eq=False)
class Analyst:
    """Who analyses: knows arms as codes, and scores by cell."""

    plan: CodedPlan
    scores: pd.DataFrame
    neutral: pd.DataFrame

    def __post_init__(self) -> None:
        _only(self.plan, CodedPlan)

    def verdicts(self, labels: Labels) -> list[Verdict]:
        """Return the verdicts of the registered analysis under labels: the dummy ones, before unblinding."""
        plan, scores = self.plan.plan, _labelled(self.scores, labels)
        return analyse(plan, scores, _labelled(self.neutral, labels)) + cross_verdicts(plan, scores)


def _labelled(rows: pd.DataFrame, labels: Labels) -> pd.DataFrame:
    """Return rows with the label of their cell in place of its code."""
    given = [labels.by_cell[str(code)] for code in rows["arm"]]
    columns = {"arm": [arm for arm, _ in given], "member": [member for _, member in given]}
    return rows.assign(**{name: values for name, values in columns.items() if name in rows.columns})


@dataclass(frozen=True)
class Unblinder:
    """Who opens the allocation. code: commit of the code that asks."""

    archive: Archive
    registration: Registration
    code: str

    def open(self) -> Registration:
        """Publish arms, allocation and key, if the ledger permits it; see `Archive.unblind`."""
        return self.archive.unblind(self.registration, code=self.code)


@dataclass(frozen=True)
class Allocator:
    """Who made the registration: the only role that holds all of it."""

    registration: Registration

    def runner(self) -> Runner:
        """Return the runner of all cells."""
        registration = self.registration
        packs = {item.cell_code: pack_of(registration.plan, item) for item in registration.allocation}
        return Runner(registration.public, packs)

    def scorer(self, responses: pd.DataFrame) -> Scorer:
        """Return a scorer of raw rows."""
        return Scorer(self.registration.public, responses)

    def analyst(self, scorer: Scorer, plan: Plan) -> Analyst:
        """Return an analyst of a scorer's scores. plan: with the analysis as amended."""
        return Analyst(CodedPlan(self.coded(plan)), scorer.scores(), scorer.neutral())

    def unblinder(self, archive: Archive, code: str) -> Unblinder:
        """Return who opens the allocation."""
        return Unblinder(archive, self.registration, code)

    def coded(self, plan: Plan) -> Plan:
        """Return a plan with codes for arms: the baseline first, as the analysis needs it."""
        names = self._codes()
        baseline, *others = (_coded(arm, names) for arm in plan.arms)
        return replace(plan, arms=(baseline, *sorted(others, key=lambda arm: arm.name)), calibration="", unvalidated=())

    def dummy(self) -> Labels:
        """Return arm codes dealt at random within each unit, over cells of equal battery: no cell's own arm enters."""
        registration, names = self.registration, self._codes()
        generator = rng(registration.plan.seed, "dummy labels")
        label = {item.cell_code: (item.arm, item.member) for item in registration.allocation}
        dealt: dict[str, Label] = {}
        for unit in registration.plan.units:
            for battery in BATTERIES:
                cells = sorted(
                    cell.cell_code
                    for cell in registration.plan.cells
                    if cell.unit_id == unit.unit_id and cell.battery == battery
                )
                given = sorted(label[code] for code in cells)
                dealt |= {
                    code: _renamed(given[at], names)
                    for code, at in zip(cells, generator.permutation(len(given)).tolist(), strict=True)
                }
        return Labels(dealt)

    def _codes(self) -> Mapping[str, str]:
        plan, codes = self.registration.plan, self.registration.codes
        return {arm.name: code for arm, code in zip(plan.arms, codes, strict=True)}


def _renamed(label: Label, names: Mapping[str, str]) -> Label:
    arm, member = label
    return names[arm], names.get(member, member)


def _coded(arm: Arm, names: Mapping[str, str]) -> Arm:
    """Return an arm by its code, without what it gives; members that are named after arms take their codes."""
    return replace(
        arm,
        name=names[arm.name],
        pack="",
        fingerprint="",
        members=tuple(names.get(member, member) for member in arm.members),
        doses={},
    )
