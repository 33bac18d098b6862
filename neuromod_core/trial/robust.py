"""The sensitivity analyses of a closed study, published beside its dataset and derived again by verification.

Mixed models end in the last digits differently on different processors: numbers are kept to six digits, and agree when
they differ by less than one part in ten thousand.
"""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from typing import cast

import pandas as pd

from neuromod_core.instruments import Order
from neuromod_core.instruments.load import LEVELS
from neuromod_core.instruments.options import levels
from neuromod_core.kernel.errors import IntegrityError
from neuromod_core.kernel.types import canonical, digest
from neuromod_core.trial.archive import Archive
from neuromod_core.trial.claims import Sensitivity
from neuromod_core.trial.plan import Plan, Registration
from neuromod_core.trial.readings import SAMPLED
from neuromod_core.trial.scoring import Labels
from neuromod_core.trial.sensitivity import rows
from neuromod_core.trial.stopping import ran

SENSITIVITY = "analysis/sensitivity.json"
DIGITS, AGREED, NOTHING = 6, 1e-4, 1e-12


def sensitivity_of(archive: Archive, registration: Registration, scores: pd.DataFrame) -> tuple[Sensitivity, ...]:
    """Return every sensitivity analysis of every primary hypothesis. scores: the table `scores` of the study."""
    plan, labels = archive.effective(registration.plan), Labels.real(registration.allocation)
    responses = ran(archive.rows(registration, "responses"))
    return rows(plan, responses, labels, scores=scores, answers=answers_of(plan, responses, labels))


def answers_of(plan: Plan, responses: pd.DataFrame, labels: Labels) -> pd.DataFrame:
    """Return the sampled replies that name an option, as `ordinal` reads them."""
    taken = responses[(responses["reading"] == SAMPLED) & responses["option"].notna()]
    units = {cell.cell_code: cell.unit_id for cell in plan.cells}
    turned = {unit.unit_id: levels(cast(Order, unit.option_order), LEVELS) for unit in plan.units}
    given = [(str(code), int(option)) for code, option in zip(taken["cell_code"], taken["option"], strict=True)]
    return pd.DataFrame(
        {
            "unit_id": [units[code] for code, _ in given],
            "arm": [labels.by_cell[code][0] for code, _ in given],
            "member": [labels.by_cell[code][1] for code, _ in given],
            "scale": taken["instrument"].to_numpy(),
            "item": taken["item"].to_numpy(),
            "answer": [int(turned[units[code]][option]) for code, option in given],
        }
    )


def publish(archive: Archive, found: Sequence[Sensitivity]) -> str:
    """Keep the analyses and return the digest of what is kept; raise IntegrityError when others are kept already."""
    body = canonical([{name: _kept(value) for name, value in row.as_row().items()} for row in found])
    if not archive.store.put_new(SENSITIVITY, body):
        _compare(published(archive), found)
    return digest(archive.store.get(SENSITIVITY))


def published(archive: Archive) -> tuple[Sensitivity, ...]:
    """Return the analyses that are kept, none for a study without."""
    if not archive.store.holds(SENSITIVITY):
        return ()
    return tuple(Sensitivity(**row) for row in json.loads(archive.store.get(SENSITIVITY)))


def check(archive: Archive, derived: Sequence[Sensitivity]) -> None:
    """Raise IntegrityError, naming the first difference, unless the analyses kept are those closed with and derived."""
    if digest(archive.store.get(SENSITIVITY)) != (closed := archive.entry("closed")["sensitivity"]):
        raise IntegrityError(f"{SENSITIVITY} is not the one that the study was closed with: the ledger has {closed}.")
    _compare(published(archive), derived)


def _compare(kept: Sequence[Sensitivity], derived: Sequence[Sensitivity]) -> None:
    if len(kept) != len(derived):
        raise IntegrityError(f"{SENSITIVITY} has {len(kept)} rows; {len(derived)} follow from the raw rows.")
    for one, other in zip(kept, derived, strict=True):
        for name, value in one.as_row().items():
            if not _same(value, other.as_row()[name]):
                where = f"{name} of {one.analysis!r} for {one.hypothesis!r} against {one.comparator!r}"
                said = f"is published as {value}, and is {other.as_row()[name]}"
                raise IntegrityError(f"{SENSITIVITY} does not follow from the raw rows: {where} {said}.")


def _kept(value: object) -> object:
    return float(f"{value:.{DIGITS}g}") if isinstance(value, float) else value


def _same(one: object, other: object) -> bool:
    if isinstance(one, float | int) and isinstance(other, float | int):
        return math.isclose(one, other, rel_tol=AGREED, abs_tol=NOTHING)
    return one == other
