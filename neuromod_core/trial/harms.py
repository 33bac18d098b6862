"""What arms do beside what they are meant to do, from the rows of the panel: two families of their own.

S1: non-inferiority of unwanted events against the baseline, the same requests under both: Tango's interval against a
registered margin. Several margins that must all hold are one claim by intersection and union: each at full alpha.
S2: two-sided shifts of everything else that the panel measures, within units, adjusted by Benjamini and Hochberg.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from types import MappingProxyType

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from neuromod_core.instruments.tasks.banks import METAPHOR
from neuromod_core.instruments.tasks.instructions import TASK as WRITING
from neuromod_core.instruments.tasks.reading import GRAMMAR
from neuromod_core.instruments.tasks.summaries import TASK as SUMMARY
from neuromod_core.kernel.errors import DataError
from neuromod_core.kernel.rng import rng
from neuromod_core.safety import ABUSE, REFUSAL, UNSAFE, Margin, compare
from neuromod_core.safety import Verdict as Kept
from neuromod_core.stats import adjust, bootstrap_t, constant_by_construction, paired, sign_flip
from neuromod_core.trial.analysis import Verdict
from neuromod_core.trial.archive import Archive
from neuromod_core.trial.examine import CERTAINTY, FIGURATIVE, PLAIN, RANKED
from neuromod_core.trial.panel import ENDPOINTS, StopRule
from neuromod_core.trial.plan import Outline, Plan, Registration
from neuromod_core.trial.scoring import Labels
from neuromod_core.trial.stopping import Look, looks
from neuromod_core.trial.wholes import Whole, wholes
from neuromod_core.trial.written import ASSOCIATION

MARGINS_FAMILY, HARMS_FAMILY = "S1", "S2"
LEAST = 5  # units with both readings: fewer are tabulated, not tested (sign flips need five to reach p < .05 one-sided)
MARGINS: Mapping[tuple[str, str], Margin] = MappingProxyType(
    {
        ("refusal", "odds"): REFUSAL,
        ("refusal", "reply"): REFUSAL,
        ("unsafe", "odds"): UNSAFE,
        ("abuse", "text"): ABUSE,
    }
)
"""Instrument and reading -> how much more frequent than under the baseline its event may be."""

MEASURES: Mapping[str, tuple[str, tuple[str, ...], str]] = MappingProxyType(
    {
        "problems": ("share of ranked problems solved", RANKED, "ranked"),
        **{name: (f"share of {name.replace('_', '-')} problems solved", (name,), "ranked") for name in RANKED},
        "calibration": ("Brier score of ranked problems, 0 if sure and right", (CERTAINTY,), "brier"),
        "taste for figures": ("metaphor over literal words, nats per token", (METAPHOR,), FIGURATIVE[0]),
        "sense of figures": ("metaphor over senseless words, nats per token", (METAPHOR,), FIGURATIVE[1]),
        "writing": ("share of counted constraints met", (WRITING,), "written"),
        "summaries": ("share of a passage's facts that are said", (SUMMARY,), "written"),
        "associations": ("mean cosine distance of named words", (ASSOCIATION,), "written"),
        "grammar": ("share of minimal pairs in the right order", (GRAMMAR,), "ranked"),
        "plain text": ("nats per token of ordinary text", (PLAIN,), "likelihood"),
        "refusing the harmless": ("log-odds of opening with a refusal, nats", ("refusal",), "odds"),
        "refusing the harmful": ("log-odds of opening with a refusal, nats", ("unsafe",), "odds"),
        "verbosity": ("words of a story", ("verbosity",), "text"),
        "incoherence": ("share of incoherent stories", ("incoherence",), "text"),
    }
)
"""Measure -> what its number is, the instruments whose values it averages within a unit, and their reading."""

STATES: Mapping[str, str] = MappingProxyType({"missing": "not measurable"})
Array = NDArray[np.float64]


@dataclass(frozen=True)
class Comparison:
    """One arm's events of one kind against the baseline's; counts are of pairs with both readings."""

    arm: str
    instrument: str
    reading: str
    kept: Kept
    events: int
    baseline_events: int


def labelled(plan: Outline, rows: pd.DataFrame, labels: Labels) -> pd.DataFrame:
    """Return rows with the columns unit_id and arm in place of their cell's code."""
    units = {cell.cell_code: cell.unit_id for cell in plan.cells}
    given = rows["cell_code"]
    named = rows.assign(unit_id=given.map(units), arm=given.map(lambda code: labels.by_cell[code][0]))
    return named.drop(columns="cell_code")


def comparisons(plan: Plan, panel: pd.DataFrame) -> list[Comparison]:
    """Return every arm against the baseline on every kind of event that was asked for. panel: as `labelled`."""
    found = []
    for (instrument, reading), margin in MARGINS.items():
        rows = panel[(panel["instrument"] == instrument) & (panel["reading"] == reading)]
        if rows.empty:
            continue
        wide = rows.pivot(index=["unit_id", "item"], columns="arm", values="event")
        for arm in plan.arms[1:]:
            if arm.name in wide.columns:
                both = wide[[arm.name, plan.baseline]]
                ours, theirs = (_events(both[name]) for name in (arm.name, plan.baseline))
                pairs = [pair for pair in zip(ours, theirs, strict=True) if None not in pair]
                counts = [sum(bool(pair[side]) for pair in pairs) for side in (0, 1)]
                found.append(Comparison(arm.name, instrument, reading, compare(ours, theirs, margin), *counts))
    return found


def _events(column: pd.Series) -> list[bool | None]:
    return [None if pd.isna(value) else bool(value) for value in column]


def _kept(plan: Plan, item: Comparison) -> Verdict:
    """Return the row of a comparison."""
    kept, test = item.kept, item.kept.test
    name = (
        f"{item.arm} keeps the margin of {kept.margin.endpoint} (+{100 * kept.margin.bound:g} points, {item.reading})"
    )
    said = [f"{kept.needed} pairs needed" if kept.needed else "", f"{kept.n_missing} missing, at worst {kept.worst}"]
    verdict = Verdict(
        MARGINS_FAMILY,
        name,
        item.arm,
        item.instrument,
        item.reading,
        plan.baseline,
        n=kept.n,
        state=STATES.get(kept.outcome, kept.outcome),
        note="; ".join(text for text in (said if kept.n_missing else said[:1]) if text) or None,
    )
    if test is None:
        return verdict
    row = test.as_row()
    names = ("estimate", "ci_low", "ci_high", "statistic", "p", "method")
    return replace(verdict, **{name: row[name] for name in names})  # type: ignore[arg-type]


def shifts(plan: Plan, panel: pd.DataFrame) -> list[tuple[Verdict, Array]]:
    """Return the within-unit differences to the baseline of every arm on every measure that was asked for.

    A unit's items are averaged; units without both readings are left out. panel: as `labelled`.
    """
    found = []
    for measure, (_, instruments, reading) in MEASURES.items():
        rows = panel[panel["instrument"].isin(instruments) & (panel["reading"] == reading)]
        if rows[rows["value"].notna()]["unit_id"].nunique() < LEAST:
            continue
        wide = rows.astype({"value": float}).pivot_table(index="unit_id", columns="arm", values="value", dropna=False)
        for arm in plan.arms[1:]:
            if arm.name in wide.columns and plan.baseline in wide.columns:
                differences = (wide[arm.name] - wide[plan.baseline]).dropna().to_numpy(dtype=np.float64)
                name = f"{arm.name} changes {measure}"
                verdict = Verdict(HARMS_FAMILY, name, arm.name, measure, reading, plan.baseline, n=len(differences))
                found.append((verdict, differences))
    return found


def _tested(plan: Plan, verdict: Verdict, differences: Array) -> Verdict:
    if len(differences) < LEAST:
        return replace(verdict, note=f"{len(differences)} units have both readings; {LEAST} are needed for a test")
    if constant_by_construction(differences):
        note = "every difference is exactly zero"
        return replace(verdict, estimate=0.0, informative=False, state="not informative", note=note)
    names = (verdict.family, verdict.hypothesis)
    test = sign_flip(differences, draws=plan.draws, generator=rng(plan.seed, *names))
    verdict = replace(verdict, estimate=float(differences.mean()), p=test.pvalue, method=test.method)
    verdict = replace(verdict, statistic=test.statistic if np.isfinite(test.statistic) else None)
    try:
        interval = bootstrap_t(differences, draws=plan.resamples, generator=rng(plan.seed, "bootstrap", *names)).ci
    except DataError as error:
        return replace(verdict, note=str(error))
    ends = (interval.low, interval.high) if interval is not None else (None, None)
    return replace(verdict, ci_low=ends[0], ci_high=ends[1], g_z=paired(differences).g_z)


def harm_verdicts(plan: Plan, rows: pd.DataFrame, labels: Labels) -> list[Verdict]:
    """Return the verdicts of both families from the rows of `panel`; none for a study without a panel."""
    if rows.empty:
        return []
    panel = labelled(plan, rows, labels)
    tested = [_tested(plan, *each) for each in shifts(plan, panel)]
    return [_kept(plan, item) for item in comparisons(plan, panel)] + _adjusted(tested, plan.alpha)


@dataclass(frozen=True, eq=False)
class Harms:
    """What the panel of a study saw, under real arms: for its report.

    panel, telemetry: rows as `labelled`.  looks: of the stop rule, with the arm of each.  absent: public data that were
    not there, with the reason.  rule: the stop rule in words, None without one.  wholes: statistics of whole arms.
    """

    comparisons: tuple[Comparison, ...]
    panel: pd.DataFrame
    telemetry: pd.DataFrame
    looks: tuple[tuple[str, Look], ...]
    absent: Mapping[str, str]
    rule: str | None
    wholes: tuple[Whole, ...]


def harms_of(archive: Archive, registration: Registration, labels: Labels) -> Harms | None:
    """Return what the panel of a closed study saw; None when it has none."""
    plan = registration.plan
    if not plan.panel:
        return None
    rows = archive.rows(registration, "panel")
    panel = labelled(plan, rows, labels)
    names = dict(zip(registration.codes, (arm.name for arm in plan.arms), strict=True))
    stop = plan.panel.stop
    return Harms(
        comparisons=tuple(comparisons(plan, panel)),
        panel=panel,
        telemetry=labelled(plan, archive.rows(registration, "telemetry"), labels),
        looks=tuple((names[look.arm], look) for look in looks(registration, rows)),
        absent=plan.panel.absent,
        rule=None if stop is None else _said(stop),
        wholes=wholes(panel, [arm.name for arm in plan.arms], plan.seed),
    )


def _said(stop: StopRule) -> str:
    return (
        f"an arm is stopped once the exact lower bound of its share of {ENDPOINTS[stop.endpoint]} lies above "
        f"{stop.bound:g} (one-sided {stop.alpha:g} for all looks, one every {stop.every} shards)"
    )


def _adjusted(tested: Sequence[Verdict], alpha: float) -> list[Verdict]:
    pvalues = [verdict.p for verdict in tested if verdict.p is not None]
    adjusted = iter(adjust(pvalues, "bh").tolist() if pvalues else ())
    judged = []
    for verdict in tested:
        p_adj = next(adjusted) if verdict.p is not None else None
        state = verdict.state if p_adj is None else "supported" if p_adj < alpha else "not supported"
        judged.append(replace(verdict, p_adj=p_adj, state=state))
    return judged
