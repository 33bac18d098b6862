"""Do packs move scales the way the substances they are named after move people? Signed predictions from human studies.

A prediction says which of two arms lies higher on a scale. It takes no size from the study and no cosine of profiles. A
match is an analogy: nothing here is evidence of experience.
"""

from __future__ import annotations

import itertools
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import yaml
from pydantic import ConfigDict, TypeAdapter, ValidationError
from pydantic.dataclasses import dataclass as checked

from neuromod_core.kernel.errors import ConfigError, DataError
from neuromod_core.stats import Signs, concordance, hartung_knapp
from neuromod_core.stats.meta import RandomEffects
from neuromod_core.trial.hypotheses import reading_of
from neuromod_core.trial.plan import Plan
from neuromod_core.trial.wide import Array, Wide, wide

LEAST = 2  # predictions that a concordance needs
FAMILIES = 6  # of models, from which a mean over them is more than a description


@checked(frozen=True, config=ConfigDict(extra="forbid", strict=True))
class Prediction:
    """On `scale`, `arm` lies above (+1) or below (-1) `over`, the baseline where it is empty."""

    arm: str
    scale: str
    sign: int
    finding: str
    source: str
    over: str = ""

    def __str__(self) -> str:
        return f"{self.arm} {'above' if self.sign > 0 else 'below'} {self.over or 'the baseline'} on {self.scale}"


@dataclass(frozen=True, eq=False)
class Match:
    """Predictions that a study can speak to, its effects beside them, (predictions,), and the test over all of them.

    effects: mean differences within units, in standard deviations of the baseline between units.
    """

    predictions: tuple[Prediction, ...]
    effects: Array
    test: Signs

    def as_rows(self) -> list[dict[str, object]]:
        """Return one row a prediction, and one for all."""
        rows: list[dict[str, object]] = [
            {
                "prediction": str(one),
                "effect, SD": round(float(effect), 3),
                "came true": "yes" if np.sign(effect) == one.sign else "no",
                "source": one.source,
            }
            for one, effect in zip(self.predictions, self.effects, strict=True)
        ]
        p_sham = "no shams" if self.test.p_sham is None else f"p among shams = {self.test.p_sham:.3f}"
        summary = f"{self.test.hits} of {self.test.n}"
        return [
            *rows,
            {"prediction": "all", "effect, SD": "", "came true": summary, "source": f"{self.test}; {p_sham}"},
        ]


def load(path: Path) -> tuple[Prediction, ...]:
    """Return the predictions of a file; raise ConfigError, naming the place, when it is not made of such."""
    try:
        rows = json.dumps(yaml.safe_load(path.read_text("utf-8")))
        found = TypeAdapter(tuple[Prediction, ...]).validate_json(rows, strict=True)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        raise ConfigError(f"{path}: {'.'.join(map(str, first['loc']))}: {first['msg']}.") from None
    wrong = [one for one in found if abs(one.sign) != 1]
    if wrong:
        raise ConfigError(
            f"{path}: the sign of {wrong[0].arm} on {wrong[0].scale} is {wrong[0].sign}; +1 or -1 is one."
        )
    return found


def match(plan: Plan, scores: pd.DataFrame, predictions: Sequence[Prediction]) -> Match:
    """Return which predictions came true, in the raw primary reading.

    The null of `p_sham` are the draws of the sham ensemble in the place of packs: each draw, and for a prediction that
    compares two packs each draw less the next.

    Raises:
        DataError: when the study has the arms and scales of fewer than two predictions, or scores are missing.
    """
    raw = wide(scores, reading_of(plan, "raw"))
    names = {arm.name for arm in plan.arms}
    used = tuple(one for one in predictions if {one.arm, one.over or one.arm} <= names and one.scale in raw.scales)
    if len(used) < LEAST:
        raise DataError(
            f"The study has the arms and scales of {len(used)} of {len(predictions)} predictions; {LEAST} are needed."
        )
    effects = np.array([_effect(plan, raw, one.scale, one.arm, one.over or plan.baseline) for one in used])
    signs = np.array([one.sign for one in used])
    return Match(used, effects, concordance(signs, effects, shams=_shams(plan, raw, used)))


def _effect(plan: Plan, raw: Wide, scale: str, arm: str, over: str) -> float:
    members = {one.name: one.members for one in plan.arms}
    values = raw.on(scale)
    difference = raw.mean(values, arm, members[arm]) - raw.mean(values, over, members[over])
    return float(np.nanmean(difference)) / _spread(plan, raw, scale)


def _spread(plan: Plan, raw: Wide, scale: str) -> float:
    return float(np.nanstd(raw.mean(raw.on(scale), plan.baseline, ("",)), ddof=1))


def _shams(plan: Plan, raw: Wide, used: Sequence[Prediction]) -> Array | None:
    """Return the effects of the sham draws, (draws, predictions); None where there are not two."""
    sham = plan.arm("P1")
    drawn = [] if sham is None else [member for member in sham.members if (sham.name, member) in raw.cells]
    if sham is None or len(drawn) < LEAST:
        return None
    shifts = {
        (scale, member): _sham_shift(plan, raw, scale, sham.name, member)
        for scale in {one.scale for one in used}
        for member in drawn
    }
    pairs = itertools.zip_longest(drawn, drawn[1:], fillvalue=drawn[0])
    return np.array(
        [
            [shifts[one.scale, here] - (shifts[one.scale, following] if one.over else 0.0) for one in used]
            for here, following in pairs
        ]
    )


def _sham_shift(plan: Plan, raw: Wide, scale: str, sham: str, member: str) -> float:
    values = raw.on(scale)
    shift = raw.mean(values, sham, (member,)) - raw.mean(values, plan.baseline, ("",))
    return float(np.nanmean(shift)) / _spread(plan, raw, scale)


def pooled(estimates: Sequence[float], errors: Sequence[float]) -> RandomEffects | None:
    """Return the random-effects mean over models, (models,) estimates with standard errors; None below six families.

    Source: Hartung & Knapp 2001, Statistics in Medicine 20:3875.
    """
    if len(estimates) < FAMILIES:
        return None
    return hartung_knapp(estimates, np.square(errors))
