"""The sensitivity analyses and the record of the crossover, as tables of a report."""

from __future__ import annotations

from neuromod_core.report.data import ReportData
from neuromod_core.report.tables import Cell, Table
from neuromod_core.report.wording import MISSING, count, interval, pvalue, reading_name, signed
from neuromod_core.trial.claims import Sensitivity

HEADER = ("hypothesis", "analysis", "against", "reading", "estimate", "low to high", "p", "n", "how, or why not")


def sensitivity(data: ReportData) -> Table:
    """Return every analysis of every primary hypothesis, the registered one first."""
    return Table(
        "Sensitivity analyses; p is unadjusted unless the analysis says so", HEADER, tuple(map(_row, data.sensitivity))
    )


def _row(row: Sensitivity) -> tuple[Cell, ...]:
    how = row.method if row.reason is None else row.reason
    bounds = (
        "" if row.low is None else f"{interval(row.low, row.high)}{'' if row.bounds.startswith('95') else ' range'}"
    )
    return (
        Cell(row.hypothesis),
        Cell(row.analysis),
        Cell(row.comparator),
        Cell(reading_name(row.reading)),
        _number("" if row.estimate is None else signed(row.estimate)),
        _number(bounds),
        _number("" if row.p is None else pvalue(row.p)),
        _number("" if row.n is None else count(row.n)),
        Cell(how),
    )


def _number(text: str) -> Cell:
    return Cell(text, "number") if text else Cell(MISSING, "missing")


def agreement(data: ReportData) -> str:
    """Return in a sentence how many analyses are on the registered side of zero, and how many reach the level alone."""
    first = {(row.arm, row.comparator): row for row in data.sensitivity if row.analysis == "registered"}
    others = [row for row in data.sensitivity if row.analysis != "registered" and row.estimate is not None]
    same = [row for row in others if (main := first.get((row.arm, row.comparator))) and _side(main) == _side(row)]
    known = [row for row in others if (row.arm, row.comparator) in first]
    return (
        f"Of {len(known)} further analyses that these data permit, {len(same)} point the way of the registered one; "
        f"{len(data.sensitivity) - len(first) - len(others)} were not possible, and say why."
    )


def _side(row: Sensitivity) -> bool:
    return float(row.estimate or 0) > 0


def consort(data: ReportData) -> Table:
    """Return the checklist of a randomised crossover."""
    items = () if data.consort is None else data.consort.items
    rows = ((Cell(item.number), Cell(item.topic), Cell(item.stated), Cell(item.source)) for item in items)
    return Table("Checklist of a randomised crossover", ("item", "what", "stated", "where"), tuple(rows))
