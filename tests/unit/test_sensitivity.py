"""The sensitivity list on small synthetic rows in the format of the `responses` table."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable

import numpy as np
import pandas as pd
import pytest

from neuromod_core.design import crossover
from neuromod_core.kernel.errors import DataError
from neuromod_core.stats import adjust, sign_flip
from neuromod_core.store.tables import table
from neuromod_core.trial.analysis import PRIMARY, primary, tables
from neuromod_core.trial.claims import Grid, Sensitivity, grid_of
from neuromod_core.trial.hypotheses import Claim, claims_of
from neuromod_core.trial.plan import Arm, Cell, Plan, Unit
from neuromod_core.trial.scoring import Labels, scores_of
from neuromod_core.trial.sensitivity import other_comparators, rows, yekutieli
from neuromod_core.trial.simulate import plan_of

UNITS, ITEMS, SCALES = 12, 4, ("first", "second", "third")
ARMS = (
    Arm("none", "none", "{}", "", None, None, ("",), {}),
    Arm("sham", "P1", "{}", "", None, None, ("00", "01", "02", "03"), {}),
    Arm("entropy", "P2", "{}", "", None, None, ("up", "down"), {}),
    Arm("up", "pack", "{}", "", "first", 1, ("",), {}),
    Arm("down", "pack", "{}", "", "second", -1, ("",), {}),
    Arm("idle", "pack", "{}", "", None, None, ("",), {}),
)
ANALYSES = {
    "registered",
    "linear mixed model",
    "ordinal mixed model",
    "label permutation",
    "exclude invalid",
    "worst case",
    "no foils",
    "leave one item out",
    "leave one vignette out",
    "other reading",
    "other comparator",
    "Benjamini-Yekutieli",
}
Effect = Callable[[str, str, int, str], float]  # arm, scale, item, reading form -> nats


def members_of(arm: Arm, unit: int) -> tuple[str, ...]:
    return tuple(arm.members[(2 * unit + step) % 4] for step in range(2)) if arm.role == "P1" else arm.members


def planned(reading: str = "statement") -> tuple[Plan, Labels]:
    orders = crossover(UNITS, len(ARMS), np.random.default_rng(3))
    units = [
        Unit(f"u{n:02d}", f"v{n:02d}", 0, ("ascending", "descending")[n % 2], "o", "p", True) for n in range(UNITS)
    ]
    cells, labels = [], {}
    for number, unit in enumerate(units):
        for period, index in enumerate(orders[number]):
            for member in members_of(ARMS[index], number):
                code = f"c{len(cells):04d}"
                cells.append(Cell(code, unit.unit_id, period, len(cells), 0, "full"))
                labels[code] = (ARMS[index].name, member)
    plan = plan_of(ARMS, SCALES, minimum=0.3, draws=999, resamples=499)
    return dataclasses.replace(plan, units=tuple(units), cells=tuple(cells), primary_reading=reading), Labels(labels)


def by_default(arm: str, scale: str, item: int, form: str) -> float:
    return {("up", "first"): 1.5, ("down", "second"): -1.5}.get((arm, scale), 0.0)


def responses(plan: Plan, labels: Labels, effect: Effect = by_default, *, noise: float = 0.5) -> pd.DataFrame:
    """Return statement and option rows, noise and base rates the same whatever the effect."""
    generator, lines = np.random.default_rng(5), []
    for cell in plan.cells:
        arm = labels.by_cell[cell.cell_code][0]
        for scale in plan.scales:
            for item in range(ITEMS):
                base = noise * generator.standard_normal(2) + [0.3 * item, 0.3 * item + 0.1]
                raw, expressed = (
                    float(b) + effect(arm, scale, item, form)
                    for b, form in zip(base, ("raw", "expressed"), strict=True)
                )
                here = {"cell_code": cell.cell_code, "instrument": scale, "item": f"i{item}"}
                lines += [_statement(here, raw, expressed), _option(plan, cell, here, raw, expressed)]
    return pd.DataFrame(table("responses", lines).to_pandas())


def _blank(here: dict[str, str], reading: str) -> dict[str, object]:
    empty = dict.fromkeys(("keyed_ll", "antonym_ll", "keyed_expressed_ll", "antonym_expressed_ll", "option_mass"))
    counts = dict.fromkeys(
        ("keyed_tokens", "antonym_tokens", "options_raw", "options_expressed", "option", "answer", "reason")
    )
    return {**here, "reading": reading, **empty, **counts, "valid": True, "unvalidated": False}


def _statement(here: dict[str, str], raw: float, expressed: float) -> dict[str, object]:
    values = {"keyed_ll": -20 + raw, "antonym_ll": -20.0, "keyed_expressed_ll": -19 + expressed}
    return {
        **_blank(here, "statement"),
        **values,
        "antonym_expressed_ll": -19.0,
        "keyed_tokens": 9,
        "antonym_tokens": 9,
    }


def _option(plan: Plan, cell: Cell, here: dict[str, str], raw: float, expressed: float) -> dict[str, object]:
    descending = plan.unit(cell.unit_id).option_order == "descending"
    logs = {}
    for form, value in (("raw", raw), ("expressed", expressed)):
        z = value * np.arange(5) / 4
        p = list(z - np.logaddexp.reduce(z) + math.log(0.9))
        logs[f"options_{form}"] = p[::-1] if descending else p
    return {**_blank(here, "options"), **logs, "option_mass": 0.9}


@pytest.fixture(scope="module")
def study() -> tuple[Plan, Labels]:
    return planned()


@pytest.fixture(scope="module")
def found(study: tuple[Plan, Labels]) -> tuple[Sensitivity, ...]:
    return rows(study[0], responses(*study), study[1])


def one(found: tuple[Sensitivity, ...], analysis: str, arm: str = "up", comparator: str = "sham") -> Sensitivity:
    (row,) = [row for row in found if (row.analysis, row.arm, row.comparator) == (analysis, arm, comparator)]
    return row


def claim_on(study: tuple[Plan, Labels], data: pd.DataFrame) -> tuple[Claim, Grid]:
    claim = claims_of(study[0])[0]
    return claim, grid_of(study[0], data, study[1], claim.reading)


# ------------------------------------------------------------------------------------------------------- the whole list


def test_every_analysis_answers_for_every_hypothesis_with_a_number_or_a_reason(
    found: tuple[Sensitivity, ...],
) -> None:
    assert {row.analysis for row in found} == ANALYSES
    assert {(row.arm, row.scale) for row in found} == {("up", "first"), ("down", "second")}
    for row in found:
        assert (row.estimate is None) == (row.reason is not None), row
        assert (row.estimate is None) == (row.p is None), row


def test_all_analyses_agree_on_a_strong_effect(found: tuple[Sensitivity, ...]) -> None:
    main = [row for row in found if row.estimate is not None and row.analysis != "ordinal mixed model"]
    assert len(main) > 30
    for row in main:
        assert abs(row.estimate or 0) == pytest.approx(1.5, abs=0.6), row
        assert (row.estimate or 0) * (1 if row.arm == "up" else -1) > 0, row
        assert row.p is not None
        assert row.p < 0.05, row


def test_the_first_row_is_the_registered_analysis(study: tuple[Plan, Labels], found: tuple[Sensitivity, ...]) -> None:
    plan, labels = study
    scores = scores_of(plan, responses(*study), labels)
    verdicts = [v for v in primary(plan, tables(plan, scores)) if v.family == PRIMARY]
    assert len(verdicts) == 4
    for verdict in verdicts:
        row = one(found, "registered", verdict.arm, verdict.comparator)
        assert row.hypothesis == verdict.hypothesis
        assert row.reading == verdict.reading
        assert row.estimate == pytest.approx(verdict.estimate, abs=1e-12)
        assert (row.low, row.high) == pytest.approx((verdict.ci_low, verdict.ci_high))
        assert row.p == verdict.p  # twelve units: all flips are counted


@pytest.mark.parametrize("reading", ["statement", "options"])
def test_scores_are_those_of_the_instruments(reading: str) -> None:
    plan, labels = planned(reading)
    data = responses(plan, labels)
    data.loc[data.index[:9], "keyed_ll"] = -math.inf
    scores = scores_of(plan, data, labels).set_index(["unit_id", "arm", "member", "scale", "reading"])["value"]
    for form in ("raw", "expressed"):
        grid = grid_of(plan, data, labels, f"{reading}_{form}")
        for scale in SCALES:
            theirs = [scores[(*cell, scale, f"{reading}_{form}")] for cell in grid.cells]
            assert grid.score(scale) == pytest.approx(np.array(theirs, dtype=float), nan_ok=True)


def test_a_study_read_by_options_is_analysed_too() -> None:
    plan, labels = planned("options")
    found = rows(plan, responses(plan, labels), labels)
    assert one(found, "registered").reading == "options_raw"
    assert one(found, "linear mixed model").estimate == pytest.approx(one(found, "registered").estimate, rel=1e-6)


def test_rows_without_the_reading_are_refused(study: tuple[Plan, Labels]) -> None:
    data = responses(*study)
    with pytest.raises(DataError, match="hold no row of the reading 'statement'"):
        rows(study[0], data[data["reading"] == "options"], study[1])


# ----------------------------------------------------------------------------------------------------------- one by one


def test_the_mixed_model_estimates_the_mean_difference_of_balanced_rows(found: tuple[Sensitivity, ...]) -> None:
    for comparator in ("sham", "entropy"):
        row = one(found, "linear mixed model", comparator=comparator)
        assert row.estimate == pytest.approx(one(found, "registered", comparator=comparator).estimate, rel=1e-6)
        assert "Kenward-Roger" in row.method
        assert row.n == UNITS
        assert row.low is not None
        assert row.high is not None
        assert row.low < row.estimate < row.high


def test_the_mixed_model_tells_an_effect_of_one_item_from_one_of_all(study: tuple[Plan, Labels]) -> None:
    """Items are random: what a single item does is no effect on items like these."""

    def concentrated(arm: str, scale: str, item: int, form: str) -> float:
        return 6.0 if (arm, scale, item) == ("up", "first", 0) else 0.0

    found = rows(study[0], responses(*study, concentrated), study[1])
    assert one(found, "registered").p == pytest.approx(0, abs=0.01)
    assert (one(found, "linear mixed model").p or 0) > 0.05
    ranged = one(found, "leave one item out")
    assert ranged.low == pytest.approx(0, abs=0.3)
    assert (ranged.p or 0) > 0.5
    assert "weakest without first i0" in ranged.method


def test_leaving_a_vignette_out_is_what_it_says(study: tuple[Plan, Labels], found: tuple[Sensitivity, ...]) -> None:
    claim, grid = claim_on(study, responses(*study))
    data = grid.differences(claim, grid.score("first") - grid.foils(claim.foils)).to_numpy()
    rest = [np.delete(data, at) for at in range(UNITS)]
    tests = [sign_flip(each, minimum=0.3, alternative="greater", generator=np.random.default_rng(0)) for each in rest]
    row = one(found, "leave one vignette out")
    assert (row.low, row.high) == pytest.approx((min(t.estimate for t in tests), max(t.estimate for t in tests)))
    assert row.p == pytest.approx(max(test.pvalue for test in tests))


def test_relabelling_keeps_the_estimate_and_needs_every_arm(
    study: tuple[Plan, Labels], found: tuple[Sensitivity, ...]
) -> None:
    row = one(found, "label permutation")
    assert row.estimate == pytest.approx(one(found, "registered").estimate)
    assert "re-randomised sequences" in row.method
    plan, labels = study
    gone = {c.cell_code for c in plan.cells if c.unit_id == "u00" and labels.by_cell[c.cell_code][0] == "idle"}
    fewer = dataclasses.replace(plan, cells=tuple(c for c in plan.cells if c.cell_code not in gone))
    data = responses(*study)
    without = rows(fewer, data[~data["cell_code"].isin(gone)], labels)
    assert "1 of 12 units did not receive every arm" in str(one(without, "label permutation").reason)


def test_an_invalid_response_of_these_arms_excludes_its_unit(study: tuple[Plan, Labels]) -> None:
    plan, labels = study
    data = responses(*study)
    code = next(c.cell_code for c in plan.cells if labels.by_cell[c.cell_code][0] == "up" and c.unit_id == "u03")
    data.loc[(data["cell_code"] == code) & (data["item"] == "i1") & (data["reading"] == "statement"), "valid"] = False
    found = rows(plan, data, labels)
    assert one(found, "exclude invalid").n == UNITS - 1
    assert one(found, "exclude invalid", "down").n == UNITS
    assert one(found, "registered").n == UNITS


def test_the_worst_case_takes_the_observed_extreme_that_hurts(study: tuple[Plan, Labels]) -> None:
    plan, labels = study
    data = responses(*study)
    code = next(c.cell_code for c in plan.cells if labels.by_cell[c.cell_code][0] == "up" and c.unit_id == "u03")
    lost = (data["cell_code"] == code) & (data["instrument"] == "first") & (data["reading"] == "statement")
    data.loc[lost & (data["item"] == "i2"), "keyed_ll"] = -math.inf
    found = rows(plan, data, labels)
    assert "1 of 12 units have no valid score" in str(one(found, "registered").reason)  # three of four items: too few
    same = data[(data["instrument"] == "first") & (data["item"] == "i2") & (data["reading"] == "statement")]
    least = float((same["keyed_ll"] - same["antonym_ll"]).replace(-math.inf, np.nan).min())
    repaired = data.copy()
    repaired.loc[lost & (data["item"] == "i2"), "keyed_ll"] = -20 + least
    by_hand = one(rows(plan, repaired, labels), "registered")
    assert one(found, "worst case").estimate == pytest.approx(by_hand.estimate)
    assert "1 of" in one(found, "worst case").method


def test_only_the_analysis_without_foils_sees_what_moves_every_scale(study: tuple[Plan, Labels]) -> None:
    def everywhere(arm: str, scale: str, item: int, form: str) -> float:
        return by_default(arm, scale, item, form) + (2.0 if arm == "up" else 0.0)

    before, after = (rows(study[0], responses(*study, effect), study[1]) for effect in (by_default, everywhere))
    assert one(after, "registered").estimate == pytest.approx(one(before, "registered").estimate)
    assert (one(after, "no foils").estimate or 0) == pytest.approx((one(before, "no foils").estimate or 0) + 2)


def test_the_other_reading_is_the_other_reading(study: tuple[Plan, Labels]) -> None:
    def muted(arm: str, scale: str, item: int, form: str) -> float:
        return by_default(arm, scale, item, form) if form == "raw" else 0.0

    found = rows(study[0], responses(*study, muted), study[1])
    assert one(found, "registered").estimate == pytest.approx(1.5, abs=0.5)
    assert one(found, "other reading").reading == "statement_expressed"
    assert one(found, "other reading").estimate == pytest.approx(0, abs=0.5)


def test_other_comparators_are_the_other_placebo_and_the_baseline(study: tuple[Plan, Labels]) -> None:
    claim = claims_of(study[0])[0]
    assert [each.placebo.name for each in other_comparators(claim)] == ["none", "entropy"]


def test_yekutieli_adjusts_within_a_comparator(found: tuple[Sensitivity, ...]) -> None:
    first = [row for row in found if row.analysis == "registered"]
    for comparator in ("sham", "entropy"):
        p = [row.p for row in first if row.comparator == comparator and row.p is not None]
        adjusted = [row.p for row in yekutieli(first) if row.comparator == comparator]
        assert adjusted == pytest.approx(adjust(p, "by").tolist())


def test_nothing_that_could_differ_is_said_to_be_so(study: tuple[Plan, Labels]) -> None:
    found = rows(study[0], responses(*study, lambda *_: 0.0, noise=0.0), study[1])
    assert "nothing could differ" in str(one(found, "registered").reason)
    assert all(row.estimate is None for row in found)


def test_sampled_answers_get_an_ordinal_model_and_their_absence_a_reason(
    study: tuple[Plan, Labels], found: tuple[Sensitivity, ...]
) -> None:
    assert one(found, "ordinal mixed model").reason == "the study has no sampled answers on options"
    plan, labels = study
    generator, lines = np.random.default_rng(9), []
    for cell in plan.cells:
        arm, member = labels.by_cell[cell.cell_code]
        for item in range(ITEMS):
            latent = generator.logistic() + (2.0 if arm == "up" else 0.0)
            level = int(np.searchsorted([-1, 0, 1, 2], latent))
            lines.append((cell.unit_id, arm, member, "first", f"i{item}", level))
    answers = pd.DataFrame(lines, columns=["unit_id", "arm", "member", "scale", "item", "answer"])
    found = rows(plan, responses(*study), labels, answers=answers)
    row = one(found, "ordinal mixed model")
    assert row.estimate == pytest.approx(2, abs=1)
    assert row.p is not None
    assert row.p < 0.01
    assert "no sampled answer on second" in str(one(found, "ordinal mixed model", "down").reason)
