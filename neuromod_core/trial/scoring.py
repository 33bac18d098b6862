"""From raw rows to scores: one number per unit, arm, member, scale and reading, or a reason why there is none.

An option score is missing, with its reason, when too few items have option mass, when the cell fails its instructed
responses, or when the scale's consistency item and its antonym are answered alike.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import cast

import numpy as np
import pandas as pd

from neuromod_core.instruments import Order, Score, option_expected, option_score, statement_score
from neuromod_core.instruments.load import LEVELS
from neuromod_core.instruments.scoring import reply_score
from neuromod_core.instruments.validity import careless, inconsistent, most_likely
from neuromod_core.trial.plan import Assignment, Cell, Outline, Probe
from neuromod_core.trial.readings import ANTONYM, BY_OPTION, CONTENT_FREE, SAMPLED, STATEMENT, VALIDITY

FORMS = ("raw", "expressed")
Label = tuple[str, str]  # arm (or its code) and member


@dataclass(frozen=True)
class Labels:
    """What the analyst calls each cell: real arms after unblinding, codes or shuffled labels before."""

    by_cell: Mapping[str, Label]

    @staticmethod
    def real(allocation: Sequence[Assignment]) -> Labels:
        """Return the true labels."""
        return Labels({item.cell_code: (item.arm, item.member) for item in allocation})


def _statement(rows: pd.DataFrame, form: str) -> Score:
    suffix = "_expressed_ll" if form == "expressed" else "_ll"
    return statement_score(rows[f"keyed{suffix}"].to_numpy(), rows[f"antonym{suffix}"].to_numpy())


def _options(rows: pd.DataFrame, form: str, order: Order) -> Score:
    return option_score(np.stack([np.asarray(value) for value in rows[f"options_{form}"]]), order)


def _replies(rows: pd.DataFrame, order: Order) -> Score:
    given = [None if pd.isna(option) else int(option) for option in rows["option"]]
    return reply_score(given, order, LEVELS)


@dataclass(frozen=True)
class Answers:
    """The option answers of one cell in one reading and form; rows are those of `responses`."""

    rows: pd.DataFrame
    form: str
    order: Order
    checks: Sequence[Probe]

    def scores(self, scales: Sequence[str]) -> Iterator[tuple[str, Score]]:
        """Yield every scale with its score, the sentences without content last; a failed check takes it away."""
        careless_cell, mirrored = self.careless(), self.mirrored()
        for scale, rows in self.rows.groupby("instrument", sort=True):
            if scale in scales:
                failed = careless_cell or next((mirrored[item] for item in rows["item"] if item in mirrored), None)
                yield str(scale), _unless(failed, _options(rows, self.form, self.order))
            elif scale == CONTENT_FREE:
                yield str(scale), _options(rows, self.form, self.order)

    def careless(self) -> str | None:
        """Return why the cell's instructed responses fail; None where they pass or are not asked."""
        told = {check.name: check.expected for check in self.checks if check.kind == "instructed"}
        asked = self.rows[(self.rows["instrument"] == VALIDITY) & self.rows["item"].isin(list(told))]
        answers = [most_likely(given, self.order) for given in asked[f"options_{self.form}"]]
        return careless(answers, [told[item] for item in asked["item"]]) if answers else None

    def mirrored(self) -> Mapping[str, str]:
        """Return the consistency items whose antonym is answered alike, each with the reason."""
        level = {
            (row.instrument == ANTONYM, str(row.item)): option_expected(
                getattr(row, f"options_{self.form}"), self.order
            )
            for row in self.rows[~self.rows["instrument"].isin([VALIDITY, CONTENT_FREE])].itertuples()
        }
        found: dict[str, str] = {}
        for item in (name for is_antonym, name in level if is_antonym):
            keyed, antonym = level[False, item].value, level[True, item].value
            reason = None if keyed is None or antonym is None else inconsistent(keyed, antonym, LEVELS)
            found |= {} if reason is None else {item: reason}
        return found


def _unless(failed: str | None, score: Score) -> Score:
    """Return the score without its value where a check failed."""
    return score if failed is None or score.value is None else replace(score, value=None, reason=failed)


def cell_scores(
    rows: pd.DataFrame, order: Order, checks: Sequence[Probe], scales: Sequence[str]
) -> Iterator[tuple[str, str, Score]]:
    """Yield (scale, reading, score) of one cell, from its rows of `responses`."""
    for name, mine in rows.groupby("reading", sort=True):
        kind = str(name)
        parts = [(str(scale), part) for scale, part in mine.groupby("instrument", sort=True) if scale in scales]
        for form in FORMS:
            if kind == STATEMENT:
                yield from ((scale, f"statement_{form}", _statement(part, form)) for scale, part in parts)
            elif kind in BY_OPTION:
                answers = Answers(mine, form, order, checks)
                yield from ((scale, f"{kind}_{form}", score) for scale, score in answers.scores(scales))
        if kind == SAMPLED:
            yield from ((scale, "sampled_expressed", _replies(part, order)) for scale, part in parts)


def scores_of(plan: Outline, responses: pd.DataFrame, labels: Labels) -> pd.DataFrame:
    """Return the `scores` table of all administered cells, under the given labels.

    Beside the scales it has `content_free`: how options are answered after a sentence that says nothing.
    """
    cells: Mapping[str, Cell] = {cell.cell_code: cell for cell in plan.cells}
    lines = []
    for code, rows in responses.sort_values(["instrument", "item"]).groupby("cell_code", sort=True):
        arm, member = labels.by_cell[str(code)]
        unit = plan.unit(cells[str(code)].unit_id)
        for scale, reading, score in cell_scores(rows, cast(Order, unit.option_order), plan.checks, plan.scales):
            lines.append(
                {
                    "unit_id": unit.unit_id,
                    "arm": arm,
                    "member": member,
                    "scale": scale,
                    "reading": reading,
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
