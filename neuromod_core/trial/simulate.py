"""Studies that never took place: units under arms as the registered analysis receives them, with a truth that is known.

Every study is drawn from a named population. It knows no test: whoever asks compares what a test says with the truth.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from neuromod_core.kernel.rng import rng
from neuromod_core.trial.plan import Arm, Plan
from neuromod_core.trial.readings import READINGS

Array = NDArray[np.float64]
TRUTH = 1_000_000  # units from which the mean of a population without a closed form is taken
BASELINE, SHAM, NOISE = "none", "sham", "entropy"
SHAM_DRAWS, SHAM_PER_UNIT = 6, 3


@dataclass(frozen=True, kw_only=True)
class Population:
    """What scores are like:  y = limited(round(b_u + r_a (s_ua + e_uas) + effect_as)).

    units: of one study.  unit_sd: of b_u, how much contexts differ.  slope_sd: of s_ua, how differently they respond.
    residual_sd: of e_uas.  skew: skewness of s and e, gamma where it is not zero, normal where it is.
    ratio: r_a of the first arm, 1 for all others.  floor, ceiling: limits of the score.  step: of a coarse score.
    """

    units: int = 48
    unit_sd: float = 1.0
    slope_sd: float = 0.5
    residual_sd: float = 0.5
    skew: float = 0.0
    ratio: float = 1.0
    floor: float = -math.inf
    ceiling: float = math.inf
    step: float = 0.0

    @property
    def exact(self) -> bool:
        """Return whether the mean difference of two arms is the difference of their effects.

        Rounding leaves it so, up to exp(-2 (pi SD / step)^2), when normal scores spread over more than a step. A truth
        that is only nearly so would break the ties of coarse scores in favour of a rejection.
        """
        smooth = self.skew == 0 and math.hypot(self.unit_sd, self.slope_sd, self.residual_sd) >= self.step
        return (self.step == 0 or smooth) and math.isinf(self.floor) and math.isinf(self.ceiling)


POPULATIONS: Mapping[str, Population] = {
    "normal": Population(),
    "unit slopes": Population(slope_sd=1.5),
    "skewed": Population(skew=2.0),
    "unequal spread": Population(ratio=2.0),
    "skewed, unequal": Population(skew=1.0, ratio=2.0),
    "floor": Population(floor=-0.8),
    "ceiling": Population(ceiling=0.8),
    "ties": Population(step=1.0),
    "few units": Population(units=12),
}
DEEP_FLOOR = Population(floor=-0.3)  # four in ten scores at the floor, seven in ten of an arm that sinks by one


def _shocks(skew: float, size: tuple[int, ...], generator: np.random.Generator) -> Array:
    """Return numbers of mean 0 and SD 1 with this skewness."""
    if skew == 0:
        return generator.standard_normal(size)
    shape = 4 / skew**2
    drawn: Array = (generator.standard_gamma(shape, size) - shape) / math.sqrt(shape)
    return drawn


def draw(population: Population, effects: Array, studies: int, generator: np.random.Generator) -> Array:
    """Return scores (studies, units, arms, scales) under effects (arms, scales)."""
    arms, scales = effects.shape
    grid = (studies, population.units, arms, scales)
    unit = population.unit_sd * generator.standard_normal((*grid[:2], 1, 1))
    slope = population.slope_sd * _shocks(population.skew, (*grid[:3], 1), generator)
    residual = population.residual_sd * _shocks(population.skew, grid, generator)
    spread = np.ones((arms, 1))
    spread[0] = population.ratio
    scores: Array = unit + spread * (slope + residual) + effects
    if population.step > 0:
        scores = population.step * np.round(scores / population.step)
    return np.clip(scores, population.floor, population.ceiling)


def differences(population: Population, effect: float, studies: int, generator: np.random.Generator) -> Array:
    """Return the differences of an arm that has an effect to one that has none: (units, studies)."""
    scores = draw(population, np.array([[effect], [0.0]]), studies, generator)
    return np.ascontiguousarray((scores[:, :, 0, 0] - scores[:, :, 1, 0]).T)


@cache
def mean_difference(population: Population, effect: float) -> float:
    """Return the true mean of `differences`: the effect, or, where scores have limits or steps, a very large sample."""
    if population.exact or (effect == 0 and population.ratio == 1):
        return effect
    generator = rng(0, "truth", repr(population), repr(effect))
    return float(differences(population, effect, TRUTH // population.units, generator).mean())


def family(population: Population, effects: Sequence[float], studies: int, generator: np.random.Generator) -> Array:
    """Return the differences of several arms to one comparator they share: (studies, units, arms)."""
    scores = draw(population, np.array([*effects, 0.0])[:, None], studies, generator)[..., 0]
    contrasts: Array = scores[:, :, :-1] - scores[:, :, -1:]
    return contrasts


def answers(
    only_first: float, only_second: float, units: int, studies: int, generator: np.random.Generator
) -> tuple[Array, Array]:
    """Return yes or no of the same units twice, (studies, units) each: the shares that change sides are given."""
    place = generator.random((studies, units))
    both = only_first + only_second + (1 - only_first - only_second) / 10
    agreed = (place >= only_first + only_second) & (place < both)
    first = (place < only_first) | agreed
    second = ((place >= only_first) & (place < only_first + only_second)) | agreed
    return first.astype(np.float64), second.astype(np.float64)


def courses(
    population: Population, sequences: NDArray[np.int64], studies: int, generator: np.random.Generator
) -> Array:
    """Return scores in the order in which they arose, (studies, units, periods), with a course over the periods.

    sequences: (units, periods), the arm of each cell. No arm has an effect.
    """
    units, periods = sequences.shape
    shaped = Population(units=units, skew=population.skew, ratio=population.ratio)
    by_arm = draw(shaped, np.zeros((periods, 1)), studies, generator)[..., 0]
    return np.take_along_axis(by_arm, sequences[None], axis=2) + np.linspace(0, 2, periods)


def item_rows(
    units: int, items: int, effect: float, generator: np.random.Generator, *, turn_sd: float = 0.5
) -> pd.DataFrame:
    """Return item-level rows of two arms: columns unit, item, treated (-1/2 or 1/2) and y.

    y = b_u + s_u treated + c_i + d_i treated + effect treated + e,  SDs 1, .5, .5, `turn_sd`, 1: contexts and items
    both differ, and both respond differently.
    """
    unit, item, arm = (axis.ravel() for axis in np.indices((units, items, 2)))
    treated = arm - 0.5
    level, slope = generator.standard_normal(units), 0.5 * generator.standard_normal(units)
    ease, turn = 0.5 * generator.standard_normal(items), turn_sd * generator.standard_normal(items)
    noise = generator.standard_normal(unit.size)
    y = level[unit] + ease[item] + (slope[unit] + turn[item] + effect) * treated + noise
    return pd.DataFrame({"unit": unit, "item": item, "treated": treated, "y": y})


def graded(rows: pd.DataFrame, cuts: Sequence[float], effect: float, generator: np.random.Generator) -> pd.DataFrame:
    """Return rows with an ordered `answer`: a logistic latent response, random by unit alone, cut at thresholds."""
    units = int(rows["unit"].max()) + 1
    level, slope = generator.standard_normal(units), 0.5 * generator.standard_normal(units)
    unit, treated = rows["unit"].to_numpy(), rows["treated"].to_numpy()
    latent = level[unit] + (slope[unit] + effect) * treated + generator.logistic(size=len(rows))
    return rows.assign(answer=np.searchsorted(np.asarray(cuts), latent))


# -------------------------------------------------------------------------------------------- a whole study, as scores


@dataclass(frozen=True, eq=False)
class Study:
    """A plan and the index of the rows of its `scores`: unit, cell within unit, arm, scale and reading of each row."""

    plan: Plan
    frame: pd.DataFrame
    unit: NDArray[np.int64]
    cell: NDArray[np.int64]
    arm: NDArray[np.int64]
    scale: NDArray[np.int64]
    expressed: NDArray[np.bool_]

    def scores(self, raw: Array, expressed: Array, generator: np.random.Generator) -> pd.DataFrame:
        """Return the `scores` of one study in which every arm has its effect on every scale, (arms, scales) each."""
        units, cells, scales = (int(index.max()) + 1 for index in (self.unit, self.cell, self.scale))
        level = generator.standard_normal((units, scales))
        response = 0.7 * generator.standard_normal((units, cells, scales))
        sampled = 0.2 * generator.standard_normal((units, cells, scales))
        at = (self.unit, self.cell, self.scale)
        effect = np.where(self.expressed, expressed[self.arm, self.scale], raw[self.arm, self.scale])
        value = level[self.unit, self.scale] + response[at] + self.expressed * sampled[at] + effect
        return self.frame.assign(value=value)


def _arm(name: str, role: str, target: str | None = None, sign: int | None = None, members: int = 0) -> Arm:
    names = tuple(f"{draw:02d}" for draw in range(members)) or ("",)
    return Arm(name, role, "{}", "", target, sign, names, {})


def plan_of(arms: Sequence[Arm], scales: Sequence[str], *, minimum: float, draws: int, resamples: int) -> Plan:
    """Return a plan that has what an analysis reads of it, and no cells."""
    return Plan(
        version=1,
        study="audit",
        title="Simulated",
        question="Does the analysis keep its promises?",
        seed=0,
        model="none",
        model_source={},
        model_fingerprint="",
        weights_sha256="",
        dtype="",
        calibration="",
        unvalidated=(),
        texts={},
        arms=tuple(arms),
        units=(),
        cells=(),
        shards=0,
        scales=tuple(scales),
        primary_scale=scales[0],
        foil_items=0,
        primary_reading="statement",
        controls=(),
        story_tokens=0,
        batch=1,
        dose=1.0,
        min_effect=minimum,
        alpha=0.05,
        draws=draws,
        resamples=resamples,
    )


def study(units: int, *, minimum: float, draws: int, resamples: int) -> Study:
    """Return a study of three predicted arms on three scales against a sham ensemble and an entropy placebo.

    Each unit receives three of six sham draws in turn, as in a registered plan.
    """
    scales = ("first", "second", "third")
    packs = [_arm("a", "pack", "first", 1), _arm("b", "pack", "second", 1), _arm("c", "pack", "third", -1)]
    noise = Arm(NOISE, "P2", "{}", "", None, None, tuple(arm.name for arm in packs), {})
    arms = [_arm(BASELINE, "none"), _arm(SHAM, "P1", members=SHAM_DRAWS), noise, *packs]
    rows = [
        (unit, cell, number, member)
        for unit in range(units)
        for cell, (number, member) in enumerate(_received(arms, unit))
    ]
    grid = [(*row, scale, reading) for row in rows for scale in range(3) for reading in range(2)]
    unit, cell, arm, _, scale, reading = zip(*grid, strict=True)
    frame = pd.DataFrame(
        {
            "unit_id": [f"u{one:03d}" for one in unit],
            "arm": [arms[one].name for one in arm],
            "member": [row[3] for row in grid],
            "scale": [scales[one] for one in scale],
            "reading": [READINGS[one] for one in reading],
        }
    )
    index = np.array([unit, cell, arm, scale], dtype=np.int64)
    return Study(
        plan=plan_of(arms, scales, minimum=minimum, draws=draws, resamples=resamples),
        frame=frame,
        unit=index[0],
        cell=index[1],
        arm=index[2],
        scale=index[3],
        expressed=np.array(reading) == 1,
    )


def _received(arms: Sequence[Arm], unit: int) -> list[tuple[int, str]]:
    """Return the cells of a unit: number of the arm, and member."""
    cells = []
    for number, arm in enumerate(arms):
        dealt = arm.members
        if arm.role == "P1":
            dealt = tuple(arm.members[(unit * SHAM_PER_UNIT + place) % SHAM_DRAWS] for place in range(SHAM_PER_UNIT))
        cells += [(number, member) for member in dealt]
    return cells
