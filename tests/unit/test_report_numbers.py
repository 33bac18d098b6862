from __future__ import annotations

import statistics
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from scipy.stats import t as student

from neuromod_core.kernel.errors import DataError
from neuromod_core.kernel.rng import rng
from neuromod_core.report import ReportData, Study
from neuromod_core.report.data import COLUMNS, ROLES
from neuromod_core.report.findings import findings, outcomes
from neuromod_core.report.layout import spread, stack
from neuromod_core.report.palette import looks
from neuromod_core.report.shifts import Mean, item_shifts, scale_shifts, specificity_shifts, summarise, token_means
from neuromod_core.report.tables import primary, provenance, secondary, validity
from neuromod_core.report.verdicts import comparator_readings, reported_state, specificity
from tests.unit.report_data import BASELINE, DESIGN, FOILS, report_data


@pytest.fixture(scope="module")
def data() -> ReportData:
    return report_data(units=6, tokens=40)


def slow_mean(values: list[float]) -> Mean:
    half = student.ppf(0.975, len(values) - 1) * statistics.stdev(values) / len(values) ** 0.5
    return Mean(pytest.approx(statistics.fmean(values)), pytest.approx(half), len(values))


def slow_scores(data: ReportData, reading: str) -> dict[tuple[str, str, str], float]:
    rows = data.scores[data.scores["reading"] == reading].to_dict("records")
    return {(r["arm"], r["scale"], r["unit_id"]): r["value"] for r in rows if not pd.isna(r["value"])}


def test_shifts_are_means_over_units_of_paired_differences(data: ReportData) -> None:
    value = slow_scores(data, "statement_raw")
    fast = scale_shifts(data, "statement_raw")
    units = sorted({unit for _, _, unit in value})
    for arm, scale in fast:
        pairs = [(value.get((arm, scale, unit)), value.get((BASELINE, scale, unit))) for unit in units]
        gaps = [a - b for a, b in pairs if a is not None and b is not None]
        assert fast[arm, scale] == (slow_mean(gaps) if gaps else Mean(None, None, 0))


def test_specificity_needs_the_target_and_every_foil(data: ReportData) -> None:
    value = slow_scores(data, "statement_raw")
    units = sorted({unit for _, _, unit in value})

    def gap(arm: str, unit: str) -> float | None:
        keys = [(scale, unit) for scale in ("visionary", *FOILS)]
        if any((arm, *key) not in value for key in keys):
            return None
        target, *foils = (value[arm, *key] - value[BASELINE, *key] for key in keys)
        return target - statistics.fmean(foils)

    fast = specificity_shifts(data)
    for (arm,) in fast:
        gaps = [found for unit in units if (found := gap(arm, unit)) is not None]
        assert fast[arm,] == slow_mean(gaps)


def test_a_units_members_are_averaged_before_units() -> None:
    frame = pd.DataFrame({"unit_id": ["a"] * 3 + ["b"], "arm": "x", "value": [0.0, 0.0, 3.0, 5.0]})
    assert summarise(frame, ["arm"], "value")["x",].mean == pytest.approx(3.0)
    assert summarise(frame, ["arm"], "value")["x",].n == 2


def test_one_unit_has_a_mean_and_no_interval(data: ReportData) -> None:
    one = replace(data, items=data.items[data.items["unit_id"] == "v000"])
    assert all(mean.n == 1 and mean.half is None and mean.mean is not None for mean in item_shifts(one).values())


def test_the_baseline_never_shifts(data: ReportData) -> None:
    assert {mean.mean for (arm, _), mean in scale_shifts(data, "statement_raw").items() if arm == BASELINE} == {0.0}


def test_entropy_curves_average_units_and_stop_where_half_have_stopped(data: ReportData) -> None:
    lists = [[1.0, 2.0, 3.0], [3.0, 4.0], [5.0]]
    stories = data.generations.head(3).assign(arm=BASELINE, unit_id=["a", "b", "c"], entropy=lists)
    curve = token_means(replace(data, generations=stories), BASELINE, "entropy", window=1)
    assert curve.mean == pytest.approx(np.array([3.0, 3.0]))
    smooth = token_means(replace(data, generations=stories), BASELINE, "entropy", window=2)
    assert smooth.mean == pytest.approx(np.array([3.0, 2.5]))


@pytest.mark.parametrize("seed", range(20))
def test_spread_keeps_order_centre_and_distance(seed: int) -> None:
    places = rng(seed, "spread").normal(0, 1, 12).tolist()
    placed = spread(places, 0.3)
    assert np.argsort(places).tolist() == np.argsort(placed).tolist()
    assert np.diff(sorted(placed)).min() >= 0.3 - 1e-9
    assert sum(placed) == pytest.approx(sum(places))


def test_spread_leaves_alone_what_is_apart() -> None:
    assert spread([3.0, 1.0, 2.0], 0.5) == pytest.approx([3.0, 1.0, 2.0])


@pytest.mark.parametrize("seed", range(5))
def test_stacked_dots_never_touch(seed: int) -> None:
    values = rng(seed, "stack").normal(0, 1, 40).tolist()
    heights = stack(values, 0.2)
    for i, a in enumerate(values):
        assert all(heights[i] != heights[j] for j, b in enumerate(values[:i]) if abs(a - b) < 0.2)


def test_arms_stand_controls_first_then_assay_then_packs(data: ReportData) -> None:
    roles = [arm.role for arm in data.arm_rows.values()]
    assert roles == sorted(roles, key=list(ROLES).index)
    assert roles[-6:] == ["pack"] * 6


def test_every_arm_has_its_own_look(data: ReportData) -> None:
    assert len({(look.colour, look.marker) for look in looks(data).values()}) == len(data.arm_names)
    many = pd.concat([data.arms, *[data.arms.tail(1).assign(arm=f"x{index}", role="pack") for index in range(20)]])
    wide = looks(replace(data, arms=many))
    assert len({(look.colour, look.marker) for look in wide.values()}) == len(wide) == len(data.arm_names) + 20
    assert [wide[arm] for arm in data.with_role("pack")] == [looks(data)[arm] for arm in data.with_role("pack")]


def with_states(data: ReportData, state: str) -> ReportData:
    return replace(data, verdicts=data.verdicts.assign(state=state, informative=True))


def test_the_first_finding_counts_the_packs_that_exceed_every_placebo(data: ReportData) -> None:
    assert findings(with_states(data, "not supported"))[0].startswith("0 of 6 packs changed")
    assert findings(with_states(data, "supported"))[0].startswith("6 of 6 packs changed")
    half = data.verdicts.assign(state="supported", informative=True)
    half.loc[half["comparator"] == "sham vector", "state"] = "not supported"
    assert findings(replace(data, verdicts=half))[0].startswith("0 of 6 packs changed")


def test_a_pack_that_was_not_tested_against_a_placebo_is_not_counted(data: ReportData) -> None:
    rows = data.verdicts.assign(state="supported", informative=True)
    absent = (rows["arm"] == "lull") & (rows["comparator"] == "sham vector")
    fewer = replace(data, verdicts=rows[~absent])
    assert findings(fewer)[0].startswith("5 of 6 packs changed")
    assert any("not tested: lull" in sentence for sentence in findings(fewer))


def test_a_two_sided_secondary_test_never_counts_as_a_primary_claim(data: ReportData) -> None:
    rows = data.verdicts.assign(state="supported", informative=True)
    moved = rows.assign(family=rows["family"].where(rows["arm"] != "lucid", "F5"))
    assert findings(replace(data, verdicts=moved))[0].startswith("5 of 6 packs changed")
    aimless = data.arms.assign(target_scale=data.arms["target_scale"].where(data.arms["arm"] != "lucid", None))
    said = findings(replace(data, verdicts=moved, arms=aimless))
    assert said[0].startswith("5 of 5 packs changed")
    assert said[1] == "Without a prediction, so described only: lucid."


def test_a_claim_that_was_withdrawn_before_still_counts_as_a_passed_test(data: ReportData) -> None:
    failed = replace(with_states(data, "not licensed"), gates=data.gates.assign(state="failed"))
    assert findings(failed)[1].startswith("6 of 6 packs passed the test of changing")
    assert findings(failed)[2].endswith("passed the same test.")


def test_placebos_may_be_compared_in_different_readings(data: ReportData) -> None:
    readings = {key: row.reading for key, row in specificity(data, "visionary").items()}
    assert readings["lucid", "sham vector"] == "statement_raw"
    assert readings["lucid", "matched temperature"] == "statement_expressed"
    assert comparator_readings(data)["matched temperature"] == "statement contrast, expressed"


def test_a_study_without_placebos_says_so(data: ReportData) -> None:
    alone = replace(data, verdicts=data.verdicts.iloc[:0])
    assert "against a placebo, of which this study has none." in findings(alone)[0]


def test_an_uninformative_contrast_is_never_support(data: ReportData) -> None:
    blind = replace(data, verdicts=data.verdicts.assign(state="supported", informative=False))
    assert findings(blind)[0].startswith("0 of 6")
    assert {state for outcome in outcomes(blind, "pack") for state in outcome.states} == {"not informative"}


def test_a_failed_gate_comes_first_and_takes_every_licence(data: ReportData) -> None:
    failed = replace(with_states(data, "supported"), gates=data.gates.assign(state="failed"))
    assert findings(failed)[0].startswith("No claim is licensed: gates G1, G2, G3, G4, G5, G6 and G7 failed.")
    assert not any(" changed " in sentence or "can detect" in sentence for sentence in findings(failed))
    assert {reported_state(failed, row) for row in specificity(failed, "visionary").values()} == {"not licensed"}
    assert {row[-1].style for row in primary(failed).rows} == {"not-licensed"}


def test_the_assay_is_reported_as_it_came_out(data: ReportData) -> None:
    assert findings(with_states(data, "supported"))[1].endswith("the study can detect an effect of that size.")
    assert "blunt instrument" in findings(with_states(data, "not supported"))[1]
    absent = replace(data, arms=data.arms.replace({"role": {"assay": "persona"}}))
    assert findings(absent)[1].startswith("There was no known-active arm")


def test_the_primary_family_wins_over_another_with_the_same_contrast(data: ReportData) -> None:
    twin = data.verdicts[data.verdicts["family"] == "F1"].assign(family="F5", estimate=99.0)
    both = replace(data, verdicts=pd.concat([twin, data.verdicts]))
    assert specificity(both, "visionary")["lucid", "sham vector"].estimate != 99.0


def test_validity_counts_by_arm_and_reason(data: ReportData) -> None:
    table = validity(data)
    (veil,) = (row for row in table.rows if row[0].text == "veil")
    row = {name: cell.text for name, cell in zip(table.header, veil, strict=True)}
    assert row["scores missing"] == row["because: option mass below"] == "50.0 %"
    assert row["because: scale not administered"] == "0 %"


def test_provenance_says_what_was_not_recorded_and_shows_what_more_there_is(data: ReportData) -> None:
    rows = {row[0].text: row[1].text for row in provenance(replace(data, provenance={"gpu_name": "none"})).rows}
    assert rows.pop("gpu name") == "none"
    assert set(rows.values()) == {"not recorded"}
    assert len(rows) == 10


@pytest.mark.parametrize("table", sorted(COLUMNS))
def test_a_missing_column_is_named(data: ReportData, table: str) -> None:
    column = COLUMNS[table][-1]
    with pytest.raises(DataError, match=rf"^Report data, {table}: columns: missing {column}; given "):
        replace(data, **{table: getattr(data, table).drop(columns=column)})


@pytest.mark.parametrize(
    ("table", "column", "where"),
    [
        ("arms", "role", "arms: role"),
        ("verdicts", "state", "verdicts: state"),
        ("verdicts", "informative", "verdicts: informative"),
        ("gates", "state", "gates: state"),
        ("scores", "arm", "scores: arm"),
        ("verdicts", "family", "design: primary family"),
    ],
)
def test_a_word_that_the_report_does_not_know_is_refused(data: ReportData, table: str, column: str, where: str) -> None:
    with pytest.raises(DataError, match=rf"^Report data, {where}: unknown 'odd'; allowed: \S"):
        replace(data, **{table: getattr(data, table).assign(**{column: "odd"})})


def test_a_number_that_is_text_is_refused(data: ReportData) -> None:
    with pytest.raises(DataError, match=r"^A number for the report is 'odd'; it must be a number or null\.$"):
        findings(replace(data, verdicts=data.verdicts.assign(estimate="odd")))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"titel": "x"}, r"^Report design: titel missing or unknown; needed are title, question, "),
        ({"alpha": "0.05"}, r"^Report design: alpha is '0\.05'; it must be a number\.$"),
        ({"units": True}, r"^Report design: units is True; it must be a number\.$"),
        ({"title": 3}, r"^Report design: title is 3; it must be text\.$"),
        ({"foils": "warmth"}, r"^Report design: foils is 'warmth'; it must be a list of texts\.$"),
        ({"families": ["F1"]}, r"^Report design: families is \['F1'\]; it must be a mapping of texts\.$"),
        ({"primary_family": "F9"}, r"^Report design: primary_family 'F9' is not a family; given: F1, F5\.$"),
    ],
)
def test_a_design_that_cannot_be_shown_is_one_clear_line(change: dict[str, object], message: str) -> None:
    with pytest.raises(DataError, match=message):
        Study.parse({**DESIGN, **change})


def test_a_design_without_a_key_is_refused() -> None:
    with pytest.raises(DataError, match=r"^Report design: limits missing or unknown; "):
        Study.parse({key: value for key, value in DESIGN.items() if key != "limits"})


def test_a_verdict_about_no_single_arm_is_shown_with_dashes(data: ReportData) -> None:
    row = data.verdicts.head(1).assign(
        family="F5", arm=None, scale=None, comparator=None, hypothesis="order is balanced"
    )
    (table,) = secondary(replace(data, verdicts=pd.concat([data.verdicts, row])))
    assert [cell.text for cell in table.rows[0][:4]] == ["order is balanced", *["\u2013"] * 3]
    assert len(table.rows) == 1 + (data.verdicts["family"] == "F5").sum()
