"""From raw rows to scores: one number per unit, arm, member, scale and reading, or a reason why there is none."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import cast

import numpy as np
import pandas as pd

from neuromod_core.instruments import Order, Score, option_score, statement_score
from neuromod_core.trial.plan import Assignment, Cell, Outline, Plan

READINGS = ("statement_raw", "statement_expressed", "options_raw", "options_expressed")
Label = tuple[str, str]  # arm (or its code) and member


@dataclass(frozen=True)
class Labels:
    """What the analyst calls each cell: real arms after unblinding, codes or shuffled labels before."""

    by_cell: Mapping[str, Label]

    @staticmethod
    def real(allocation: Sequence[Assignment]) -> Labels:
        """Return the true labels."""
        return Labels({item.cell_code: (item.arm, item.member) for item in allocation})


def _statement(rows: pd.DataFrame, expressed: bool) -> Score:
    suffix = "_expressed_ll" if expressed else "_ll"
    return statement_score(rows[f"keyed{suffix}"].to_numpy(), rows[f"antonym{suffix}"].to_numpy())


def _options(rows: pd.DataFrame, expressed: bool, order: str) -> Score:
    column = "options_expressed" if expressed else "options_raw"
    return option_score(np.stack([np.asarray(value) for value in rows[column]]), cast(Order, order))


def _scores(rows: pd.DataFrame, reading: str, order: str) -> Iterator[tuple[str, Score]]:
    for expressed, suffix in ((False, "raw"), (True, "expressed")):
        score = _statement(rows, expressed) if reading == "statement" else _options(rows, expressed, order)
        yield f"{reading}_{suffix}", score


def scores_of(plan: Outline, responses: pd.DataFrame, labels: Labels) -> pd.DataFrame:
    """Return the `scores` table of all administered cells, under the given labels."""
    cells: Mapping[str, Cell] = {cell.cell_code: cell for cell in plan.cells}
    scaled = responses[responses["reading"] != "likelihood"].sort_values("item")
    lines = []
    for key, rows in scaled.groupby(["cell_code", "instrument", "reading"], sort=True):
        code, scale, reading = (str(part) for part in cast(tuple[str, str, str], key))
        arm, member = labels.by_cell[code]
        unit = plan.unit(cells[code].unit_id)
        for name, score in _scores(rows, reading, unit.option_order):
            lines.append(
                {
                    "unit_id": unit.unit_id,
                    "arm": arm,
                    "member": member,
                    "scale": scale,
                    "reading": name,
                    "value": score.value,
                    "n_items": score.n_items,
                    "n_valid": score.n_valid,
                    "reason": score.reason,
                }
            )
    return pd.DataFrame(lines).sort_values(["unit_id", "arm", "member", "scale", "reading"], ignore_index=True)


def items_of(plan: Outline, responses: pd.DataFrame, labels: Labels) -> pd.DataFrame:
    """Return keyed minus antonym log-likelihood per cell and item (raw statement reading)."""
    cells = {cell.cell_code: cell.unit_id for cell in plan.cells}
    rows = responses[responses["reading"] == "statement"]
    return pd.DataFrame(
        {
            "unit_id": rows["cell_code"].map(cells),
            "arm": rows["cell_code"].map(lambda code: labels.by_cell[code][0]),
            "member": rows["cell_code"].map(lambda code: labels.by_cell[code][1]),
            "scale": rows["instrument"],
            "item": rows["item"],
            "contrast": rows["keyed_ll"] - rows["antonym_ll"],
        }
    ).reset_index(drop=True)


def neutral_of(plan: Outline, responses: pd.DataFrame, labels: Labels) -> pd.DataFrame:
    """Return nats per token on the unit's neutral passage, per unit and arm."""
    cells = {cell.cell_code: cell.unit_id for cell in plan.cells}
    rows = responses[responses["reading"] == "likelihood"]
    return pd.DataFrame(
        {
            "unit_id": rows["cell_code"].map(cells),
            "arm": rows["cell_code"].map(lambda code: labels.by_cell[code][0]),
            "neutral_nll": -rows["keyed_ll"] / rows["keyed_tokens"],
        }
    ).reset_index(drop=True)


def specificity(scores: pd.DataFrame, plan: Plan, scale: str, reading: str) -> pd.DataFrame:
    """Return  C = target - mean of foils  as a table (units, (arm, member)); NaN where a score is missing."""
    rows = scores[scores["reading"] == reading]
    wide = rows.pivot_table(index="unit_id", columns=["arm", "member", "scale"], values="value", dropna=False)
    target = wide.xs(scale, axis=1, level="scale")
    foils = [foil for foil in plan.scales if foil != scale]
    total = sum((wide.xs(foil, axis=1, level="scale") for foil in foils[1:]), wide.xs(foils[0], axis=1, level="scale"))
    return pd.DataFrame(target - total / len(foils))
