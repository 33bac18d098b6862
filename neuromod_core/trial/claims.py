"""What a sensitivity analysis reads and returns: item scores as matrices, and a row for every hypothesis.

It knows no test.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from neuromod_core.instruments import option_expected, statement_contrast
from neuromod_core.kernel.errors import DataError
from neuromod_core.kernel.rng import rng
from neuromod_core.trial.hypotheses import Claim
from neuromod_core.trial.plan import Arm, Plan
from neuromod_core.trial.scoring import Labels

Array = NDArray[np.float64]
LEAST_VALID = 0.8  # share of a scale's items that a score needs, as the instruments have it
WITHIN = "95 % interval"


@dataclass(frozen=True)
class Sensitivity:
    """One row: what an analysis says of a hypothesis. `low` and `high` are what `bounds` names.

    reason: why there is no estimate, None where there is one.
    """

    analysis: str
    hypothesis: str
    arm: str
    scale: str
    reading: str
    comparator: str
    estimate: float | None = None
    low: float | None = None
    high: float | None = None
    bounds: str = WITHIN
    p: float | None = None
    n: int | None = None
    method: str = "none"
    reason: str | None = None

    def as_row(self) -> dict[str, object]:
        """Return the row of a table."""
        return asdict(self)


@dataclass(frozen=True, eq=False)
class Grid:
    """Item scores of one reading, (cells, items), NaN where there is none.

    cells: index (unit_id, arm, member).  scale: of each item.  valid: as the rows say.
    """

    cells: pd.MultiIndex
    items: tuple[str, ...]
    scale: tuple[str, ...]
    values: Array
    valid: NDArray[np.bool_]

    def score(self, scale: str, without: int | None = None) -> Array:
        """Return the mean over a scale's items per cell, (cells,); NaN with fewer than 80 % of them."""
        chosen = [at for at, name in enumerate(self.scale) if name == scale and at != without]
        part = self.values[:, chosen]
        known = ~np.isnan(part)
        count, enough = known.sum(axis=1), np.ceil(LEAST_VALID * len(chosen) - 1e-9)
        total = np.where(known, part, 0.0).sum(axis=1)
        mean: Array = np.divide(total, count, out=np.full(len(part), np.nan), where=(count >= max(enough, 1)))
        return mean

    def foils(self, scales: Sequence[str], without: int | None = None) -> Array:
        """Return the mean over scales of their scores, per cell (cells,)."""
        mean: Array = np.mean([self.score(scale, without) for scale in scales], axis=0)
        return mean

    def differences(self, claim: Claim, values: Array) -> pd.Series:
        """Return arm minus placebo per unit, (cells,) values averaged over the members that a unit received."""
        return self.mean(claim, values, claim.arm) - self.mean(claim, values, claim.placebo)

    def mean(self, claim: Claim, values: Array, arm: Arm) -> pd.Series:
        """Return the mean of an arm's cells per unit, NaN for a unit without any."""
        here = belongs(claim, self.cells, arm)
        series = pd.Series(values[here], index=self.cells.get_level_values("unit_id")[here])
        units = pd.Index(np.unique(self.cells.get_level_values("unit_id")), name="unit_id")
        return series.groupby(level=0).mean().reindex(units)


def belongs(claim: Claim, cells: pd.Index, arm: Arm) -> NDArray[np.bool_]:
    """Return which cells (cells,) belong to an arm, for the placebo only those of this claim."""
    members = claim.members if arm == claim.placebo else arm.members
    here: NDArray[np.bool_] = (cells.get_level_values("arm") == arm.name) & np.isin(
        cells.get_level_values("member"), list(members)
    )
    return here


def row_of(claim: Claim, analysis: str) -> Sensitivity:
    """Return an empty row of a claim."""
    return Sensitivity(analysis, claim.name, claim.arm.name, claim.scale, claim.reading, claim.placebo.name)


def stream_of(claim: Claim, analysis: str) -> np.random.Generator:
    """Return the random stream of an analysis of a claim."""
    return rng(claim.plan.seed, "sensitivity", analysis, claim.arm.name, claim.placebo.name, claim.reading)


# ----------------------------------------------------------------------------------------------------- rows to matrices


def grid_of(plan: Plan, responses: pd.DataFrame, labels: Labels, reading: str) -> Grid:
    """Return the item scores of a reading such as "statement_raw", from raw rows.

    Raises:
        DataError: when the rows hold none of this reading.
    """
    kind, _, form = reading.partition("_")
    rows = responses[(responses["reading"] == kind) & responses["instrument"].isin(plan.scales)]
    if rows.empty:
        raise DataError(f"The responses hold no row of the reading {kind!r}.")
    units = {cell.cell_code: cell.unit_id for cell in plan.cells}
    keys = pd.DataFrame(
        {
            "unit_id": rows["cell_code"].map(units),
            "arm": rows["cell_code"].map(lambda code: labels.by_cell[code][0]),
            "member": rows["cell_code"].map(lambda code: labels.by_cell[code][1]),
            "scale": rows["instrument"],
            "item": rows["item"],
            "value": _statements(rows, form) if kind == "statement" else _options(plan, rows, form, units),
            "valid": rows["valid"].astype(float),
        }
    )
    values, valid = (
        keys.pivot(index=["unit_id", "arm", "member"], columns=["scale", "item"], values=name)
        for name in ("value", "valid")
    )
    scale, item = (tuple(map(str, values.columns.get_level_values(level))) for level in ("scale", "item"))
    scores = values.to_numpy(dtype=np.float64)
    cells = pd.MultiIndex.from_tuples(values.index, names=values.index.names)
    return Grid(cells, item, scale, scores, ~np.isnan(scores) & (valid.to_numpy(dtype=np.float64) == 1.0))


def checked(grid: Grid, scores: pd.DataFrame | None, reading: str) -> Grid:
    """Return the grid without the items of every cell and scale that has no score in this reading."""
    if scores is None:
        return grid
    void = scores[(scores["reading"] == reading) & scores["value"].isna()]
    lost = set(zip(void["unit_id"], void["arm"], void["member"], void["scale"], strict=True))
    gone = np.array([[(*cell, scale) in lost for scale in grid.scale] for cell in grid.cells], dtype=bool)
    return replace(grid, values=np.where(gone, np.nan, grid.values), valid=grid.valid & ~gone)


def _statements(rows: pd.DataFrame, form: str) -> list[float | None]:
    middle = "_expressed" if form == "expressed" else ""
    pairs = zip(rows[f"keyed{middle}_ll"], rows[f"antonym{middle}_ll"], strict=True)
    return [statement_contrast(keyed, antonym).value for keyed, antonym in pairs]


def _options(plan: Plan, rows: pd.DataFrame, form: str, units: Mapping[str, str]) -> list[float | None]:
    """Return percent of the maximum possible, item by item."""
    found: list[float | None] = []
    for code, given in zip(rows["cell_code"], rows[f"options_{form}"], strict=True):
        order = plan.unit(units[code]).option_order
        level = option_expected(given, "ascending" if order == "ascending" else "descending").value
        found.append(None if level is None else 100 * level / (len(given) - 1))
    return found
