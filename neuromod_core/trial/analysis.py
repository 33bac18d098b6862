"""The registered analysis: one function for dummy labels before unblinding, real ones after it, and verification.

Primary (F1): for every arm with a prediction, the specificity contrast C = target - mean of foils, within units,
against the sham ensemble (P1, raw reading) and against the entropy-matched temperature (P2, expressed reading);
minimum-effect sign flips in the predicted direction, step-down max-T over the arms of a comparator. An arm succeeds
when it passes both (intersection-union) and its target scale itself moves as predicted. Secondary: F2 side effects, F3
scale shifts, F4 specificity of all other arms on the primary scale, each adjusted by Benjamini and Hochberg.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from neuromod_core.kernel.errors import DataError
from neuromod_core.kernel.rng import rng
from neuromod_core.stats import (
    Interval,
    adjust,
    bootstrap_t,
    constant_by_construction,
    intersection_union,
    max_t,
    paired,
    sign_flip,
)
from neuromod_core.trial.plan import Arm, Plan
from neuromod_core.trial.scoring import specificity

Array = NDArray[np.float64]
PRIMARY, DECISIONS, SIDE_EFFECTS, SHIFTS, CONTRASTS = "F1", "F1 decisions", "F2", "F3", "F4"
EVERY = "every placebo"


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


def reading_of(plan: Plan, kind: str) -> str:
    """Return the primary reading of a kind, "raw" or "expressed"; a plan without one falls to statements, claimless."""
    return f"{plan.primary_reading or 'statement'}_{kind}"


def _received(rows: pd.DataFrame, units: Sequence[str], *arms: str) -> NDArray[np.bool_]:
    """Return which units received all of these arms, (units,): every one, unless arms are divided into sets."""
    given = {str(arm): set(part) for arm, part in rows.groupby("arm")["unit_id"]}
    return np.array([all(unit in given.get(arm, ()) for arm in arms) for unit in units], dtype=bool)


def _column(contrast: pd.DataFrame, arm: str, members: Sequence[str]) -> Array:
    """Return the contrast per unit (units,), averaged over the members a unit received."""
    wanted = [(arm, member) for member in members if (arm, member) in contrast.columns]
    if not wanted:
        return np.full(len(contrast), np.nan)
    return contrast[wanted].mean(axis=1).to_numpy(dtype=np.float64)


def _estimated(verdict: Verdict, differences: Array, plan: Plan) -> Verdict:
    """Return the verdict with estimate, bootstrap-t interval and g_z of within-unit differences."""
    generator = rng(plan.seed, "bootstrap", verdict.hypothesis, verdict.comparator, verdict.scale)
    try:
        interval: Interval | None = bootstrap_t(differences, draws=plan.resamples, generator=generator).ci
    except DataError as error:
        interval, verdict = None, replace(verdict, note=str(error))
    return replace(
        verdict,
        estimate=float(differences.mean()),
        ci_low=interval.low if interval else None,
        ci_high=interval.high if interval else None,
        g_z=paired(differences).g_z,
        n=len(differences),
    )


def _measured(verdict: Verdict, differences: Array, plan: Plan) -> tuple[Verdict, bool]:
    """Return the verdict as far as it goes without a test, and whether there is anything to test."""
    missing = int(np.isnan(differences).sum())
    if missing:
        return replace(verdict, note=f"{missing} of {len(differences)} units have no valid score"), False
    if constant_by_construction(differences):
        note = "every difference is exactly zero: nothing in this comparison could differ"
        zero = replace(verdict, estimate=0.0, n=len(differences), informative=False, state="not informative", note=note)
        return zero, False
    return _estimated(verdict, differences, plan), True


@dataclass(frozen=True, eq=False)
class _Contrast:
    """One primary hypothesis against one comparator."""

    arm: Arm
    verdict: Verdict
    units: tuple[str, ...]
    differences: Array


def _comparators(plan: Plan) -> Iterator[tuple[str, str]]:
    """Yield the comparators the study has, with the reading each is compared in."""
    for role, kind in (("P1", "raw"), ("P2", "expressed")):
        if plan.arm(role) is not None:
            yield role, reading_of(plan, kind)


def _contrasts(plan: Plan, scores: pd.DataFrame, role: str, reading: str) -> list[_Contrast]:
    placebo, found = plan.arm(role), []
    for arm in plan.arms:
        if placebo is None or arm.target_scale is None or arm.predicted_sign is None:
            continue
        table = specificity(scores, plan, arm.target_scale, reading)
        members = [arm.name] if role == "P2" else placebo.members
        differences = _column(table, arm.name, arm.members) - _column(table, placebo.name, members)
        way = "up" if arm.predicted_sign > 0 else "down"
        name = f"{arm.name} moves {arm.target_scale} {way}"
        verdict = Verdict(PRIMARY, name, arm.name, arm.target_scale, reading, placebo.name)
        both = _received(scores, list(table.index), arm.name, placebo.name)
        found.append(_Contrast(arm, verdict, tuple(table.index[both]), differences[both]))
    return found


def _family(plan: Plan, scores: pd.DataFrame, contrasts: Sequence[_Contrast]) -> list[Verdict]:
    """Return the verdicts of all arms against one comparator, adjusted together.

    Arms that different units received are adjusted by max-T within each set of units, and by Bonferroni over sets.
    """
    started = [(item, *_measured(item.verdict, item.differences, plan)) for item in contrasts]
    sets: dict[tuple[str, ...], list[tuple[_Contrast, Verdict]]] = {}
    for item, verdict, ready in started:
        if ready:
            sets.setdefault(item.units, []).append((item, verdict))
    done = {item.arm.name: verdict for item, verdict, _ in started}
    for number, testable in enumerate(sets.values()):
        signed = np.stack([item.differences * float(item.arm.predicted_sign or 1) for item, _ in testable], axis=1)
        names = ("max-T", testable[0][1].comparator, *([f"set {number}"] if number else []))
        generator = rng(plan.seed, *names)
        tests = max_t(signed, minimum=plan.min_effect, alternative="greater", draws=plan.draws, generator=generator)
        for (item, verdict), test in zip(testable, tests, strict=True):
            adjusted = min(1.0, test.p_adj * len(sets))
            numbers = replace(verdict, statistic=_finite(test.statistic), p=test.pvalue, p_adj=adjusted)
            done[item.arm.name] = _decision(plan, scores, item.arm, replace(numbers, method=test.method))
    return [done[item.arm.name] for item in contrasts]


def _finite(value: float) -> float | None:
    return value if np.isfinite(value) else None


def _decision(plan: Plan, scores: pd.DataFrame, arm: Arm, verdict: Verdict) -> Verdict:
    if verdict.p_adj is None or verdict.p_adj >= plan.alpha:
        return replace(verdict, state="not supported")
    if _moves_as_predicted(plan, scores, arm):
        return replace(verdict, state="supported")
    note = "the contrast passes, but the target scale itself does not move as predicted"
    return replace(verdict, state="not supported", note=note)


def _moves_as_predicted(plan: Plan, scores: pd.DataFrame, arm: Arm) -> bool:
    """Return whether the target scale itself, foils aside, moves in the predicted direction against the baseline."""
    shift = shift_of(plan, scores, arm, str(arm.target_scale))
    return not bool(np.isnan(shift).any()) and float(shift.mean()) * float(arm.predicted_sign or 0) > 0


def shift_of(plan: Plan, scores: pd.DataFrame, arm: Arm, scale: str) -> Array:
    """Return the shift of a scale against the baseline, per unit that received the arm, in the raw primary reading."""
    wide = _wide(plan, scores, scale)
    shift = _column(wide, arm.name, arm.members) - _column(wide, plan.baseline, [""])
    return shift[_received(scores, list(wide.index), arm.name, plan.baseline)]


def _wide(plan: Plan, scores: pd.DataFrame, scale: str) -> pd.DataFrame:
    rows = scores[(scores["reading"] == reading_of(plan, "raw")) & (scores["scale"] == scale)]
    return rows.pivot_table(index="unit_id", columns=["arm", "member"], values="value", dropna=False)


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


def primary(plan: Plan, scores: pd.DataFrame) -> list[Verdict]:
    """Return family F1: each predicted arm against each placebo, and against all of them."""
    families = [_family(plan, scores, _contrasts(plan, scores, role, reading)) for role, reading in _comparators(plan)]
    arms = {arm.name: arm for arm in plan.arms}
    unions = [_union(arms[parts[0].arm], parts) for parts in zip(*families, strict=True)]
    return [verdict for family in families for verdict in family] + unions


def _secondary(plan: Plan, planned: Sequence[tuple[Verdict, Array]]) -> list[Verdict]:
    """Return two-sided sign-flip verdicts, adjusted together by Benjamini and Hochberg."""
    started = [(*_measured(verdict, differences, plan), differences) for verdict, differences in planned]
    tested = []
    for verdict, ready, differences in started:
        if ready:
            generator = rng(plan.seed, verdict.family, verdict.hypothesis)
            test = sign_flip(differences, draws=plan.draws, generator=generator)
            verdict = replace(verdict, statistic=_finite(test.statistic), p=test.pvalue, method=test.method)
        tested.append(verdict)
    pvalues = [verdict.p for verdict in tested if verdict.p is not None]
    adjusted = iter(adjust(pvalues, "bh").tolist() if pvalues else ())
    return [_judged(verdict, next(adjusted), plan) if verdict.p is not None else verdict for verdict in tested]


def _judged(verdict: Verdict, p_adj: float, plan: Plan) -> Verdict:
    return replace(verdict, p_adj=p_adj, state="supported" if p_adj < plan.alpha else "not supported")


def scale_shifts(plan: Plan, scores: pd.DataFrame) -> list[Verdict]:
    """Return family F3: the shift of every scale under every arm against the baseline."""
    reading = reading_of(plan, "raw")
    return _secondary(
        plan,
        [
            (
                Verdict(SHIFTS, f"{arm.name} shifts {scale}", arm.name, scale, reading, plan.baseline),
                shift_of(plan, scores, arm, scale),
            )
            for arm in plan.arms[1:]
            for scale in plan.scales
        ],
    )


def side_effects(plan: Plan, neutral: pd.DataFrame) -> list[Verdict]:
    """Return family F2: the change in nats per token on neutral text under every arm against the baseline."""
    wide = neutral.pivot_table(index="unit_id", columns="arm", values="neutral_nll", dropna=False)
    planned = []
    for arm in plan.arms[1:]:
        verdict = Verdict(
            SIDE_EFFECTS, f"{arm.name} changes neutral text", arm.name, "neutral_text", "likelihood", plan.baseline
        )
        both = _received(neutral, list(wide.index), arm.name, plan.baseline)
        planned.append((verdict, (wide[arm.name] - wide[plan.baseline]).to_numpy(dtype=np.float64)[both]))
    return _secondary(plan, planned)


def contrasts(plan: Plan, scores: pd.DataFrame) -> list[Verdict]:
    """Return family F4: the specificity contrast of every other arm on the primary scale, against each placebo."""
    planned = []
    for role, reading in _comparators(plan):
        placebo = plan.arm(role)
        table = specificity(scores, plan, plan.primary_scale, reading)
        for arm in plan.arms:
            matched = placebo is not None and (role == "P1" or arm.name in placebo.members)
            if placebo is None or not matched or arm == placebo or arm.target_scale == plan.primary_scale:
                continue
            name = f"{arm.name} against {placebo.name} on {plan.primary_scale}"
            verdict = Verdict(CONTRASTS, name, arm.name, plan.primary_scale, reading, placebo.name)
            members = [arm.name] if role == "P2" else placebo.members
            both = _received(scores, list(table.index), arm.name, placebo.name)
            differences = _column(table, arm.name, arm.members) - _column(table, placebo.name, members)
            planned.append((verdict, differences[both]))
    return _secondary(plan, planned)


def shams_of(plan: Plan, scores: pd.DataFrame) -> pd.DataFrame:
    """Return, per sham draw, its mean shift of the primary scale and its mean specificity, against the baseline."""
    sham = plan.arm("P1")
    reading = reading_of(plan, "raw")
    wide, table = _wide(plan, scores, plan.primary_scale), specificity(scores, plan, plan.primary_scale, reading)
    rows = []
    for member in sham.members if sham else ():
        if sham is not None and (sham.name, member) in wide.columns:
            rows.append((member, *(_mean_shift(each, sham.name, member, plan.baseline) for each in (wide, table))))
    return pd.DataFrame(rows, columns=["member", "shift", "estimate"])


def _mean_shift(table: pd.DataFrame, arm: str, member: str, baseline: str) -> float:
    """Return the mean difference to the baseline over the units that received the member."""
    return float(np.nanmean(_column(table, arm, [member]) - _column(table, baseline, [""])))


def analyse(plan: Plan, scores: pd.DataFrame, neutral: pd.DataFrame) -> list[Verdict]:
    """Return all verdicts of the registered analysis."""
    secondary = side_effects(plan, neutral) + scale_shifts(plan, scores) + contrasts(plan, scores)
    return primary(plan, scores) + secondary


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
