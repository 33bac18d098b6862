"""The verdicts of a run as typed rows, and the state in which each may be reported."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from typing import NamedTuple

from neuromod_core.report.data import ReportData
from neuromod_core.report.wording import listed, number, reading_name, words


class Verdict(NamedTuple):
    """One hypothesis against one comparator; None is a missing number, empty text a column that does not apply.

    `state` is the state of the test itself, whatever the gates say.
    """

    family: str
    hypothesis: str
    arm: str
    scale: str
    reading: str
    comparator: str
    estimate: float | None
    ci_low: float | None
    ci_high: float | None
    g_z: float | None
    p: float | None
    p_adj: float | None
    n: float | None
    informative: bool
    state: str
    note: str

    @property
    def ci(self) -> tuple[float, float] | None:
        """The interval, or None unless both ends are known."""
        return None if self.ci_low is None or self.ci_high is None else (self.ci_low, self.ci_high)


def _verdict(row: Mapping[Hashable, object]) -> Verdict:
    informative = bool(row["informative"])
    return Verdict(
        family=words(row["family"]),
        hypothesis=words(row["hypothesis"]),
        arm=words(row["arm"]),
        scale=words(row["scale"]),
        reading=words(row["reading"]),
        comparator=words(row["comparator"]),
        estimate=number(row["estimate"]),
        ci_low=number(row["ci_low"]),
        ci_high=number(row["ci_high"]),
        g_z=number(row["g_z"]),
        p=number(row["p"]),
        p_adj=number(row["p_adj"]),
        n=number(row["n"]),
        informative=informative,
        state=words(row["state"]) if informative else "not informative",
        note=words(row["note"]),
    )


def verdicts(data: ReportData, family: str) -> tuple[Verdict, ...]:
    """Return the verdicts of `family`, by arm in the order of the report; those of no single arm come first."""
    rows = [row for row in map(_verdict, data.verdicts.to_dict("records")) if row.family == family]
    return tuple(sorted(rows, key=lambda row: ("", *data.arm_names).index(row.arm)))


def comparators(data: ReportData) -> tuple[str, ...]:
    """Return the comparators of the primary family, in the order of their first row."""
    rows = data.verdicts[data.verdicts["family"] == data.study.primary_family]
    return tuple(str(name) for name in rows["comparator"].dropna().unique())


def specificity(data: ReportData, scale: str) -> dict[tuple[str, str], Verdict]:
    """Return (arm, comparator) -> specificity contrast on `scale`, each in the reading in which it was registered.

    Where two families hold the same contrast, the primary family's verdict is the one returned.
    """
    families = (data.study.primary_family, *data.study.specificity_families)
    rows = [row for family in reversed(families) for row in verdicts(data, family) if row.scale == scale]
    return {(row.arm, row.comparator): row for row in rows}


def primary_contrasts(data: ReportData) -> dict[tuple[str, str, str], Verdict]:
    """Return (arm, scale, comparator) -> verdict of the primary family."""
    return {(row.arm, row.scale, row.comparator): row for row in verdicts(data, data.study.primary_family)}


def comparator_readings(data: ReportData) -> dict[str, str]:
    """Return comparator -> the readings in which the primary family compares with it, in words."""
    rows = verdicts(data, data.study.primary_family)
    codes = {name: sorted({row.reading for row in rows if row.comparator == name}) for name in comparators(data)}
    return {name: listed([reading_name(code) for code in readings]) for name, readings in codes.items()}


def reported_state(data: ReportData, verdict: Verdict) -> str:
    """Return the state as it may be reported: a failed gate takes the licence from every claim."""
    return "not licensed" if verdict.state == "supported" and data.failed_gates else verdict.state
