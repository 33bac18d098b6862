"""The registered analysis: one function for dummy labels before unblinding, real ones after it, and verification.

Primary (F1): for every arm with a prediction, the specificity contrast C = target - mean of foils, within units,
against the sham ensemble (P1, raw reading) and against the entropy-matched temperature (P2, expressed reading);
minimum-effect sign flips in the predicted direction, step-down max-T over the arms of a comparator. An arm succeeds
when it passes both (intersection-union) and its target scale itself moves as predicted. Secondary: F2 side effects, F3
scale shifts, F4 specificity of all other arms on the primary scale, each adjusted by Benjamini and Hochberg.

One set of sign flips and one of resamples serve all hypotheses of a family that have the same units: each p-value and
each interval is what it would be alone.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import NamedTuple

import numpy as np
import pandas as pd

from neuromod_core.kernel.errors import DataError
from neuromod_core.kernel.rng import rng
from neuromod_core.stats import (
    Adjusted,
    Result,
    adjust,
    bootstraps,
    constant_by_construction,
    intersection_union,
    max_t,
    paired,
    sign_flips,
)
from neuromod_core.stats.sample import constant
from neuromod_core.trial.hypotheses import COMPARED, Claim, claims_of, comparators, reading_of
from neuromod_core.trial.plan import Arm, Plan
from neuromod_core.trial.wide import Array, Mask, Wide, wide

PRIMARY, DECISIONS, SIDE_EFFECTS, SHIFTS, CONTRASTS = "F1", "F1 decisions", "F2", "F3", "F4"
EVERY = "every placebo"
KEYS = ["unit_id", "arm", "member", "scale", "reading"]
Test = Callable[[Array, np.random.Generator], Sequence[Result]]  # (units, hypotheses) to one result each


@dataclass(frozen=True)
class Verdict:
    """One row of `verdicts`."""

    family: str
    hypothesis: str
    arm: str
    scale: str
    reading: str
    comparator: str
    estimate: float | None = None
    ci_low: float | None = None
    ci_high: float | None = None
    g_z: float | None = None
    statistic: float | None = None
    p: float | None = None
    p_adj: float | None = None
    n: int | None = None
    method: str = "none"
    informative: bool = True
    state: str = "not measurable"
    note: str | None = None

    def as_row(self) -> dict[str, object]:
        """Return the row of the table."""
        return asdict(self)


class Tables(NamedTuple):
    """The scores of the primary reading, raw and expressed."""

    raw: Wide
    expressed: Wide

    def form(self, kind: str) -> Wide:
        """Return the "raw" or the "expressed" table."""
        return self.raw if kind == "raw" else self.expressed


def tables(plan: Plan, scores: pd.DataFrame) -> Tables:
    """Return the scores that a plan's analysis reads."""
    return Tables(wide(scores, reading_of(plan, "raw")), wide(scores, reading_of(plan, "expressed")))


# ----------------------------------------------------------------------------------------------------------- hypotheses


@dataclass(frozen=True, eq=False)
class _Planned:
    """A hypothesis before its test: differences of the units that received both arms, (units,).

    sign: the direction of a one-sided test.
    """

    verdict: Verdict
    units: tuple[str, ...]
    differences: Array
    sign: float = 1.0


def _planned(verdict: Verdict, units: Sequence[str], both: Mask, differences: Array) -> _Planned:
    return _Planned(verdict, tuple(np.array(units)[both].tolist()), differences[both])


def _specific(family: str, claim: Claim, scores: Tables) -> _Planned:
    """Return the specificity contrast of a claim."""
    table, arm, placebo = scores.form(claim.form), claim.arm, claim.placebo
    contrast = table.specificity(claim.scale, claim.foils)
    differences = table.mean(contrast, arm.name, arm.members) - table.mean(contrast, placebo.name, claim.members)
    verdict = Verdict(family, claim.name, arm.name, claim.scale, claim.reading, placebo.name)
    return _planned(verdict, table.units, table.both(arm.name, placebo.name), differences)


# ---------------------------------------------------------------------------------------------------------------- tests


def stream(plan: Plan, what: str, *family: str) -> np.random.Generator:
    """Return the random stream of the "flips" or the "bootstrap" of a family, whose name may have several parts."""
    return rng(plan.seed, what, *family)


def _begun(item: _Planned) -> tuple[Verdict, bool]:
    """Return the verdict as far as it goes without a test, and whether there is anything to test."""
    verdict, differences = item.verdict, item.differences
    missing = int(np.isnan(differences).sum())
    if missing:
        return replace(verdict, note=f"{missing} of {len(differences)} units have no valid score"), False
    if constant_by_construction(differences):
        note = "every difference is exactly zero: nothing in this comparison could differ"
        zero = replace(verdict, estimate=0.0, n=len(differences), informative=False, state="not informative", note=note)
        return zero, False
    return replace(verdict, estimate=float(differences.mean()), n=len(differences)), True


def _tested(plan: Plan, planned: Sequence[_Planned], names: Sequence[str], test: Test) -> tuple[list[Verdict], int]:
    """Return the verdicts with estimate, interval, g_z and test, and how many sets of units there are.

    Hypotheses on the same units are one set. All sets have the same random stream.
    """
    begun = [_begun(item) for item in planned]
    verdicts = [verdict for verdict, _ in begun]
    sets: dict[tuple[str, ...], list[int]] = {}
    for at, (_, ready) in enumerate(begun):
        if ready:
            sets.setdefault(planned[at].units, []).append(at)
    for places in sets.values():
        differences = np.stack([planned[at].differences for at in places], axis=1)
        signs = np.array([planned[at].sign for at in places])
        intervals = bootstraps(differences, draws=plan.resamples, generator=stream(plan, "bootstrap", *names))
        results = test(signs * differences, stream(plan, "flips", *names))
        for at, column, interval, result in zip(places, differences.T, intervals, results, strict=True):
            verdicts[at] = _filled(verdicts[at], column, interval, result)
    return verdicts, len(sets)


def _filled(verdict: Verdict, differences: Array, interval: Result | DataError, result: Result) -> Verdict:
    """Return the verdict with what its test and its interval say, or with the reason why it has no interval."""
    ci, note = (None, str(interval)) if isinstance(interval, DataError) else (interval.ci, None)
    return replace(
        verdict,
        ci_low=ci.low if ci else None,
        ci_high=ci.high if ci else None,
        g_z=None if constant(differences) else paired(differences).g_z,
        statistic=result.statistic if np.isfinite(result.statistic) else None,
        p=result.pvalue,
        p_adj=result.p_adj if isinstance(result, Adjusted) else None,
        method=result.method,
        note=note,
    )


# -------------------------------------------------------------------------------------------------------------- primary


def primary(plan: Plan, scores: Tables) -> list[Verdict]:
    """Return family F1: each predicted arm against each placebo, and against all of them."""
    families = [_family(plan, scores, placebo) for placebo in comparators(plan)]
    arms = {arm.name: arm for arm in plan.arms}
    unions = [_union(arms[parts[0].arm], parts) for parts in zip(*families, strict=True)]
    return [verdict for family in families for verdict in family] + unions


def _family(plan: Plan, scores: Tables, placebo: Arm) -> list[Verdict]:
    """Return the verdicts of all arms against one comparator, adjusted together.

    Arms that different units received are adjusted by max-T within each set of units, and by Bonferroni over sets.
    """

    def test(differences: Array, generator: np.random.Generator) -> Sequence[Result]:
        return max_t(differences, minimum=plan.min_effect, alternative="greater", draws=plan.draws, generator=generator)

    claims = [claim for claim in claims_of(plan) if claim.placebo == placebo]
    planned = [replace(_specific(PRIMARY, claim, scores), sign=claim.sign) for claim in claims]
    tested, sets = _tested(plan, planned, (PRIMARY, placebo.name), test)
    return [_decision(claim, scores, verdict, sets) for claim, verdict in zip(claims, tested, strict=True)]


def _decision(claim: Claim, scores: Tables, verdict: Verdict, sets: int) -> Verdict:
    """Return the verdict with its state, p adjusted for the number of sets too."""
    if verdict.p_adj is None:
        return verdict
    adjusted = replace(verdict, p_adj=min(1.0, verdict.p_adj * sets))
    if verdict.p_adj * sets >= claim.plan.alpha:
        return replace(adjusted, state="not supported")
    shift = _shift(claim.plan, scores.raw, claim.arm, claim.scale).differences
    if not np.isnan(shift).any() and float(shift.mean()) * claim.sign > 0:
        return replace(adjusted, state="supported")
    note = "the contrast passes, but the target scale itself does not move as predicted"
    return replace(adjusted, state="not supported", note=note)


def _union(arm: Arm, parts: Sequence[Verdict]) -> Verdict:
    """Return the decision on an arm: it succeeds when it passes against every placebo of the study."""
    first, alone = parts[0], len(parts) == 1
    note = f"this study has one placebo to compare with: {first.comparator}" if alone else None
    decision = Verdict(DECISIONS, first.hypothesis, arm.name, first.scale, "both", EVERY, note=note)
    stuck = next((part for part in parts if part.state in ("not measurable", "not informative")), None)
    if stuck is not None:
        said = f"against {stuck.comparator}: {stuck.note}"
        return replace(decision, state=stuck.state, informative=stuck.informative, note=said)
    weakest = min(parts, key=lambda part: float(part.estimate or 0) * float(arm.predicted_sign or 1))
    supported = all(part.state == "supported" for part in parts)
    return replace(
        decision,
        method="intersection-union",
        estimate=weakest.estimate,
        n=weakest.n,
        p=intersection_union([part.p for part in parts if part.p is not None]),
        p_adj=intersection_union([part.p_adj for part in parts if part.p_adj is not None]),
        state="supported" if supported else "not supported",
    )


# ------------------------------------------------------------------------------------------------------------ secondary


def _secondary(plan: Plan, family: str, planned: Sequence[_Planned]) -> list[Verdict]:
    """Return two-sided sign-flip verdicts, adjusted together by Benjamini and Hochberg."""

    def test(differences: Array, generator: np.random.Generator) -> Sequence[Result]:
        return sign_flips(differences, draws=plan.draws, generator=generator)

    tested, _ = _tested(plan, planned, (family,), test)
    pvalues = [verdict.p for verdict in tested if verdict.p is not None]
    adjusted = iter(adjust(pvalues, "bh").tolist() if pvalues else ())
    return [_judged(verdict, next(adjusted), plan) if verdict.p is not None else verdict for verdict in tested]


def _judged(verdict: Verdict, p_adj: float, plan: Plan) -> Verdict:
    return replace(verdict, p_adj=p_adj, state="supported" if p_adj < plan.alpha else "not supported")


def side_effects(plan: Plan, neutral: pd.DataFrame) -> list[Verdict]:
    """Return family F2: the change in nats per token on neutral text under every arm against the baseline."""
    rows = neutral.assign(member="", scale="neutral_text", reading="likelihood", value=neutral["neutral_nll"])
    table = wide(rows.groupby(KEYS)["value"].mean().reset_index(), "likelihood")
    planned = []
    for arm in plan.arms[1:]:
        name = f"{arm.name} changes neutral text"
        verdict = Verdict(SIDE_EFFECTS, name, arm.name, "neutral_text", "likelihood", plan.baseline)
        planned.append(_against_baseline(plan, table, verdict, ("",)))
    return _secondary(plan, SIDE_EFFECTS, planned)


def scale_shifts(plan: Plan, scores: Tables) -> list[Verdict]:
    """Return family F3: the shift of every scale under every arm against the baseline."""
    planned = [_shift(plan, scores.raw, arm, scale) for arm in plan.arms[1:] for scale in plan.scales]
    return _secondary(plan, SHIFTS, planned)


def _shift(plan: Plan, raw: Wide, arm: Arm, scale: str) -> _Planned:
    name = f"{arm.name} shifts {scale}"
    verdict = Verdict(SHIFTS, name, arm.name, scale, reading_of(plan, "raw"), plan.baseline)
    return _against_baseline(plan, raw, verdict, arm.members)


def _against_baseline(plan: Plan, table: Wide, verdict: Verdict, members: Sequence[str]) -> _Planned:
    """Return the differences of an arm to the baseline on one scale."""
    values = table.on(verdict.scale)
    differences = table.mean(values, verdict.arm, members) - table.mean(values, plan.baseline, ("",))
    return _planned(verdict, table.units, table.both(verdict.arm, plan.baseline), differences)


def contrasts(plan: Plan, scores: Tables) -> list[Verdict]:
    """Return family F4: the specificity contrast of every other arm on the primary scale, against each placebo."""
    planned = [
        _specific(CONTRASTS, Claim(plan, arm, placebo, plan.primary_scale, COMPARED[placebo.role]), scores)
        for placebo in comparators(plan)
        for arm in plan.arms
        if (placebo.role == "P1" or arm.name in placebo.members)
        and arm != placebo
        and arm.target_scale != plan.primary_scale
    ]
    return _secondary(plan, CONTRASTS, planned)


# ---------------------------------------------------------------------------------------------------------------- whole


def analyse(plan: Plan, scores: pd.DataFrame, neutral: pd.DataFrame) -> list[Verdict]:
    """Return all verdicts of the registered analysis."""
    found = tables(plan, scores)
    return primary(plan, found) + side_effects(plan, neutral) + scale_shifts(plan, found) + contrasts(plan, found)


def shift_of(plan: Plan, scores: pd.DataFrame, arm: Arm, scale: str) -> Array:
    """Return the shift of a scale against the baseline, per unit that received the arm, in the raw primary reading."""
    return _shift(plan, wide(scores, reading_of(plan, "raw")), arm, scale).differences


def shams_of(plan: Plan, scores: pd.DataFrame) -> pd.DataFrame:
    """Return, per sham draw, its mean shift of the primary scale and its mean specificity, against the baseline."""
    sham, rows = plan.arm("P1"), []
    if sham is not None:
        raw = wide(scores, reading_of(plan, "raw"))
        foils = [scale for scale in plan.scales if scale != plan.primary_scale]
        both = (raw.on(plan.primary_scale), raw.specificity(plan.primary_scale, foils))
        for member in sham.members:
            if (sham.name, member) in raw.cells:
                drawn = [
                    raw.mean(table, sham.name, (member,)) - raw.mean(table, plan.baseline, ("",)) for table in both
                ]
                rows.append((member, *(float(np.nanmean(each)) for each in drawn)))
    return pd.DataFrame(rows, columns=["member", "shift", "estimate"])


def licensed(plan: Plan, verdicts: Sequence[Verdict], gates: Mapping[str, str]) -> list[Verdict]:
    """Return the verdicts without unlicensed claims: a failed gate bars them all, a failed positive control its scale.

    A scale that an explicit instruction does not move, in the primary reading, cannot show what a pack does.
    """
    failed = ", ".join(code for code, state in gates.items() if state == "failed")
    deaf = {item.scale for item in plan.controls if item.reading == plan.primary_reading and not item.passed}
    notes = {item: f"gate failed: {failed}" for item in verdicts if failed}
    notes |= {item: f"the positive control failed on {item.scale}" for item in verdicts if item.scale in deaf}
    return [
        replace(item, state="not licensed", note=notes[item]) if item.state == "supported" and item in notes else item
        for item in verdicts
    ]
