"""Would another defensible analysis have said the same? The registered list, for every primary hypothesis of a study.

An analysis returns its row, or a row that says why these data do not permit it. All test the registered hypothesis, an
effect beyond the minimum in the predicted direction, unless their method says otherwise; p-values are unadjusted except
in "Benjamini-Yekutieli". None of them decides anything.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace

import numpy as np
import pandas as pd
from scipy.special import stdtr

from neuromod_core.kernel.errors import DataError
from neuromod_core.stats import adjust, bootstrap_t, constant_by_construction, rerandomise, sign_flip
from neuromod_core.stats.mixed import LinearFit, clmm, lmm
from neuromod_core.stats.signflip import flip_pvalues
from neuromod_core.trial.analysis import PRIMARY, stream
from neuromod_core.trial.claims import Array, Grid, Sensitivity, belongs, checked, grid_of, row_of, stream_of
from neuromod_core.trial.hypotheses import COMPARED, Claim, claims_of
from neuromod_core.trial.plan import Plan
from neuromod_core.trial.scoring import Labels

NOTHING = "every difference is exactly zero: nothing could differ"


def specific(claim: Claim, grid: Grid, without: int | None = None) -> pd.Series:
    """Return the differences of  C = target - mean of foils  per unit; `without` leaves one item out."""
    values = grid.score(claim.scale, without) - grid.foils(claim.foils, without)
    return grid.differences(claim, values)


def judged(claim: Claim, analysis: str, differences: pd.Series, said: str = "") -> Sensitivity:
    """Return the row that the registered test and interval make of differences within units."""
    row, data = row_of(claim, analysis), differences.to_numpy(dtype=np.float64)
    missing = int(np.isnan(data).sum())
    if missing or data.size < 2:
        return replace(row, reason=f"{missing} of {data.size} units have no valid score")
    if constant_by_construction(data):
        return replace(row, n=data.size, reason=NOTHING)
    plan, family = claim.plan, (PRIMARY, claim.placebo.name)  # data that are as registered give numbers that are
    test = sign_flip(
        claim.sign * data,
        minimum=plan.min_effect,
        alternative="greater",
        draws=plan.draws,
        generator=stream(plan, "flips", *family),
    )
    try:
        interval = bootstrap_t(data, draws=plan.resamples, generator=stream(plan, "bootstrap", *family)).ci
    except DataError:
        interval = None
    return replace(
        row,
        estimate=float(data.mean()),
        low=interval.low if interval else None,
        high=interval.high if interval else None,
        p=test.pvalue,
        n=data.size,
        method=f"{said or 'as registered'}; {test.method}",
    )


def registered(claim: Claim, grid: Grid) -> Sensitivity:
    """Return the registered analysis itself, without adjustment, for comparison."""
    return judged(claim, "registered", specific(claim, grid))


def without_foils(claim: Claim, grid: Grid) -> Sensitivity:
    """Return the target scale alone."""
    return judged(claim, "no foils", grid.differences(claim, grid.score(claim.scale)), "target without foils")


def without_invalid(claim: Claim, grid: Grid) -> Sensitivity:
    """Return the units in which every response of both arms is valid."""
    used = [at for at, scale in enumerate(grid.scale) if scale in claim.plan.scales]
    broken = ~grid.valid[:, used].all(axis=1) & (
        belongs(claim, grid.cells, claim.arm) | belongs(claim, grid.cells, claim.placebo)
    )
    units = set(grid.cells.get_level_values("unit_id")[broken])
    found = specific(claim, grid)
    said = f"{len(units)} of {len(found)} units with an invalid response excluded"
    return judged(claim, "exclude invalid", found[~found.index.isin(units)], said)


def worst_case(claim: Claim, grid: Grid) -> Sensitivity:
    """Return missing item scores imputed by the observed extreme of that item that hurts the claim most."""
    missing = np.isnan(grid.values)
    low, high = (_extreme(grid.values, extreme) for extreme in (np.fmin, np.fmax))
    target = np.array([scale == claim.scale for scale in grid.scale])
    ours = belongs(claim, grid.cells, claim.arm)[:, None]
    harmed = (target[None] == ours) == (claim.sign > 0)  # where a small value hurts the claim
    filled = np.where(missing, np.where(harmed, low, high), grid.values)
    said = f"{int(missing.sum())} of {missing.size} item scores imputed by the worst observed"
    return judged(claim, "worst case", specific(claim, replace(grid, values=filled)), said)


def _extreme(values: Array, extreme: np.ufunc) -> Array:
    """Return the least or largest observed value of each item: (cells, items) to (items,), NaN without any."""
    found: Array = extreme.reduce(values, axis=0)
    return found


def one_item_less(claim: Claim, grid: Grid) -> Sensitivity:
    """Return the range of estimates when each item in turn is left out, and the largest p."""
    counted = [at for at, scale in enumerate(grid.scale) if scale in claim.plan.scales]
    alone = [at for at in counted if grid.scale.count(grid.scale[at]) == 1]
    if alone:
        said = f"scale {grid.scale[alone[0]]} has one item: nothing is left without it"
        return replace(row_of(claim, "leave one item out"), reason=said)
    columns = np.stack([specific(claim, grid, at).to_numpy(dtype=np.float64) for at in counted], axis=1)
    names = [f"{grid.scale[at]} {grid.items[at]}" for at in counted]
    return _ranged(claim, "leave one item out", specific(claim, grid), (columns, columns.mean(axis=0)), names)


def one_vignette_less(claim: Claim, grid: Grid) -> Sensitivity:
    """Return the range of estimates when each vignette in turn is left out, and the largest p."""
    found = specific(claim, grid)
    vignette = np.array([claim.plan.unit(str(unit)).vignette for unit in found.index])
    names = sorted(set(vignette))
    if len(names) < 3:
        said = f"{len(names)} vignettes: too few to leave one out"
        return replace(row_of(claim, "leave one vignette out"), reason=said)
    data = found.to_numpy(dtype=np.float64)
    out = vignette[:, None] == np.array(names)
    means = np.where(out, 0.0, data[:, None]).sum(axis=0) / (~out).sum(axis=0)
    still = np.where(out, claim.sign * claim.plan.min_effect, data[:, None])  # at the minimum a unit says nothing
    return _ranged(claim, "leave one vignette out", found, (still, means), names)


def _ranged(
    claim: Claim, analysis: str, whole: pd.Series, parts: tuple[Array, Array], names: Sequence[str]
) -> Sensitivity:
    """Return a row from what is left without each part: columns to flip (units, parts), and estimates (parts,)."""
    row, (columns, estimates) = row_of(claim, analysis), parts
    missing = int(np.isnan(columns).any(axis=1).sum())
    if missing:
        return replace(row, reason=f"{missing} of {len(columns)} units have no valid score")
    if not whole.to_numpy().any():
        return replace(row, n=len(whole), reason=NOTHING)
    p = flip_pvalues(
        claim.sign * columns,
        minimum=claim.plan.min_effect,
        alternative="greater",
        draws=claim.plan.draws,
        generator=stream_of(claim, analysis),
    )
    weakest = int((claim.sign * estimates).argmin())
    return replace(
        row,
        estimate=float(whole.mean()),
        low=float(estimates.min()),
        high=float(estimates.max()),
        bounds=f"range over {len(names)} left out",
        p=float(p.max()),
        n=len(whole),
        method=f"{analysis}: largest p of {len(names)} sign-flip tests; weakest without {names[weakest]}",
    )


# ------------------------------------------------------------------------------------------------------ other machinery


def item_rows(claim: Claim, grid: Grid, periods: pd.Series) -> pd.DataFrame:
    """Return item-level rows of both arms: unit, item, period, treated (-1/2, 1/2), y = item - mean of foils.

    periods: (unit_id, arm) -> period. Members of a comparator are averaged within unit and item.
    """
    columns = [at for at, scale in enumerate(grid.scale) if scale == claim.scale]
    taken = grid.values[:, columns] - grid.foils(claim.foils)[:, None]
    names = [grid.items[at] for at in columns]
    parts = []
    for arm, treated in ((claim.placebo, -0.5), (claim.arm, 0.5)):
        here = belongs(claim, grid.cells, arm)
        table = pd.DataFrame(taken[here], index=grid.cells.get_level_values("unit_id")[here], columns=names)
        means = table.groupby(level=0).mean().rename_axis("unit").reset_index()
        long = means.melt(id_vars="unit", var_name="item", value_name="y")
        period = [f"p{periods[(unit, arm.name)]}" for unit in long["unit"]]
        parts.append(long.assign(treated=treated, period=period))
    return pd.concat(parts, ignore_index=True)


def linear_mixed(claim: Claim, grid: Grid, periods: pd.Series) -> Sensitivity:
    """Return the linear mixed model on item-level rows, contexts and items random, by Kenward and Roger.

    y ~ period + treated + (treated | unit) + (treated | item);  its diagonal where that is singular or unconverged.
    """
    row, rows = row_of(claim, "linear mixed model"), item_rows(claim, grid, periods)
    if not specific(claim, grid).to_numpy().any():
        return replace(row, reason=NOTHING)
    lost = int(rows["y"].isna().sum())
    rows = rows.dropna()
    try:
        fit = _fitted(rows)
    except DataError as error:
        return replace(row, reason=str(error))
    found = fit.coefficient("treated")
    beyond = (claim.sign * found.estimate - claim.plan.min_effect) / found.se
    dropped = f", {lost} missing rows left out" if lost else ""
    return replace(
        row,
        estimate=found.estimate,
        low=found.ci.low if found.ci else None,
        high=found.ci.high if found.ci else None,
        p=max(float(stdtr(found.df, -beyond)), float(np.finfo(np.float64).tiny)),
        n=found.n,
        method=f"{found.method}, {len(rows)} rows, t({found.df:.1f}) beyond the minimum, one-sided{dropped}",
    )


def _fitted(rows: pd.DataFrame) -> LinearFit:
    """Return the fit with correlated effects, or with uncorrelated ones where that has no interior maximum."""
    fixed = "y ~ C(period) + treated" if rows["period"].nunique() > 1 else "y ~ treated"
    try:
        fit = lmm(rows, fixed, ["treated | unit", "treated | item"])
    except DataError:
        fit = None
    if fit is None or fit.singular or not fit.converged:
        fit = lmm(rows, fixed, ["treated || unit", "treated || item"])
    return fit


def ordinal(claim: Claim, answers: pd.DataFrame | None) -> Sensitivity:
    """Return the cumulative-link mixed model of sampled answers, on the latent logistic scale, two-sided, of no effect.

    answers: one row per answer; columns unit_id, arm, member, scale, item, answer (a level, lowest 0, reversed items
    turned). None, or without rows of this claim: not available.
    """
    row = row_of(claim, "ordinal mixed model")
    if answers is None or answers.empty:
        return replace(row, reason="the study has no sampled answers on options")
    index = pd.MultiIndex.from_frame(answers[["unit_id", "arm", "member"]])
    ours, theirs = belongs(claim, index, claim.arm), belongs(claim, index, claim.placebo)
    kept = (ours | theirs) & (answers["scale"] == claim.scale).to_numpy()
    if not kept.any():
        return replace(row, reason=f"no sampled answer on {claim.scale} in these arms")
    rows = answers[kept].assign(treated=np.where(ours[kept], 0.5, -0.5))
    try:
        found = clmm(rows, "answer ~ treated", ["treated || unit_id"]).coefficient("treated")
    except DataError as error:
        return replace(row, reason=str(error))
    return replace(
        row,
        estimate=found.estimate,
        low=found.ci.low if found.ci else None,
        high=found.ci.high if found.ci else None,
        p=found.pvalue,
        n=found.n,
        method=f"{found.method}, log odds, two-sided, no minimum",
    )


def relabelled(claim: Claim, grid: Grid, periods: pd.Series) -> Sensitivity:
    """Return the re-randomisation of whole sequences over all arms, the arm's cells shifted by the minimum."""
    row, arms = row_of(claim, "label permutation"), claim.plan.arms
    if not specific(claim, grid).to_numpy().any():
        return replace(row, reason=NOTHING)
    values = grid.score(claim.scale) - grid.foils(claim.foils)
    columns = [grid.mean(claim, values, arm) for arm in arms]
    table = np.stack([column.to_numpy(dtype=np.float64) for column in columns], axis=1)
    shift = claim.sign * claim.plan.min_effect
    place = [arm.name for arm in arms]
    ours, theirs = place.index(claim.arm.name), place.index(claim.placebo.name)
    table[:, ours] -= shift
    try:
        order = _orders(columns[0].index, place, periods)
        test = rerandomise(
            np.take_along_axis(table, order, axis=1),
            order,
            (np.arange(len(arms)) == ours).astype(float) - (np.arange(len(arms)) == theirs),
            alternative="greater" if claim.sign > 0 else "less",
            draws=claim.plan.draws,
            generator=stream_of(claim, "label permutation"),
        )
    except DataError as error:
        return replace(row, reason=str(error))
    return replace(row, estimate=test.estimate + shift, p=test.pvalue, n=test.n, method=test.method)


def _orders(
    units: pd.Index, arms: Sequence[str], periods: pd.Series
) -> np.ndarray[tuple[int, ...], np.dtype[np.int64]]:
    """Return the arm of each period, (units, periods).

    Raises:
        DataError: when a unit did not receive every arm.
    """
    table = periods.unstack().reindex(index=units, columns=list(arms))
    if table.isna().to_numpy().any():
        short = int(table.isna().any(axis=1).sum())
        raise DataError(f"{short} of {len(table)} units did not receive every arm: their sequences cannot be re-dealt.")
    return np.argsort(table.to_numpy(dtype=np.float64), axis=1, kind="stable")


def yekutieli(rows: Sequence[Sensitivity]) -> list[Sensitivity]:
    """Return rows adjusted for the false discovery rate under any dependence, one family for each comparator."""
    found: list[Sensitivity] = []
    for comparator in dict.fromkeys(row.comparator for row in rows):
        mine = [row for row in rows if row.comparator == comparator]
        p = [row.p for row in mine if row.p is not None]
        adjusted = iter(adjust(p, "by").tolist() if p else ())
        said = f"Benjamini-Yekutieli over {len(p)} tests against {comparator}"
        for row in mine:
            named = replace(row, analysis="Benjamini-Yekutieli")
            found.append(named if row.p is None else replace(named, p=next(adjusted), method=said))
    return found


def other_reading(claim: Claim) -> Claim:
    """Return the claim in the other form of its reading: expressed for raw, raw for expressed."""
    return replace(claim, form="raw" if claim.form == "expressed" else "expressed")


def other_comparators(claim: Claim) -> Iterator[Claim]:
    """Yield the claim against the placebos that it is not registered against, and against the baseline."""
    for placebo in claim.plan.arms:
        known = placebo.role in COMPARED or placebo.name == claim.plan.baseline
        if known and placebo != claim.placebo:
            yield replace(claim, placebo=placebo)


# ------------------------------------------------------------------------------------------------------- the whole list

UNIT_BY_UNIT: tuple[Callable[[Claim, Grid], Sensitivity], ...] = (
    without_invalid,
    worst_case,
    without_foils,
    one_item_less,
    one_vignette_less,
)


def rows(
    plan: Plan,
    responses: pd.DataFrame,
    labels: Labels,
    *,
    scores: pd.DataFrame | None = None,
    answers: pd.DataFrame | None = None,
) -> tuple[Sensitivity, ...]:
    """Return every sensitivity analysis of every primary hypothesis, from the raw rows of a closed study.

    responses: the `responses` table.  labels: what each cell is.  scores: the `scores` table; where it has no value,
    because a check failed, the items of that scale are missing.  answers: as in `ordinal`.

    Raises:
        DataError: when the rows hold none of the primary reading.
    """
    periods = _periods(plan, labels)
    grids = {
        claim.reading: checked(grid_of(plan, responses, labels, claim.reading), scores, claim.reading)
        for claim in _both(claims_of(plan))
    }
    found: list[Sensitivity] = []
    first = [registered(claim, grids[claim.reading]) for claim in claims_of(plan)]
    for claim, row in zip(claims_of(plan), first, strict=True):
        grid, other = grids[claim.reading], other_reading(claim)
        found += [row, linear_mixed(claim, grid, periods), ordinal(claim, answers), relabelled(claim, grid, periods)]
        found += [analysis(claim, grid) for analysis in UNIT_BY_UNIT]
        found.append(judged(other, "other reading", specific(other, grids[other.reading]), other.reading))
        found += [
            judged(one, "other comparator", specific(one, grid), f"against {one.placebo.name}")
            for one in other_comparators(claim)
        ]
    return (*found, *yekutieli(first))


def _both(claims: Sequence[Claim]) -> list[Claim]:
    return [each for claim in claims for each in (claim, other_reading(claim))]


def _periods(plan: Plan, labels: Labels) -> pd.Series:
    """Return (unit_id, arm) -> period."""
    cells = {(cell.unit_id, labels.by_cell[cell.cell_code][0]): cell.period for cell in plan.cells}
    return pd.Series(list(cells.values()), index=pd.MultiIndex.from_tuples(cells, names=["unit_id", "arm"]))
