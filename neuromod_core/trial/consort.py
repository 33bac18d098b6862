"""What a report of a randomised crossover states, filled from a closed study: a checklist, and the flow of its units.

The items follow the CONSORT extension to randomised crossover trials (Dwan, Li, Altman & Elbourne 2019, BMJ 366:l4378),
in words of our own, with what a trial on a language model has to add.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import pandas as pd

from neuromod_core.trial.analysis import DECISIONS, SIDE_EFFECTS
from neuromod_core.trial.archive import Archive
from neuromod_core.trial.close import Outcome, tables_of
from neuromod_core.trial.executed import Executed, carried, executed, order_table
from neuromod_core.trial.hypotheses import reading_of
from neuromod_core.trial.plan import Plan, Registration


@dataclass(frozen=True)
class Visit:
    """One sequence in one period: the arm given, and how many units were randomised to it, run and analysed."""

    sequence: int
    period: int
    arm: str
    randomised: int
    run: int
    analysed: int

    @property
    def excluded(self) -> int:
        """Units that were run and have no valid primary score there."""
        return self.run - self.analysed


@dataclass(frozen=True)
class Item:
    """One row of the checklist. source: where the statement can be checked."""

    number: str
    topic: str
    stated: str
    source: str


@dataclass(frozen=True)
class Flow:
    """The flow of units. written: vignettes that could have been drawn."""

    written: int
    units: int
    visits: tuple[Visit, ...]
    reasons: Mapping[str, int]

    @property
    def sequences(self) -> int:
        """How many sequences were used."""
        return len({visit.sequence for visit in self.visits})

    @property
    def periods(self) -> int:
        """How many periods a unit has."""
        return 1 + max(visit.period for visit in self.visits)

    def total(self, name: str) -> int:
        """Return the sum of a count ("randomised", "run", "analysed", "excluded") over sequences and periods."""
        return sum(int(getattr(visit, name)) for visit in self.visits)


@dataclass(frozen=True, eq=False)
class Consort:
    """What a report of a randomised crossover has to show: flow of units, checklist, audit of the executed order."""

    flow: Flow
    items: tuple[Item, ...]
    order: Mapping[str, object]


def consort_of(archive: Archive, registration: Registration, outcome: Outcome, written: int) -> Consort:
    """Return the record of a closed study. written: how many vignettes a unit could have been drawn from."""
    ran = executed(archive, registration)
    cells = tables_of(archive, registration, outcome)["cells"].to_pandas()
    found = flow(archive.effective(registration.plan), outcome.scores, ran, cells, written)
    return Consort(found, checklist(archive, registration, outcome, found), order_table(registration, ran))


def flow(plan: Plan, scores: pd.DataFrame, ran: Sequence[Executed], cells: pd.DataFrame, written: int) -> Flow:
    """Return the flow of a closed study by sequence and period. cells: the table `cells`, with sequences."""
    full = cells[cells["battery"] == "full"].merge(
        pd.DataFrame({"cell_code": [one.cell.cell_code for one in ran], "arm": [one.arm for one in ran]}),
        on="cell_code",
        how="left",
    )
    primary = scores[(scores["scale"] == plan.primary_scale) & (scores["reading"] == reading_of(plan, "raw"))]
    valid = primary.groupby(["unit_id", "arm"])["value"].apply(lambda values: bool(values.notna().any()))
    analysed = {key for key, ok in valid.items() if ok}
    visits = []
    for (sequence, period), rows in full.groupby(["sequence", "period"], sort=True):
        pairs = list(zip(rows["unit_id"], rows["arm"], strict=True))
        visits.append(
            Visit(
                sequence=int(str(sequence)),
                period=int(str(period)),
                arm=str(rows["arm"].iloc[0]),
                randomised=len(rows),
                run=int(rows["arm"].notna().sum()),
                analysed=sum(pair in analysed for pair in pairs),
            )
        )
    reasons = primary.loc[primary["value"].isna(), "reason"].fillna("no reason given").value_counts()
    counts = {str(reason): int(count) for reason, count in reasons.items()}
    return Flow(written=written, units=len(plan.units), visits=tuple(visits), reasons=counts)


def _numbers(outcome: Outcome) -> str:
    decided = [item for item in outcome.verdicts if item.family == DECISIONS]
    if not decided:
        return "no arm with a prediction"
    return "; ".join(
        f"{item.hypothesis}: {item.state}" + (f" ({item.estimate:+.2f} nats per pair)" if item.estimate else "")
        for item in decided
    )


def _means(plan: Plan, scores: pd.DataFrame) -> str:
    rows = scores[(scores["scale"] == plan.primary_scale) & (scores["reading"] == reading_of(plan, "raw"))]
    means = rows.groupby("arm")["value"].mean()
    return "; ".join(f"{arm} {mean:+.2f}" if pd.notna(mean) else f"{arm} missing" for arm, mean in means.items())


def _harms(outcome: Outcome) -> str:
    rows = [item for item in outcome.verdicts if item.family == SIDE_EFFECTS and item.estimate is not None]
    return "; ".join(f"{item.arm} {item.estimate:+.3f}" for item in rows) or "none measurable"


def _gate(outcome: Outcome, code: str) -> str:
    found = [gate for gate in outcome.gates if gate.code == code]
    return f"{found[0].state}: {found[0].evidence}" if found else "not run"


def checklist(archive: Archive, registration: Registration, outcome: Outcome, flow: Flow) -> tuple[Item, ...]:
    """Return the checklist of a closed study; every statement is derived from its records."""
    plan = archive.effective(registration.plan)
    ran = executed(archive, registration)
    return (*_methods(plan, archive, registration, outcome), *_results(plan, archive, registration, outcome, flow, ran))


def _methods(plan: Plan, archive: Archive, registration: Registration, outcome: Outcome) -> tuple[Item, ...]:
    arms, committed = len(plan.arms), archive.entry("registered")
    foils = [scale for scale in plan.scales if scale != plan.primary_scale]
    given = f"{arms} arms, one per period: {', '.join(arm.name for arm in plan.arms)}; period by period in one batch"
    return (
        Item("1", "Design in title and summary", f"randomised crossover on one model: {plan.title}", "report"),
        Item("2", "Why a crossover", "each context is its own control; a model can be reset exactly", "gates G1, G2"),
        Item("3", "Periods, wash-out, carry-over", f"{arms} periods; reset: {_gate(outcome, 'G2')}", "G2"),
        Item("5", "Interventions, by period", given, "cells, order.json"),
        Item(
            "6",
            "Outcomes and when",
            f"primary scale {plan.primary_scale}, reading {plan.primary_reading or 'none passed its control'}, in "
            f"every period; foils {', '.join(foils)}; one story and one neutral passage per period",
            "plan.json",
        ),
        Item(
            "7",
            "Number of units",
            f"{len(plan.units)} distinct vignettes, each its own cluster; smallest effect of interest "
            f"{plan.min_effect:g} nats per pair, alpha {plan.alpha:g}",
            "plan.json",
        ),
        Item("8", "Sequence generation", f"{plan.order} orders, relabelled at random, permuted blocks; stream drawn "
             "at registration, known to the allocator alone", "docs/decisions.md"),
        Item("9", "Concealment", f"allocation committed as {committed['allocation']} before the first cell", "ledger"),
        Item("10", "Who did what", "allocator, runner, scorer, analyst and unblinder are separate values that hold "
             "only what they need", "trial/roles.py"),
        Item("11", "Blinding", f"random code per cell; metadata guess: {_gate(outcome, 'G8')}", "gate G8"),
        Item("12", "Analysis", "within units: sign flips of differences, step-down max-T; the unit is the context; "
             "carry-over F is a diagnostic and decides nothing", "verdicts, order.json"),
    )  # fmt: skip


def _results(
    plan: Plan,
    archive: Archive,
    registration: Registration,
    outcome: Outcome,
    flow: Flow,
    ran: Sequence[Executed],
) -> tuple[Item, ...]:
    registered = registration.public.fingerprint
    amended = archive.amended()
    missing = "; ".join(f"{reason}: {count}" for reason, count in flow.reasons.items()) or "none excluded"
    amounts = f"{flow.total('randomised')} randomised, {flow.total('run')} run, {flow.total('analysed')} analysed"
    engine = next(iter(archive.done(registration).values())).provenance
    return (
        Item("13", "Flow of units", f"{amounts} (unit x period); {missing}", "flow, below"),
        Item("14", "Dates, stopping", "fixed number of units; no interim look, no stopping rule", "ledger"),
        Item("15", "Baseline by sequence", f"baseline arm {plan.baseline}, given in every sequence", "scores"),
        Item("16", "Denominators", f"{flow.units} units per comparison unless a verdict says otherwise", "verdicts"),
        Item("17", "Results within units", _numbers(outcome), "verdicts"),
        Item("17+", f"Mean {plan.primary_scale} per arm (nats per pair)", _means(plan, outcome.scores), "scores"),
        Item("19", "Harms: change on neutral text (nats per token)", _harms(outcome), "verdicts F2"),
        Item("20", "Limits, carry-over", f"diagnostic: {carried(plan, outcome.scores, ran)}", "order.json"),
        Item("23-25", "Registration", f"plan {registered}; " + (f"as amended {amended}" if amended else "not amended")
             + "; funding is not recorded", "ledger"),
        Item("LLM", "Model", f"{plan.model}, weights {plan.weights_sha256}, {plan.dtype}, batch {plan.batch}, "
             f"torch {engine['torch']}, transformers {engine['transformers']}, lock {engine['lock']}", "markers"),
    )  # fmt: skip
