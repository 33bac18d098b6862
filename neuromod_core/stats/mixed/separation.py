"""Whether the fixed effects separate the outcomes, so that the likelihood has no maximum.

A direction d with  A d >= 0 and A d != 0  raises the likelihood for ever, whatever the random effects are.
Source: Albert & Anderson 1984, Biometrika 71:1;  Konis 2007 (linear programming).
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
from scipy.optimize import linprog

from neuromod_core.kernel.errors import DataError
from neuromod_core.stats.sample import FloatArray

SLACK = 1e-7


def refuse_separated_binomial(x: FloatArray, successes: FloatArray, trials: FloatArray, names: Sequence[str]) -> None:
    """Raise where a combination of the columns of x (rows, p) never errs about success.

    Raises:
        DataError: naming the columns that take part.
    """
    _refuse(np.vstack([x[successes > 0], -x[successes < trials]]), names, len(names))


def refuse_separated_ordinal(x: FloatArray, categories: npt.NDArray[np.intp], count: int, names: Sequence[str]) -> None:
    """Raise where a combination of the columns of x (rows, p) never errs about the order of the categories.

    Raises:
        DataError: naming the columns that take part.
    """
    cuts = np.eye(count - 1)
    below, above = categories < count - 1, categories > 0
    upper = np.hstack([-x[below], cuts[categories[below]]])
    lower = np.hstack([x[above], -cuts[categories[above] - 1]])
    _refuse(np.vstack([upper, lower]), names, len(names))


def _refuse(rows: FloatArray, names: Sequence[str], p: int) -> None:
    """Raise where a direction keeps every row of A d at 0 or above, and one above."""
    unique = np.unique(rows, axis=0)
    size = np.abs(unique).max(axis=0)
    scaled = unique / np.where(size > 0, size, 1)
    found = linprog(-scaled.sum(axis=0), A_ub=-scaled, b_ub=np.zeros(len(scaled)), bounds=(-1, 1), method="highs")
    if found.status != 0:
        raise DataError(f"Whether the outcomes are separated could not be decided: {found.message}")
    if -found.fun > SLACK * len(scaled):
        columns = [name for name, part in zip(names, found.x[:p], strict=True) if abs(part) > SLACK]
        raise DataError(
            f"The outcomes are separated by {', '.join(columns)}: the likelihood has no maximum and the estimates "
            "would be infinite. Leave those effects out, join their levels, or collect rows of both kinds."
        )
