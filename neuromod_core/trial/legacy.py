"""The detection weights of earlier work, kept for comparison with it and used by nothing else.

They were set by hand and fitted to nothing; with every item answered in the middle they "detect" everything.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import NamedTuple, cast

import numpy as np
import pandas as pd

from neuromod_core.instruments import Order, Scale, option_expected
from neuromod_core.kernel.errors import DataError
from neuromod_core.trial.plan import Outline

LEGACY: Mapping[str, tuple[float, Mapping[str, tuple[float, float]]]] = {
    "pdq_s": (
        -4.0,
        {
            "vrs": (0.8, 0.25),
            "syn": (0.6, 0.20),
            "time": (0.4, 0.12),
            "mean": (0.4, 0.12),
            "obn": (0.5, 0.18),
            "dis": (0.3, 0.08),
            "ctrl": (0.3, 0.03),
            "anx": (0.1, 0.02),
        },
    ),
    "sdq": (
        -1.8,
        {
            "stim": (1.0, 0.30),
            "foc": (0.8, 0.25),
            "euph": (0.6, 0.15),
            "soc": (0.4, 0.10),
            "jit": (0.3, 0.10),
            "som": (0.2, 0.05),
            "app": (0.2, 0.05),
        },
    ),
    "ddq": (
        -1.6,
        {
            "sed": (1.0, 0.25),
            "cog_slow": (0.8, 0.20),
            "calm": (0.6, 0.15),
            "motor": (0.6, 0.15),
            "vest": (0.3, 0.08),
            "disinh": (0.2, 0.07),
            "mem": (0.5, 0.10),
        },
    ),
    "cdq": (
        -1.6,
        {
            "percep": (0.9, 0.18),
            "time": (0.8, 0.16),
            "cog_minus": (0.7, 0.16),
            "relax": (0.5, 0.14),
            "pos": (0.4, 0.08),
            "anx": (0.3, 0.06),
            "soma": (0.4, 0.10),
            "app": (0.5, 0.12),
        },
    ),
    "didq": (
        -1.7,
        {
            "dis": (1.1, 0.22),
            "der": (1.0, 0.20),
            "time": (0.8, 0.15),
            "motor": (0.7, 0.15),
            "cog_slow": (0.6, 0.12),
            "nmb": (0.4, 0.08),
            "affect": (0.2, 0.03),
            "vest": (0.5, 0.05),
        },
    ),
    "edq": (
        -1.8,
        {
            "aff": (1.0, 0.22),
            "trust": (0.9, 0.20),
            "comm": (0.6, 0.12),
            "emp": (0.8, 0.16),
            "pos": (0.6, 0.12),
            "sens": (0.5, 0.10),
            "jaw": (0.4, 0.05),
            "vigil": (0.3, 0.03),
        },
    ),
}
"""Scale -> intercept, and per subscale the weights of presence and of intensity."""


def legacy(scale: str, levels: Mapping[str, float]) -> tuple[float, float]:
    """Return presence and intensity by the weights of earlier work, for comparison with it: no probability of anything.

    levels: mean option level, 0 to 4, of every subscale.
    Formula:  presence = sigmoid(b + sum of w m),  intensity = clip((sum of a m - 0.8) / 2.4, 0, 1).

    Raises:
        DataError: for a scale without published weights, or a subscale without a level.

    >>> presence, _ = legacy("sdq", dict.fromkeys(("stim", "foc", "euph", "soc", "jit", "som", "app"), 0.0))
    >>> round(presence, 2)
    0.14
    """
    if scale not in LEGACY:
        raise DataError(f"No weights were published for {scale!r}; there are some for {', '.join(LEGACY)}.")
    intercept, weights = LEGACY[scale]
    if missing := sorted(set(weights) - set(levels)):
        raise DataError(f"{scale}: no level of subscale {missing[0]!r}; all of {', '.join(weights)} are needed.")
    total = intercept + math.fsum(weight * levels[name] for name, (weight, _) in weights.items())
    strong = math.fsum(weight * levels[name] for name, (_, weight) in weights.items())
    return 1 / (1 + math.exp(-total)), min(1.0, max(0.0, (strong - 0.8) / 2.4))


class Old(NamedTuple):
    """What the published weights say of one arm on one scale; None with a reason where they say nothing."""

    arm: str
    scale: str
    presence: float | None
    intensity: float | None
    reason: str | None


def by_arm(plan: Outline, scale: Scale, responses: pd.DataFrame, arms: Mapping[str, str]) -> list[Old]:
    """Return what the published weights say of every arm, from the option readings of a scale.

    responses: rows of the table of that name.  arms: cell code -> arm.
    """
    rows = responses[(responses["instrument"] == scale.name) & (responses["reading"] == "options")]
    order = {cell.cell_code: plan.unit(cell.unit_id).option_order for cell in plan.cells}
    subscale = {item.id: item.subscale for item in scale.items}
    levels: dict[str, dict[str, list[float]]] = {arm: {} for arm in dict.fromkeys(arms.values())}
    for row in rows[rows["valid"]].itertuples():
        code, item = str(row.cell_code), str(row.item)
        level = option_expected(np.asarray(row.options_raw, dtype=np.float64), cast(Order, order[code])).value
        if level is not None:
            levels[arms[code]].setdefault(subscale[item], []).append(level)
    return [_old(arm, scale.name, found) for arm, found in levels.items()]


def _old(arm: str, scale: str, levels: Mapping[str, list[float]]) -> Old:
    try:
        presence, intensity = legacy(scale, {name: float(np.mean(values)) for name, values in levels.items()})
    except DataError as error:
        return Old(arm, scale, None, None, str(error))
    return Old(arm, scale, presence, intensity, None)
