"""Can a cell be told to be dosed, by its answers? Models of presence and of intensity, judged on packs they never saw.

A model is fitted on some packs and their controls and asked about cells of another pack, in units it did not see. Where
a study has too few packs, units or doses for that, no model is offered, and the reason is said.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.stats import rankdata

from neuromod_core.kernel.errors import DataError
from neuromod_core.kernel.rng import rng
from neuromod_core.stats import Named, auc
from neuromod_core.trial.plan import Plan

Array = NDArray[np.float64]
Flags = NDArray[np.bool_]

ACTIVE, CONTROL = ("pack", "assay"), ("P0", "P1", "P2")
LEAST_PACKS, LEAST_UNITS, LEAST_DOSES = 3, 8, 3
FOLDS = 4  # of units
PENALTY = 1.0  # ridge, on standardised features
DRAWS = 299
BINS = 5
STEPS = 25  # of Newton's method


@dataclass(frozen=True, eq=False)
class Cells:
    """The cells of a study that a model may learn from.

    features (cells, scales): scores less the baseline's of the same unit.  active (cells,).  arms, units: per cell.
    dose (cells,): of the pack, 0 for controls.  left_out: cells without a score.
    """

    features: Array
    active: Flags
    arms: tuple[str, ...]
    units: tuple[str, ...]
    dose: Array
    scales: tuple[str, ...]
    left_out: int

    @property
    def packs(self) -> tuple[str, ...]:
        """The arms that are dosed."""
        return tuple(dict.fromkeys(arm for arm, on in zip(self.arms, self.active, strict=True) if on))


@dataclass(frozen=True)
class Bin:
    """A point of the reliability diagram: mean probability, share that was dosed, cells."""

    predicted: float
    observed: float
    n: int


@dataclass(frozen=True)
class Presence:
    """How well dosed cells are told from controls, on packs and units that no model saw.

    pvalue: share of refits on arms rearranged within units that do as well.  brier, base_brier: of the calibrated
    probabilities, and of the share of dosed cells.  slope: of the calibration, 1 for probabilities that are right.
    by_pack: area for each pack against all controls.
    """

    area: Named
    pvalue: float
    brier: float
    base_brier: float
    slope: float
    error: float
    bins: tuple[Bin, ...]
    by_pack: Mapping[str, float]
    packs: int
    units: int
    cells: int
    left_out: int

    @property
    def works(self) -> bool:
        """Whether dosed cells are told from controls better than by chance, at .05."""
        return self.pvalue < 0.05 and self.area.estimate > 0.5


@dataclass(frozen=True)
class Intensity:
    """How well the dose of a cell is told, on packs and units that no model saw: rank correlation, and its p."""

    rho: float
    pvalue: float
    doses: tuple[float, ...]
    cells: int

    @property
    def works(self) -> bool:
        """Whether the dose is told better than by chance, at .05."""
        return self.pvalue < 0.05 and self.rho > 0.0


def cells_of(plan: Plan, scores: pd.DataFrame, reading: str) -> Cells:
    """Return the cells of a closed study as features.

    scores: the study's table of scores. Units are named by their vignettes, which several runs may share.

    Raises:
        DataError: if the study has no score of this reading.
    """
    rows = scores[scores["reading"] == reading]
    if rows.empty:
        known = ", ".join(sorted(set(scores["reading"])))
        raise DataError(f"{plan.study}: no scores of reading {reading!r}; there are {known}.")
    roles = {arm.name: arm.role for arm in plan.arms}
    vignette = {unit.unit_id: unit.vignette for unit in plan.units}
    wide = rows.set_index(["unit_id", "arm", "member", "scale"])["value"].unstack("scale")[list(plan.scales)]
    base = wide.xs(plan.baseline, level="arm").groupby(level="unit_id").mean()
    kept = [key for key in wide.index if key[1] != plan.baseline and roles[str(key[1])] in (*ACTIVE, *CONTROL)]
    table = wide.loc[kept].to_numpy(dtype=np.float64) - base.loc[[key[0] for key in kept]].to_numpy(dtype=np.float64)
    there = np.isfinite(table).all(axis=1)
    found = [key for key, ok in zip(kept, there, strict=True) if ok]
    active = np.array([roles[str(key[1])] in ACTIVE for key in found], dtype=np.bool_)
    return Cells(
        features=table[there],
        active=active,
        arms=tuple(str(key[1]) for key in found),
        units=tuple(vignette[str(key[0])] for key in found),
        dose=np.where(active, plan.dose, 0.0),
        scales=plan.scales,
        left_out=int((~there).sum()),
    )


def together(runs: Sequence[Cells]) -> Cells:
    """Return the cells of several runs as one set; raise DataError when they do not have the same scales."""
    if len({run.scales for run in runs}) != 1:
        raise DataError("The runs administered different scales; their cells cannot be taken together.")
    return Cells(
        features=np.concatenate([run.features for run in runs]),
        active=np.concatenate([run.active for run in runs]),
        arms=tuple(arm for run in runs for arm in run.arms),
        units=tuple(unit for run in runs for unit in run.units),
        dose=np.concatenate([run.dose for run in runs]),
        scales=runs[0].scales,
        left_out=sum(run.left_out for run in runs),
    )


def why_not(cells: Cells) -> str | None:
    """Return why no model of presence is offered, None when one is."""
    units, controls = len(set(cells.units)), int((~cells.active).sum())
    if len(cells.packs) < LEAST_PACKS:
        return f"{len(cells.packs)} dosed arms; at least {LEAST_PACKS} are needed to hold one out and learn of others"
    if units < LEAST_UNITS:
        return f"{units} units; at least {LEAST_UNITS} are needed"
    if controls < units:
        return f"{controls} cells of sham or matched placebos for {units} units; one a unit is needed"
    return None


def presence(cells: Cells, *, draws: int = DRAWS) -> Presence:
    """Return how well dosed cells are told from sham and matched placebos.

    Formula:  logit P(dosed) = b + w . z,  z the standardised features, by ridge logistic regression; a cell of pack k
    in unit group g is judged by the model fitted without k and g, a control by the mean of those of its group. These
    scores are made probabilities by a logistic curve fitted on the other packs and groups.  p refits all of it on arms
    rearranged within units.
    Source: Platt 1999 (probabilities); DeGroot & Fienberg 1983 (reliability diagram); Ojala & Garriga 2010 (refits).

    Raises:
        DataError: with the reason why no model is offered.
    """
    if (reason := why_not(cells)) is not None:
        raise DataError(f"No model of presence is offered: {reason}.")
    groups = _groups(cells.units)
    scores = _held_out(cells, cells.features, groups)
    labels = cells.active.astype(np.float64)
    area = auc(scores, labels, block=list(cells.units), generator=rng(0, "presence"), draws=999)
    p = _refitted(cells, groups, area.estimate, draws)
    probability = _probabilities(cells, scores, groups)
    slope = float(_logistic(_logit(probability)[:, None], labels, 0.0)[1])
    bins = _bins(probability, labels)
    return Presence(
        area=area,
        pvalue=p,
        brier=float(np.square(probability - labels).mean()),
        base_brier=float(labels.mean() * (1 - labels.mean())),
        slope=slope,
        error=sum(each.n * abs(each.predicted - each.observed) for each in bins) / len(labels),
        bins=bins,
        by_pack={pack: _area(scores, cells, pack) for pack in cells.packs},
        packs=len(cells.packs),
        units=len(set(cells.units)),
        cells=len(labels),
        left_out=cells.left_out,
    )


def intensity(cells: Cells, *, draws: int = DRAWS) -> Intensity:
    """Return how well the dose of dosed cells is told, over runs of several doses.

    Formula:  dose = b + w . z  by ridge regression, controls having dose 0; judged as in `presence`; Spearman's rho
    over dosed cells. p rearranges the doses of one pack in one unit.

    Raises:
        DataError: with the reason why no model is offered.
    """
    reason, doses = why_not(cells), tuple(sorted({float(dose) for dose in cells.dose[cells.active]}))
    if reason is None and len(doses) < LEAST_DOSES:
        reason = f"dosed cells have {len(doses)} doses ({', '.join(f'{dose:g}' for dose in doses)}); "
        reason += f"runs of at least {LEAST_DOSES} are needed"
    if reason is not None:
        raise DataError(f"No model of intensity is offered: {reason}.")
    found = np.full(len(cells.dose), np.nan)
    for train, test in _splits(cells, _groups(cells.units)):
        middle, spread = _scale(cells.features[train])
        seen, new = (cells.features[train] - middle) / spread, (cells.features[test] - middle) / spread
        centred = cells.dose[train] - cells.dose[train].mean()
        slopes = np.linalg.solve(seen.T @ seen + PENALTY * np.eye(seen.shape[1]), seen.T @ centred)
        found[test] = new @ slopes
    ranks, told = _ranks(found[cells.active]), cells.dose[cells.active]
    blocks = [f"{arm}/{unit}" for arm, unit, on in zip(cells.arms, cells.units, cells.active, strict=True) if on]
    rho = float(np.corrcoef(ranks, _ranks(told))[0, 1])
    generator = rng(0, "intensity")
    null = [float(np.corrcoef(ranks, _ranks(_within(blocks, told, generator)))[0, 1]) for _ in range(draws)]
    return Intensity(rho, (1 + sum(value >= rho for value in null)) / (1 + draws), doses, len(told))


def _groups(units: Sequence[str]) -> NDArray[np.int64]:
    """Return the group of units that each cell's unit belongs to."""
    known = {unit: place % FOLDS for place, unit in enumerate(sorted(set(units)))}
    return np.array([known[unit] for unit in units], dtype=np.int64)


def _splits(cells: Cells, groups: NDArray[np.int64]) -> Iterator[tuple[Flags, Flags]]:
    """Yield (train, test): cells of one pack in one group of units, judged without that pack and that group."""
    arms = np.array(cells.arms)
    for group in range(FOLDS):
        for pack in cells.packs:
            yield (groups != group) & (arms != pack), (groups == group) & (arms == pack)


def _held_out(cells: Cells, features: Array, groups: NDArray[np.int64]) -> Array:
    """Return one score per cell, in logits, from models that saw neither its pack nor its unit."""
    scores, arms = np.zeros(len(features)), np.array(cells.arms)
    for group in range(FOLDS):
        here = (groups == group) & ~cells.active
        votes = []
        for pack in cells.packs:
            train = (groups != group) & (arms != pack)
            middle, spread = _scale(features[train])
            fitted = _logistic((features[train] - middle) / spread, cells.active[train].astype(np.float64), PENALTY)
            judged = fitted[0] + ((features - middle) / spread) @ fitted[1:]
            mine = (groups == group) & (arms == pack)
            scores[mine] = judged[mine]
            votes.append(judged[here])
        scores[here] = np.mean(votes, axis=0)
    return scores


def _scale(seen: Array) -> tuple[Array, Array]:
    spread = seen.std(axis=0)
    return seen.mean(axis=0), np.where(spread > 0, spread, np.inf)


def _logistic(x: Array, y: Array, penalty: float) -> Array:
    """Return intercept and slopes of a ridge logistic regression by Newton's method; the intercept is not penalised."""
    design = np.column_stack([np.ones(len(x)), x])
    ridge = np.diag([1e-9, *([penalty + 1e-6] * x.shape[1])])
    beta = np.zeros(design.shape[1])
    for _ in range(STEPS):
        p = _sigmoid(design @ beta)
        weights = np.maximum(p * (1 - p), 1e-9)
        step = np.linalg.solve((design.T * weights) @ design + ridge, design.T @ (y - p) - ridge @ beta)
        beta = beta + step
        if np.abs(step).max() < 1e-8:
            break
    return np.asarray(beta, dtype=np.float64)


def _probabilities(cells: Cells, scores: Array, groups: NDArray[np.int64]) -> Array:
    """Return scores as probabilities, by curves fitted on other packs and other groups of units."""
    found, arms = np.zeros(len(scores)), np.array(cells.arms)
    for arm in dict.fromkeys(cells.arms):
        for group in range(FOLDS):
            mine = (arms == arm) & (groups == group)
            rest = (groups != group) & ~((arms == arm) & cells.active)
            curve = _logistic(scores[rest][:, None], cells.active[rest].astype(np.float64), PENALTY)
            found[mine] = _sigmoid(curve[0] + curve[1] * scores[mine])
    return found


def _refitted(cells: Cells, groups: NDArray[np.int64], observed: float, draws: int) -> float:
    """Return the p-value of an area by refits on features rearranged within units."""
    generator, labels = rng(0, "presence", "refits"), cells.active.astype(np.float64)
    order, reached = np.arange(len(labels)), 0
    for _ in range(draws):
        places = _within(cells.units, order.astype(np.float64), generator).astype(np.int64)
        reached += _dominance(_held_out(cells, cells.features[places], groups), labels) >= observed - 1e-12
    return (1 + reached) / (1 + draws)


def _within(blocks: Sequence[str], values: Array, generator: np.random.Generator) -> Array:
    """Return values rearranged at random within blocks."""
    moved = values.copy()
    for places in pd.Series(range(len(blocks))).groupby(np.array(blocks)).groups.values():
        at = np.asarray(places, dtype=np.int64)
        moved[at] = values[at][generator.permutation(len(at))]
    return moved


def _dominance(scores: Array, labels: Array) -> float:
    """Return the area under the curve."""
    ranks, ones = _ranks(np.round(scores, 9)), int(labels.sum())
    return float((ranks @ labels - ones * (ones + 1) / 2) / (ones * (len(labels) - ones)))


def _area(scores: Array, cells: Cells, pack: str) -> float:
    mine = (np.array(cells.arms) == pack) | ~cells.active
    return _dominance(scores[mine], cells.active[mine].astype(np.float64))


def _bins(probability: Array, labels: Array) -> tuple[Bin, ...]:
    parts = np.array_split(np.argsort(probability, kind="stable"), BINS)
    return tuple(
        Bin(float(probability[part].mean()), float(labels[part].mean()), len(part)) for part in parts if len(part)
    )


def _ranks(values: Array) -> Array:
    return np.asarray(rankdata(values), dtype=np.float64)


def _sigmoid(x: Array) -> Array:
    return np.asarray(1 / (1 + np.exp(-np.clip(x, -30, 30))), dtype=np.float64)


def _logit(p: Array) -> Array:
    clipped = np.clip(p, 1e-6, 1 - 1e-6)
    return np.log(clipped / (1 - clipped))
