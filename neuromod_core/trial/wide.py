"""The scores of one reading as an array: the one pivot from which every hypothesis takes its differences."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from neuromod_core.kernel.errors import DataError

Array = NDArray[np.float64]
Mask = NDArray[np.bool_]


@dataclass(frozen=True, eq=False)
class Wide:
    """Scores by unit, cell and scale.

    units: sorted.  cells: (arm, member) -> column.  scales: scale -> place.
    values: (units, cells, scales), NaN where a unit did not receive a cell or has no valid score there.
    received: arm -> (units,), whether a unit received it in any reading.
    """

    units: tuple[str, ...]
    cells: Mapping[tuple[str, str], int]
    scales: Mapping[str, int]
    values: Array
    received: Mapping[str, Mask]

    def on(self, scale: str) -> Array:
        """Return the scores on a scale: (units, cells).

        Raises:
            DataError: when there are none.
        """
        return self.values[:, :, self._place(scale)]

    def specificity(self, scale: str, foils: Sequence[str]) -> Array:
        """Return  C = target - mean of foils: (units, cells), NaN where one of these scores is missing.

        Raises:
            DataError: when a scale has no scores.
        """
        others: Array = self.values[:, :, [self._place(foil) for foil in foils]].mean(axis=2)
        return self.on(scale) - others

    def mean(self, table: Array, arm: str, members: Sequence[str]) -> Array:
        """Return the mean of (units, cells) numbers over those members of an arm that a unit has: (units,), or NaN."""
        part = table[:, [self.cells[arm, member] for member in members if (arm, member) in self.cells]]
        known = ~np.isnan(part)
        count = known.sum(axis=1)
        mean: Array = np.divide(
            np.where(known, part, 0.0).sum(axis=1), count, out=np.full(len(part), np.nan), where=count > 0
        )
        return mean

    def both(self, *arms: str) -> Mask:
        """Return which units received all of these arms, (units,): every one, unless arms are divided into sets."""
        nowhere = np.zeros(len(self.units), dtype=bool)
        found: Mask = np.all([self.received.get(arm, nowhere) for arm in arms], axis=0)
        return found

    def _place(self, scale: str) -> int:
        if scale not in self.scales:
            raise DataError(
                f"There is no score on {scale!r} in this reading; it has {', '.join(self.scales) or 'none'}."
            )
        return self.scales[scale]


def wide(scores: pd.DataFrame, reading: str) -> Wide:
    """Return the rows of a `scores` table in one reading.

    Raises:
        DataError: for two scores of one unit, cell and scale.
    """
    rows = scores[scores["reading"] == reading]
    unit, units = pd.factorize(rows["unit_id"], sort=True)
    scale, scales = pd.factorize(rows["scale"], sort=True)
    arm, arms = pd.factorize(rows["arm"], sort=True)
    member, members = pd.factorize(rows["member"], sort=True)
    pairs, cell = np.unique(arm * len(members) + member, return_inverse=True)
    values = np.full((len(units), len(pairs), len(scales)), np.nan)
    values[unit, cell, scale] = rows["value"].to_numpy(dtype=np.float64)
    place = np.ravel_multi_index((unit, cell, scale), values.shape) if len(rows) else unit
    if len(np.unique(place)) < len(rows):
        raise DataError(f"{len(rows)} scores of the reading {reading!r} name only {len(np.unique(place))} cells.")
    given = scores.drop_duplicates(["unit_id", "arm"])
    return Wide(
        units=tuple(map(str, units)),
        cells={
            (str(arms[pair // len(members)]), str(members[pair % len(members)])): at for at, pair in enumerate(pairs)
        },
        scales={str(name): at for at, name in enumerate(scales)},
        values=values,
        received={str(name): np.isin(units, part) for name, part in given.groupby("arm")["unit_id"]},
    )
