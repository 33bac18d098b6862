"""What was found, in sentences. They are counted from verdicts and gates, never worded by hand."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from neuromod_core.report.data import ReportData
from neuromod_core.report.safety import sentences
from neuromod_core.report.shifts import at, nll_shifts
from neuromod_core.report.verdicts import comparators, primary_contrasts, reported_state, specificity, verdicts
from neuromod_core.report.wording import interval, listed, percent, reading_unit, signed
from neuromod_core.trial.crossed import CROSSED, TOLD

PASSED = ("supported", "not licensed")  # of the registered test, whatever the gates say of its licence


class Outcome(NamedTuple):
    """The states of one arm's primary contrasts, one per comparator; absent ones are 'not tested'."""

    arm: str
    states: tuple[str, ...]

    @property
    def passed(self) -> bool:
        """Whether the arm's test passed against every comparator, whatever the gates say of its licence."""
        return bool(self.states) and set(self.states) <= set(PASSED)


def outcomes(data: ReportData, role: str) -> list[Outcome]:
    """Return how each arm that has `role` and a target scale fared in the primary family."""
    rows, names = primary_contrasts(data), comparators(data)

    def outcome(arm: str, target: str) -> Outcome:
        keys = [(arm, target, name) for name in names]
        return Outcome(arm, tuple(rows[key].state if key in rows else "not tested" for key in keys))

    targets = {arm: data.arm_rows[arm].target for arm in data.with_role(role)}
    return [outcome(arm, target) for arm, target in targets.items() if target]


def findings(data: ReportData) -> list[str]:
    """Return the sentences for the top of the report, the most binding first."""
    return [
        *_unlicensed(data),
        *_packs(data),
        *_assay(data),
        *_crossed(data),
        *_silent(data),
        *_largest(data),
        *_cost(data),
        *sentences(data),
        *_absent(data),
        *_not_run(data),
    ]


def _unlicensed(data: ReportData) -> list[str]:
    if not data.failed_gates:
        return []
    return [f"No claim is licensed: {_gates(data.failed_gates)} failed. The numbers describe this run only."]


def _not_run(data: ReportData) -> list[str]:
    idle = [str(code) for code in data.gates.loc[data.gates["state"] == "not run", "code"]]
    return [f"Not run, so nothing is known from it: {_gates(idle)}."] if idle else []


def _packs(data: ReportData) -> list[str]:
    if not data.with_role("pack"):
        return []
    results = outcomes(data, "pack")
    winners = [result.arm for result in results if result.passed]
    least = f"{data.min_effect:g} {reading_unit(data.primary_reading)}"
    verb = "passed the test of changing" if data.failed_gates else "changed"
    head = f"{len(winners)} of {len(results)} packs {verb} {'its' if len(results) == 1 else 'their'} target scale"
    placebos = _placebos(comparators(data))
    named = f": {listed(winners)}" if winners else ""
    said = [f"{head} in the predicted direction by more than the minimum effect ({least}) against {placebos}{named}."]
    silent = [arm for arm in data.with_role("pack") if arm not in {result.arm for result in results}]
    return [*said, f"Without a prediction, so described only: {listed(silent)}."] if silent else said


def _placebos(names: Sequence[str]) -> str:
    if not names:
        return "a placebo, of which this study has none"
    return f"{('the placebo', 'both placebos', 'every placebo')[min(len(names), 3) - 1]} ({listed(names)})"


def _assay(data: ReportData) -> list[str]:
    results = outcomes(data, "assay")
    if not results:
        return ["There was no known-active arm: a null result here cannot be told from a blunt instrument."]
    licensed = "did, so the study can detect an effect of that size"
    passed = "passed the same test" if data.failed_gates else licensed
    blunt = "did not: a null result for a pack may mean a blunt instrument"
    partly = "moved its own scale (gate G6), but not beyond its foils against every placebo: it is seen, not specific"
    failed = partly if _seen(data) else blunt
    return [f"The known-active assay arm ({each.arm}) {passed if each.passed else failed}." for each in results]


def _crossed(data: ReportData) -> list[str]:
    """Return what cross-detection found, in studies with told states: there the instruments are on trial."""
    rows, told = ([row for row in verdicts(data, family) if row.n is not None] for family in (CROSSED, TOLD))
    if not told:
        return []
    raised = [f"{row.arm} on {row.scale}" for row in rows if row.state in PASSED]
    counted = f"Of {len(rows)} specificity contrasts (arm by scale), {len(raised)} {_are(raised)} raised"
    said = [f"{counted} beyond the minimum effect{_named(raised)}."]
    seen = [f"{row.arm} on {row.scale}" for row in told if row.state in PASSED]
    return [*said, f"{len(seen)} of {len(told)} told states {_are(seen)} seen on their own scale{_named(seen)}."]


def _are(names: Sequence[str]) -> str:
    return "was" if len(names) == 1 else "were"


def _named(names: Sequence[str]) -> str:
    return f": {listed(names)}" if names else ""


def _seen(data: ReportData) -> bool:
    """Return whether the assay gate passed: the known-active arm moved its own scale, foils aside."""
    return bool(((data.gates["code"] == "G6") & (data.gates["state"] == "passed")).any())


def _silent(data: ReportData) -> list[str]:
    results = outcomes(data, "pack")
    reasons = {
        "not informative": "had a contrast that is zero by construction, which cannot show anything",
        "not measurable": "had no valid scores to compare",
        "not tested": "had a contrast that was not tested",
    }
    said = []
    for state, words in reasons.items():
        names = [result.arm for result in results if state in result.states]
        if names:
            said.append(f"{len(names)} of {len(results)} packs {words}: {listed(names)}.")
    return said


def _largest(data: ReportData) -> list[str]:
    packs = data.with_role("pack")
    rows = [row for row in specificity(data, data.primary_scale).values() if row.arm in packs and row.informative]
    sizes = {row: abs(row.estimate) for row in rows if row.estimate is not None}
    if not sizes:
        return []
    row = max(sizes, key=lambda key: sizes[key])
    size = f"{signed(row.estimate)} {reading_unit(data.primary_reading)}"
    bounds = f"95 % interval {interval(row.ci_low, row.ci_high)}; family {row.family}: {reported_state(data, row)}"
    where = f"{row.arm} against {row.comparator}, {bounds}"
    return [f"The largest contrast of a pack on {data.primary_scale} was {size} ({where})."]


def _cost(data: ReportData) -> list[str]:
    means = nll_shifts(data)
    costs = {arm: mean for arm in data.with_role("pack") if (mean := at(means, arm).mean) is not None}
    if not data.with_role("pack"):
        return []
    if not costs:
        return ["Side effects of packs on neutral text were not recorded."]
    arm = max(costs, key=lambda name: costs[name])
    size = f"{signed(costs[arm])} nats per token against {data.study.baseline}"
    return [f"The costliest pack on neutral text was {arm}: {size}."]


def _absent(data: ReportData) -> list[str]:
    share = float(data.scores["value"].isna().mean())
    return [f"{percent(share)} of all scores are missing; section 10 says where and why."] if share > 0 else []


def _gates(codes: Sequence[str]) -> str:
    return f"{'gate' if len(codes) == 1 else 'gates'} {listed(codes)}"
