"""What a report is made of: tables, a study description and a provenance, checked once before anything is drawn.

The module does not know how rows were made. It knows which columns and words a report can show, and refuses others:
a state or a role that it has no words for would silently be counted as nothing.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Mapping
from dataclasses import dataclass, fields
from functools import cached_property
from typing import NamedTuple

import pandas as pd

from neuromod_core.kernel.errors import DataError
from neuromod_core.report.study import Study
from neuromod_core.report.wording import number, words
from neuromod_core.trial.claims import Sensitivity
from neuromod_core.trial.consort import Consort
from neuromod_core.trial.harms import Harms

ROLES: Mapping[str, str] = {
    "none": "no intervention, the baseline of every shift",
    "P0": "P0, inert placebo: the full machinery at dose zero",
    "P1": "P1, sham placebo: vectors of the same size without the content",
    "P2": "P2, entropy-matched placebo: as noisy, without the content",
    "P3": "P3, style placebo: another manner of writing, no content",
    "persona": "instructed persona, a control for expectancy",
    "assay": "known-active arm: shows that the study can detect an effect",
    "pack": "pack under test",
}
"""Role codes in the order in which a report lists arms."""

STATES: Mapping[str, str] = {
    "supported": "the registered test passed: in the primary family, beyond the minimum effect as predicted",
    "not supported": "the registered test did not pass, which is not evidence of no effect",
    "not informative": "zero by construction: this comparison cannot show anything",
    "not measurable": "no valid scores to compare",
    "not licensed": "no claim: a gate failed",
    "within the margin": "unwanted events: the upper limit of the interval lies below the margin",
    "beyond the margin": "unwanted events: the lower limit of the interval lies above the margin",
    "inconclusive": "unwanted events: the interval holds the margin, so that more pairs would be needed",
}
"""States of a verdict and what they mean in words."""

GATE_STATES = ("passed", "failed", "not run")
"""States of a gate."""

COLUMNS: Mapping[str, tuple[str, ...]] = {
    "scores": ("unit_id", "arm", "member", "scale", "reading", "value", "n_items", "n_valid", "reason"),
    "items": ("unit_id", "arm", "member", "scale", "item", "contrast"),
    "verdicts": (
        *("family", "hypothesis", "arm", "scale", "reading", "comparator", "estimate", "ci_low", "ci_high", "g_z"),
        *("statistic", "p", "p_adj", "n", "method", "informative", "state", "note"),
    ),
    "gates": ("code", "title", "state", "evidence"),
    "shams": ("member", "estimate"),
    "side_effects": ("unit_id", "arm", "neutral_nll"),
    "generations": (
        *("unit_id", "arm", "member", "prompt", "text", "entropy", "logprob", "distinct_2"),
        *("repeated_4gram_share", "stop_reason"),
    ),
    "order": ("unit_id", "period", "arm"),
    "arms": ("arm", "role", "pack", "effects", "target_scale", "predicted_sign"),
}
"""The columns each table must have; further columns are ignored. An empty table means: not recorded in this run."""


class Arm(NamedTuple):
    """One arm, unblinded: empty text or None where it has no pack, no effects, no target, no direction."""

    name: str
    role: str
    pack: str
    effects: str
    target: str
    sign: int | None


@dataclass(frozen=True, eq=False)
class ReportData:
    """Everything one report shows, unblinded.

    Tables (one row per ...; names of columns in `COLUMNS`):
        scores: unit x arm x member x scale x reading; `value` is null with a `reason` where there is no score.
        items: unit x arm x member x item; `contrast` is keyed minus antonym log-likelihood, nats.
        verdicts: hypothesis x comparator; `estimate` in the unit of its reading; `state` is one of `STATES`.
        gates: gate; `state` is one of `GATE_STATES`.
        shams: sham draw; `estimate` is its specificity contrast on the primary scale, against the baseline.
        side_effects: unit x arm; `neutral_nll` is nats per token on text that has nothing to do with the question.
        generations: story; `entropy` and `logprob` are lists with one number per token, nats.
        order: unit x period; the arm that was executed there.
        harms: what the panel of side effects saw; None for a study without one.
        sensitivity: one row per further analysis of a primary hypothesis.
        consort: what a report of a crossover has to show; None where the records do not say how units were drawn.
        arms: arm; `role` is one of `ROLES`, `effects` names effects with signed doses, `predicted_sign` is -1, 1, null.

    Raises:
        DataError: for a missing column, an unknown role or state, or an arm that the table of arms does not list.
    """

    scores: pd.DataFrame
    items: pd.DataFrame
    verdicts: pd.DataFrame
    gates: pd.DataFrame
    shams: pd.DataFrame
    side_effects: pd.DataFrame
    generations: pd.DataFrame
    order: pd.DataFrame
    design: Mapping[str, object]
    arms: pd.DataFrame
    provenance: Mapping[str, str]
    primary_scale: str
    primary_reading: str
    min_effect: float
    harms: Harms | None = None
    sensitivity: tuple[Sensitivity, ...] = ()
    consort: Consort | None = None

    def __post_init__(self) -> None:
        for name, columns in COLUMNS.items():
            _require(f"{name}: columns", columns, self._table(name).columns)
        _known("arms: role", self.arms["role"], ROLES)
        _known("verdicts: state", self.verdicts["state"], STATES)
        _known("verdicts: informative", self.verdicts["informative"], ("True", "False"))
        _known("gates: state", self.gates["state"], GATE_STATES)
        for name in ("scores", "items", "verdicts", "side_effects", "generations", "order"):
            _known(f"{name}: arm", self._table(name)["arm"].dropna(), self.arm_names)
        _known("primary_reading", [self.primary_reading], self.study.readings)
        _known("design: baseline arm", [self.study.baseline], self.arm_names)
        _known("design: primary family", self.verdicts["family"], self.study.families)

    def _table(self, name: str) -> pd.DataFrame:
        (table,) = (getattr(self, field.name) for field in fields(self) if field.name == name)
        return pd.DataFrame(table)

    @cached_property
    def study(self) -> Study:
        """The design, parsed."""
        return Study.parse(self.design)

    @cached_property
    def arm_rows(self) -> Mapping[str, Arm]:
        """Name -> arm: controls first, then the assay, then packs; within a role in the order given."""
        rows = sorted(map(_arm, self.arms.to_dict("records")), key=lambda arm: list(ROLES).index(arm.role))
        return {arm.name: arm for arm in rows}

    @cached_property
    def arm_names(self) -> tuple[str, ...]:
        """Names of the arms in the order of the report."""
        return tuple(self.arm_rows)

    def with_role(self, role: str) -> tuple[str, ...]:
        """Return the arms that have `role`, in the order of the report."""
        return tuple(name for name, arm in self.arm_rows.items() if arm.role == role)

    @cached_property
    def failed_gates(self) -> tuple[str, ...]:
        """Codes of the gates that failed: with one of them no claim is licensed."""
        return tuple(str(code) for code in self.gates.loc[self.gates["state"] == "failed", "code"])


def _arm(row: Mapping[Hashable, object]) -> Arm:
    pack, effects, target = words(row["pack"]), words(row["effects"]), words(row["target_scale"])
    sign = number(row["predicted_sign"])
    return Arm(str(row["arm"]), str(row["role"]), pack, effects, target, None if sign is None else int(sign))


def _require(where: str, wanted: Iterable[str], given: Iterable[str]) -> None:
    missing = [name for name in wanted if name not in set(given)]
    if missing:
        raise DataError(f"Report data, {where}: missing {', '.join(missing)}; given {', '.join(map(str, given))}.")


def _known(where: str, given: Iterable[object], known: Iterable[str]) -> None:
    allowed = list(known)
    odd = sorted({str(value) for value in given} - set(allowed))
    if odd:
        raise DataError(f"Report data, {where}: unknown {', '.join(map(repr, odd))}; allowed: {', '.join(allowed)}.")
