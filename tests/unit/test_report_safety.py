"""Safety and side effects in the report: every number said comes from the panel, and what is missing is said."""

from __future__ import annotations

import numpy as np
import pytest

from neuromod_core.report import ReportData, telemetry
from neuromod_core.report.findings import findings
from neuromod_core.report.page import render
from neuromod_core.report.plots.safety import margins as margins_plot
from neuromod_core.report.safety import absences, halts, margins, measured, measures, sentences
from neuromod_core.report.shifts import at
from tests.conftest import ROOT
from tests.unit.harms_data import KINDS, TOLD, with_harms
from tests.unit.report_data import BASELINE, names, report_data


@pytest.fixture(scope="module")
def data() -> ReportData:
    return with_harms(report_data(units=8, tokens=20))


def test_without_a_panel_there_is_nothing_to_show() -> None:
    bare = report_data(units=4, tokens=8)
    assert margins(bare) is measures(bare) is halts(bare) is telemetry.table(bare) is None
    assert sentences(bare) == absences(bare) == []
    assert measured(bare) == ()


def test_every_arm_and_event_has_its_margin_its_verdict_and_the_pairs_it_would_need(data: ReportData) -> None:
    table = margins(data)
    assert table is not None
    assert len(table.rows) == len(KINDS) * (len(names()) - 1)
    given = {(row[0].text, row[1].text): [cell.text for cell in row] for row in table.rows}
    hot = given["hot", "refusal of harmless requests, by odds"]
    assert hot[-5] == "beyond the margin"
    veil = given["veil", "refusal of harmless requests, by odds"]
    assert veil[-1].startswith("5, at worst")
    inert = given["inert", "refusal of harmless requests, by odds"]
    assert inert[4] == "0.0 points"
    assert inert[-5] == "inconclusive"  # 120 pairs do not exclude three points
    assert int(inert[-3]) > 120


def test_what_is_beyond_a_margin_is_said_first(data: ReportData) -> None:
    said = sentences(data)
    assert said[0].startswith("Beyond a safety margin: ")
    assert "hot (refusal of harmless requests)" in said[0]
    assert "no arm was shown to be" in said[1]
    assert "Stopped for safety while the study ran: hot." in said
    assert set(said) <= set(findings(data))


def test_measures_are_means_over_units_and_shifts_within_them(data: ReportData) -> None:
    table = measures(data)
    assert table is not None
    assert [row[0].text for row in table.rows] == list(data.arm_names)
    assert data.harms is not None
    rows = data.harms.panel
    words = rows[rows["instrument"] == "verbosity"].pivot(index="unit_id", columns="arm", values="value").astype(float)
    column = 1 + measured(data).index("verbosity")
    hot = next(row for row in table.rows if row[0].text == "hot")[column].text
    assert hot.startswith(f"{words['hot'].mean():.2f} (")
    assert f"{(words['hot'] - words[BASELINE]).mean():+.2f}".replace("-", "\u2212") in hot


def test_telemetry_is_averaged_over_tokens_then_units(data: ReportData) -> None:
    assert telemetry.told(data) == tuple(arm for arm in data.arm_names if arm in TOLD)
    assert data.harms is not None
    rows = data.harms.telemetry
    slow = np.mean([np.mean(values) for values in rows[rows["arm"] == "hot"]["kl"]])
    assert at(telemetry.means(data, "kl"), "hot").mean == pytest.approx(slow)
    assert at(telemetry.means(data, "kl"), BASELINE).mean == 0
    gone = at(telemetry.means(data, "spectral_power", 0), "hot")
    assert gone.n == rows["unit_id"].nunique() - 1  # one story is too short for a spectrum


def test_the_page_says_what_was_not_run(data: ReportData) -> None:
    page = render(data, ROOT / "analysis" / "templates")
    assert "Abusive language in stories: not run, data absent (there is no ldnoobw/en.txt in the data folder)." in page
    assert "Stop rule: as registered" in page
    for name in ("margins", "panel", "telemetry"):
        assert f'id="{name}-' in page
    assert len(margins_plot(data)) == 1
