"""What can be guessed of a cell's arm from its metadata alone: the code, its rank, the number of its rows. Nothing, or
the blind leaked.

Order is not a feature: it is balanced by construction and audited (gate G3), and a guesser that is tested on units left
out of a balanced design is led below chance by it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from neuromod_core.kernel.errors import DataError
from neuromod_core.kernel.rng import rng
from neuromod_core.stats import Estimate, Named, auc, bang, guesses, james
from neuromod_core.trial.plan import Plan, Registration

Array = NDArray[np.float64]
CHUNK = 4  # hex digits of a code in one feature
ARMS = ("active", "control")
PENALTY = 1.0
LEVEL = 0.01  # one-sided: a gate that bars a study seldom fails a sound one
DIGITS = 9  # to which scores are rounded, so that ties do not hang on the last bit


@dataclass(frozen=True)
class Guess:
    """What a metadata-only guesser achieved. bang: of active and of control cells."""

    auc: Named
    bang: tuple[Estimate, Estimate]
    james: Estimate

    @property
    def leaks(self) -> bool:
        """Whether cells are told apart better than by chance, by labels rearranged within units.

        The interval takes the cells of a unit as independent; the rearrangement does not, and it decides.
        """
        return self.auc.pvalue < LEVEL

    def __str__(self) -> str:
        active, control = self.bang
        return f"{self.auc}; Bang {active.estimate:.2f} active, {control.estimate:.2f} control; {self.james}"


def metadata(plan: Plan, responses: pd.DataFrame, generations: pd.DataFrame) -> pd.DataFrame:
    """Return the features of all cells with a full battery, indexed by cell code, with their unit.

    Under a rule that stops arms, cells without rows were not run.
    """
    run = set(responses["cell_code"]) if plan.panel.stop else {cell.cell_code for cell in plan.cells}
    full = [cell for cell in plan.cells if cell.battery == "full" and cell.cell_code in run]
    codes = [cell.cell_code for cell in full]
    table = pd.DataFrame({"unit_id": [cell.unit_id for cell in full]}, index=pd.Index(codes))
    for start in range(0, len(codes[0]), CHUNK):
        table[f"code {start}"] = [float(int(code[start : start + CHUNK], 16)) for code in codes]
    table["rank of code"] = table.groupby("unit_id")["code 0"].rank()
    for name, rows in (("responses", responses), ("generations", generations)):
        table[name] = rows["cell_code"].value_counts().reindex(table.index).fillna(0).astype(float)
    return table


def guessed(features: Array, labels: Array, units: Sequence[str]) -> Array:
    """Return a score per cell, (cells,), from a ridge discriminant fitted on all other units.

    Formula:  s = (x - m)' (Z'Z + lambda I)^-1 Z' (y - mean y),  Z the standardised features of the other units.
    Source: Hoerl & Kennard 1970, Technometrics 12:55; Hastie, Tibshirani & Friedman 2009, Elements, chapter 4.
    """
    scores = np.zeros(len(labels))
    for unit in dict.fromkeys(units):
        held = np.array([name == unit for name in units])
        middle, spread = features[~held].mean(axis=0), features[~held].std(axis=0)
        scale = np.where(spread > 0, spread, np.inf)
        seen, new = (features[~held] - middle) / scale, (features[held] - middle) / scale
        fitted = np.linalg.solve(seen.T @ seen + PENALTY * np.eye(seen.shape[1]), seen.T @ _centred(labels[~held]))
        scores[held] = new @ fitted
    return np.round(scores, DIGITS)


def _centred(values: Array) -> Array:
    return np.asarray(values - values.mean(), dtype=np.float64)


def guess(registration: Registration, responses: pd.DataFrame, generations: pd.DataFrame) -> Guess:
    """Return how well metadata alone tell the arms that are predicted to do something from the others.

    Raises:
        DataError: when a study has no two cells of either kind.
    """
    plan = registration.plan
    active = {arm.name for arm in plan.arms if arm.target_scale is not None}
    arm_of = {item.cell_code: item.arm for item in registration.allocation}
    table = metadata(plan, responses, generations)
    labels = np.array([float(arm_of[code] in active) for code in table.index])
    if min(labels.sum(), (1 - labels).sum()) < 2:
        raise DataError("A guess needs two cells each of arms with and without a prediction.")
    units = [str(unit) for unit in table["unit_id"]]
    scores = guessed(table.drop(columns="unit_id").to_numpy(dtype=np.float64), labels, units)
    area = auc(scores, labels, block=units, alternative="greater", generator=rng(plan.seed, "metadata guess"))
    said = _said(scores, labels, units)
    counts = guesses([ARMS[0] if label else ARMS[1] for label in labels], said, arms=ARMS, unsure="unsure")
    return Guess(area, bang(counts, limits="score"), james(counts))


def _said(scores: Array, labels: Array, units: Sequence[str]) -> list[str]:
    """Return the guess per cell: in each unit, as many cells are called active as are, those of the highest scores."""
    said = [ARMS[1]] * len(scores)
    for unit in dict.fromkeys(units):
        cells = [at for at, name in enumerate(units) if name == unit]
        highest = sorted(cells, key=lambda at: -scores[at])[: int(labels[cells].sum())]
        for at in highest:
            said[at] = ARMS[0]
    return said
