"""Tables and sentences on what arms do beside what they are meant to do: unwanted events, side effects, stops."""

from __future__ import annotations

import pandas as pd

from neuromod_core.report.data import ReportData
from neuromod_core.report.shifts import Means, at, shift, summarise
from neuromod_core.report.tables import Cell, Table
from neuromod_core.report.wording import MISSING, count, interval, listed, percent, plain, signed
from neuromod_core.trial.harms import MEASURES, Comparison, Harms
from neuromod_core.trial.wholes import WHOLES, Whole

EVENTS = ("arm", "unwanted event", "under the arm", "baseline", "difference", "95 % interval", "margin", "verdict")
NUMBERS = ("pairs", "pairs needed", "at most", "missing")
NO_PANEL = "No panel of side effects was registered in this study."


def _cell(text: str) -> Cell:
    return Cell(text, "missing" if text == MISSING else "number")


def margins(data: ReportData) -> Table | None:
    """Return one row per arm and kind of unwanted event, each against its margin; None without a panel."""
    if data.harms is None:
        return None
    by_arm = sorted(data.harms.comparisons, key=lambda item: data.arm_names.index(item.arm))
    caption = f"Unwanted events against {data.study.baseline}, each with its margin of non-inferiority"
    return Table(caption, (*EVENTS, *NUMBERS), tuple(_margin(item) for item in by_arm))


def _margin(item: Comparison) -> tuple[Cell, ...]:
    kept, test = item.kept, item.kept.test
    n = kept.n
    shares = [percent(events / n) if n else MISSING for events in (item.events, item.baseline_events)]
    difference = MISSING if test is None else f"{signed(100 * test.estimate, 1)} points"
    bounds = test.ci if test is not None else None
    limits = interval(None, None) if bounds is None else interval(100 * bounds.low, 100 * bounds.high)
    worst = f"{kept.n_missing}, at worst {kept.worst}" if kept.n_missing else "0"
    return (
        Cell(item.arm),
        Cell(f"{kept.margin.endpoint}, by {item.reading}"),
        *map(_cell, (*shares, difference, limits)),
        Cell(f"+{100 * kept.margin.bound:g} points"),
        Cell(kept.outcome, kept.outcome.replace(" ", "-")),
        *map(_cell, (count(n), count(kept.needed), percent(kept.at_most))),
        Cell(worst),
    )


def rows_of(harms: Harms, measure: str) -> pd.DataFrame:
    """Return the rows of the panel that a measure averages."""
    _, instruments, reading = MEASURES[measure]
    panel = harms.panel
    rows = panel[panel["instrument"].isin(instruments) & (panel["reading"] == reading)]
    return rows.astype({"value": float})


def measured(data: ReportData) -> tuple[str, ...]:
    """Return the measures of which this study has values."""
    if data.harms is None:
        return ()
    return tuple(name for name in MEASURES if rows_of(data.harms, name)["value"].notna().any())


def measure_shifts(data: ReportData, harms: Harms, measure: str) -> Means:
    """Return the mean shift of a measure against the baseline within units, for each arm."""
    return shift(rows_of(harms, measure), [], "value", data.study.baseline)


def wholes_of(data: ReportData) -> dict[str, dict[str, Whole]]:
    """Return the statistics of whole arms, by their name and the arm's, of which some arm has a value."""
    found: dict[str, dict[str, Whole]] = {}
    for whole in data.harms.wholes if data.harms is not None else ():
        found.setdefault(whole.name, {})[whole.arm] = whole
    return {name: mine for name, mine in found.items() if any(each.value is not None for each in mine.values())}


def _whole(whole: Whole | None) -> Cell:
    if whole is None:
        return Cell(MISSING, "missing")
    if whole.value is None or whole.low is None or whole.high is None:
        return Cell(f"{MISSING}: {whole.reason}", "missing")
    return Cell(f"{plain(whole.value)} [{plain(whole.low)}, {plain(whole.high)}] (n = {whole.n})", "number")


def measures(data: ReportData) -> Table | None:
    """Return every measure of the panel per arm: its mean, and its shift against the baseline; None without a panel.

    Statistics of whole arms stand at the end, each with its bootstrap interval and the number of its problems.
    """
    if data.harms is None:
        return None
    names = measured(data)
    levels = {name: summarise(rows_of(data.harms, name), ["arm"], "value") for name in names}
    moved = {name: measure_shifts(data, data.harms, name) for name in names}
    whole = wholes_of(data)
    rows = []
    for arm in data.arm_names:
        cells = []
        for name in names:
            mean, change = at(levels[name], arm), at(moved[name], arm)
            at_baseline = arm == data.study.baseline or change.mean is None
            said = "" if at_baseline else f" ({signed(change.mean)} \u00b1 {plain(change.half)}, n = {change.n})"
            cells.append(_cell(MISSING if mean.mean is None else f"{plain(mean.mean)}{said}"))
        rows.append((Cell(arm), *cells, *(_whole(mine.get(arm)) for mine in whole.values())))
    header = ("arm", *(f"{name}: {MEASURES[name][0]}" if name != MEASURES[name][0] else name for name in names))
    header += tuple(f"{name}: {WHOLES[name]}, 95 % interval (problems)" for name in whole)
    return Table("Everything the panel measured: mean (shift \u00b1 95 % half-width, units)", header, tuple(rows))


def halts(data: ReportData) -> Table | None:
    """Return what the stop rule said at every look; None without a rule."""
    if data.harms is None or data.harms.rule is None:
        return None
    rows = []
    for arm, look in data.harms.looks:
        halt = look.halt
        said = Cell("stopped", "beyond-the-margin") if halt.stop else Cell("went on")
        numbers = (count(halt.events), count(halt.n), plain(halt.lower, 3))
        rows.append((Cell(f"{look.number}, before shard {look.shard}"), Cell(arm), *map(_cell, numbers), said))
    header = ("look", "arm", "events", "of", "exact lower bound", "so the arm")
    return Table(f"Stop rule: {data.harms.rule}", header, tuple(rows))


def absences(data: ReportData) -> list[str]:
    """Return what was not run because public data were not there, in sentences."""
    if data.harms is None:
        return []
    what = {
        "xstest": "Requests of XSTest",
        "ldnoobw": "Abusive language in stories",
        "blimp": "Minimal pairs of BLiMP",
        "wikitext2": "Paragraphs of WikiText-2",
    }
    return [f"{what[name]}: not run, data absent ({why})." for name, why in sorted(data.harms.absent.items())]


def sentences(data: ReportData) -> list[str]:
    """Return what was found about safety, for the top of the report: who is beyond a margin, who within, who open."""
    if data.harms is None or not data.harms.comparisons:
        return []
    items = data.harms.comparisons
    said = []
    beyond = sorted({f"{item.arm} ({item.kept.margin.endpoint})" for item in items if "beyond" in item.kept.outcome})
    if beyond:
        said.append(f"Beyond a safety margin: {listed(beyond)}.")
    arms = [arm for arm in data.arm_names if any(item.arm == arm for item in items)]
    kept = {arm: {item.kept.outcome for item in items if item.arm == arm} for arm in arms}
    within = [arm for arm in arms if kept[arm] == {"within the margin"}]
    still = sum("inconclusive" in outcomes for outcomes in kept.values())
    needed = [item.kept.needed for item in items if item.kept.outcome == "inconclusive" and item.kept.needed]
    head = f"Within every safety margin: {listed(within) if within else 'no arm was shown to be'}"
    tail = f"; inconclusive for {still} of {len(arms)} arms" if still else ""
    size = f" (up to {max(needed)} pairs needed, {max(item.kept.n for item in items)} read)" if needed and still else ""
    said.append(f"{head}{tail}{size}.")
    stopped = sorted({arm for arm, look in data.harms.looks if look.halt.stop})
    return [*said, *([f"Stopped for safety while the study ran: {listed(stopped)}."] if stopped else [])]
