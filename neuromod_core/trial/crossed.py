"""Cross-detection: which arm raises which scale. A fake pack must raise none; a described state must raise its own.

Family C1: for every arm but the placebos and every scale, the specificity contrast C = target - mean of foils within
units, in the expressed reading, so that what a sampler does counts, against the arm's own entropy-matched temperature
where the study has one, else against the baseline. Minimum-effect sign flips upwards, step-down max-T over all arms and
scales together: one raised scale among all of them is one false claim.

Family C2, the positive control: every arm that is told to be in a state, on the scale of that state alone. It is asked
what gate G5 asks on pilots: its own scale, foils not taken off, shifts as predicted (sign flips, step-down
max-T) with g_z of at least 0.8. It is compared with an arm that is told of a state with nothing in it, where the study
has one (`EMPTY`), so that being told does not count; else with the baseline.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd

from neuromod_core.kernel.errors import DataError
from neuromod_core.kernel.rng import rng
from neuromod_core.stats import Adjusted, Result, bootstraps, constant_by_construction, max_t, paired
from neuromod_core.trial.analysis import Verdict
from neuromod_core.trial.control import SMALLEST_G
from neuromod_core.trial.hypotheses import reading_of
from neuromod_core.trial.plan import Arm, Plan
from neuromod_core.trial.wide import Array, Wide, wide

CROSSED, TOLD = "C1", "C2"
EMPTY = "instructed_flat"  # the arm that is told of a plain day
COMPARATORS = ("none", "P0", "P1", "P2")  # roles of arms that raise nothing by design: not under test here


@dataclass(frozen=True, eq=False)
class _Cross:
    """One arm on one scale: its verdict so far, and the differences of the units that received both arms, (units,)."""

    verdict: Verdict
    units: tuple[str, ...]
    differences: Array


def _comparator(plan: Plan, arm: Arm) -> tuple[Arm, tuple[str, ...]]:
    """Return what an arm is compared with, and which members of it: its matched temperature, or the baseline."""
    matched = plan.arm("P2")
    if matched is not None and arm.name in matched.members:
        return matched, (arm.name,)
    return plan.arms[0], ("",)


def _planned(plan: Plan, table: Wide) -> Iterator[_Cross]:
    for scale in plan.scales:
        contrast = table.specificity(scale, [foil for foil in plan.scales if foil != scale])
        for arm in (arm for arm in plan.arms[1:] if arm.role not in COMPARATORS):
            placebo, members = _comparator(plan, arm)
            both = table.both(arm.name, placebo.name)
            differences = table.mean(contrast, arm.name, arm.members) - table.mean(contrast, placebo.name, members)
            name, reading = f"{arm.name} raises {scale}", reading_of(plan, "expressed")
            verdict = Verdict(CROSSED, name, arm.name, scale, reading, placebo.name)
            yield _Cross(verdict, tuple(np.array(table.units)[both].tolist()), differences[both])


def _told(plan: Plan, table: Wide) -> Iterator[_Cross]:
    told = [arm for arm in plan.arms[1:] if arm.role == "persona"]
    empty = next((arm for arm in told if arm.name == EMPTY), plan.arms[0])
    for arm in told:
        if arm.target_scale not in plan.scales or not arm.predicted_sign:
            continue
        values, both = table.on(arm.target_scale), table.both(arm.name, empty.name)
        differences = table.mean(values, arm.name, ("",)) - table.mean(values, empty.name, ("",))
        name = f"{arm.name} is seen on {arm.target_scale}"
        verdict = Verdict(TOLD, name, arm.name, arm.target_scale, reading_of(plan, "expressed"), empty.name)
        units = tuple(np.array(table.units)[both].tolist())
        yield _Cross(verdict, units, differences[both] * arm.predicted_sign)


def _begun(item: _Cross) -> Verdict:
    """Return the verdict as far as it goes without a test; it is ready for one when it has an estimate."""
    missing = int(np.isnan(item.differences).sum())
    if missing or not len(item.differences):
        return replace(item.verdict, note=f"{missing} of {len(item.differences)} units have no valid score")
    if constant_by_construction(item.differences):
        note = "every difference is exactly zero: nothing in this comparison could differ"
        return replace(item.verdict, n=len(item.differences), informative=False, state="not informative", note=note)
    return replace(item.verdict, n=len(item.differences), estimate=float(item.differences.mean()))


def cross_verdicts(plan: Plan, scores: pd.DataFrame) -> list[Verdict]:
    """Return family C1, scale by scale, and family C2."""
    table = wide(scores, reading_of(plan, "expressed"))
    crossed = _family(plan, CROSSED, list(_planned(plan, table)), plan.min_effect)
    told = _family(plan, TOLD, list(_told(plan, table)), 0.0)
    return [*crossed, *(_large_enough(verdict) for verdict in told)]


def _large_enough(verdict: Verdict) -> Verdict:
    """Return the verdict on a told state, which needs a shift that is not only sure but clear over units."""
    if verdict.state != "supported":
        return verdict
    if verdict.g_z is None:
        return replace(verdict, state="not measurable", note="g_z is not known: the shift does not vary over units")
    small = verdict.g_z < SMALLEST_G
    return replace(verdict, state="not supported", note=f"g_z is below {SMALLEST_G:g}") if small else verdict


def _family(plan: Plan, family: str, items: Sequence[_Cross], minimum: float) -> list[Verdict]:
    """Return the verdicts of a family.

    Arms that different units received are adjusted by max-T within each set of units, and by Bonferroni over sets.
    """
    verdicts = [_begun(item) for item in items]
    sets: dict[tuple[str, ...], list[int]] = {}
    for at, verdict in enumerate(verdicts):
        if verdict.estimate is not None:
            sets.setdefault(items[at].units, []).append(at)
    for places in sets.values():
        table = np.stack([items[at].differences for at in places], axis=1)
        intervals = bootstraps(table, draws=plan.resamples, generator=rng(plan.seed, "bootstrap", family))
        flips = rng(plan.seed, "flips", family)
        tests = max_t(table, minimum=minimum, alternative="greater", draws=plan.draws, generator=flips)
        for at, column, interval, test in zip(places, table.T, intervals, tests, strict=True):
            verdicts[at] = _judged(plan, verdicts[at], column, interval, test, len(sets))
    return verdicts


def _judged(
    plan: Plan, verdict: Verdict, differences: Array, interval: Result | DataError, test: Adjusted, sets: int
) -> Verdict:
    ci, note = (None, str(interval)) if isinstance(interval, DataError) else (interval.ci, None)
    adjusted = min(1.0, test.p_adj * sets)
    return replace(
        verdict,
        ci_low=ci.low if ci else None,
        ci_high=ci.high if ci else None,
        g_z=paired(differences).g_z,
        statistic=test.statistic if np.isfinite(test.statistic) else None,
        p=test.pvalue,
        p_adj=adjusted,
        method=test.method,
        state="supported" if adjusted < plan.alpha else "not supported",
        note=note,
    )


def raised(verdicts: Sequence[Verdict], arm: str) -> list[str]:
    """Return the scales that an arm was found to raise."""
    return [item.scale for item in verdicts if item.family == CROSSED and item.arm == arm and item.state == "supported"]
