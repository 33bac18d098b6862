"""Sensitivity analyses and the record of the crossover in the report."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from neuromod_core.report import ReportData
from neuromod_core.report.canvas import svg
from neuromod_core.report.page import render
from neuromod_core.report.plots.robustness import flow, robustness
from neuromod_core.report.robustness import agreement, consort, sensitivity
from neuromod_core.trial.claims import Sensitivity
from neuromod_core.trial.consort import Consort, Flow, Item, Visit
from tests.conftest import ROOT
from tests.unit.report_data import ARMS, report_data

ANALYSES = (
    *("registered", "linear mixed model", "label permutation", "exclude invalid", "worst case", "no foils"),
    *("leave one item out", "leave one vignette out", "other reading", "Benjamini-Yekutieli"),
)


def rows() -> tuple[Sensitivity, ...]:
    draw, found = np.random.default_rng(7), []
    for arm, _, _, _, target, sign in ARMS[7:]:
        for comparator in ("sham vector", "matched temperature"):
            middle = float(sign or 1) * draw.uniform(-0.2, 1.6)
            named = (f"{arm} moves {target}", arm, str(target), "statement_raw", comparator)
            for analysis in ANALYSES:
                at, half = middle + 0.15 * draw.normal(), 0.3 + 0.1 * draw.random()
                found.append(
                    Sensitivity(analysis, *named, at, at - half, at + half, p=0.004, n=48, method="sign-flip; as it is")
                )
            found.append(Sensitivity("ordinal mixed model", *named, reason="the study has no sampled answers"))
    return tuple(found)


def record() -> Consort:
    visits = [
        Visit(sequence, period, ARMS[(sequence + period) % 6][0], 8, 8, 8 - (sequence + 2 * period == 5))
        for sequence in range(6)
        for period in range(6)
    ]
    items = (Item("1", "Design in title and summary", "randomised crossover <on> one model", "report"),)
    return Consort(Flow(130, 48, tuple(visits), {}), items, {"cells": 288})


@pytest.fixture(scope="module")
def data() -> ReportData:
    return dataclasses.replace(report_data(), sensitivity=rows(), consort=record())


def test_every_row_is_in_the_table_with_its_number_or_its_reason(data: ReportData) -> None:
    table = sensitivity(data)
    assert len(table.rows) == len(data.sensitivity)
    for row, given in zip(table.rows, data.sensitivity, strict=True):
        texts = [cell.text for cell in row]
        assert texts[1] == given.analysis
        assert texts[-1] == (given.reason or given.method)
        assert (row[4].style == "missing") == (given.estimate is None)


def test_the_sentence_counts_what_agrees(data: ReportData) -> None:
    assert agreement(data).startswith("Of 108 further analyses that these data permit,")
    assert agreement(data).endswith("12 were not possible, and say why.")
    turned = tuple(
        dataclasses.replace(row, estimate=-row.estimate) if row.analysis == "no foils" and row.estimate else row
        for row in rows()
    )
    before, after = (
        int(agreement(each).split(", ")[1].split()[0]) for each in (data, dataclasses.replace(data, sensitivity=turned))
    )
    assert after < before


def test_the_page_holds_both_pictures_both_tables_and_escapes_what_is_stated(data: ReportData) -> None:
    page = render(data, ROOT / "analysis" / "templates")
    for text in ("Would another analysis have said the same?", "Flow of units and checklist", 'id="robustness-'):
        assert text in page
    assert "randomised crossover &lt;on&gt; one model" in page


def test_pictures_say_what_they_show_and_are_absent_without_data(data: ReportData) -> None:
    (plot,) = robustness(data)
    assert "6 arms under 9 analyses" in plot.alt
    assert svg(plot).count("linear mixed model") >= 1
    (drawn,) = flow(data)
    assert "288 cells randomised" in drawn.alt
    assert robustness(report_data()) == flow(report_data()) == []
    assert len(consort(data).rows) == 1
