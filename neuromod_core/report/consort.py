"""The checklist of a randomised crossover as a page, and the flow of its units as a picture."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from neuromod_core.report.canvas import Plot, bare, inside
from neuromod_core.report.palette import BAND, INK, MUTED, PACKS, PAPER, RULE, letter
from neuromod_core.trial.consort import Consort, Flow

PAGE, PICTURE = "consort.md", "consort"
GRID_ROWS = 24  # sequences drawn; a study with more shows these and says so
LETTER_SIZE = 8.0


def picture(found: Flow, letters: Mapping[str, str] | None = None) -> Plot:
    """Draw the flow: boxes from vignettes to analysed cells, then sequences (rows) by periods (columns).

    letters: arm -> the letter it has elsewhere; without them they are given by the order of names.
    """
    rows = min(found.sequences, GRID_ROWS)
    figure = Figure(figsize=(10, 1.9 + 0.3 * rows), layout="constrained")
    top, grid = figure.subplots(2, 1, height_ratios=[1.3, 0.3 * rows + 0.5])
    _boxes(top, found)
    arms = sorted({visit.arm for visit in found.visits})
    _grid(grid, found, rows, letters or {arm: letter(place) for place, arm in enumerate(arms)})
    alt = (
        f"Flow of {found.units} units through {found.sequences} sequences of {found.periods} periods: "
        f"{found.total('randomised')} cells randomised, {found.total('run')} run, {found.total('analysed')} analysed."
    )
    return Plot(PICTURE, alt, figure)


def _boxes(axes: Axes, found: Flow) -> None:
    """Draw the four stages from left to right, with what was lost between them."""
    bare(axes)
    axes.set(xlim=(0, 4), ylim=(0, 1), xticks=[], yticks=[])
    cells = found.total("randomised")
    texts = (
        f"written\n{found.written} vignettes",
        f"randomised\n{found.units} units to {found.sequences} sequences\n{cells} cells",
        f"run\n{found.total('run')} cells",
        f"analysed\n{found.total('analysed')} cells\n{found.total('excluded')} without a valid score",
    )
    for place, text in enumerate(texts):
        axes.add_patch(Rectangle((place + 0.04, 0.1), 0.82, 0.8, facecolor=BAND, edgecolor=RULE))
        inside(axes, (place + 0.45, 0.5), text, fontsize=8.5, color=INK)
        if place:
            axes.annotate("", (place + 0.03, 0.5), (place - 0.13, 0.5), arrowprops={"arrowstyle": "->", "color": MUTED})


def _grid(axes: Axes, found: Flow, rows: int, letters: Mapping[str, str]) -> None:
    """Draw one cell per sequence and period: the arm's letter and how many units of how many were analysed."""
    for visit in found.visits:
        if visit.sequence >= rows:
            continue
        lost = visit.analysed < visit.randomised
        corner = (visit.period + 0.03, visit.sequence + 0.06)
        axes.add_patch(Rectangle(corner, 0.94, 0.88, facecolor=PACKS[4] if lost else PAPER, edgecolor=RULE))
        text = f"{letters[visit.arm]}  {visit.analysed}/{visit.randomised}"
        inside(axes, (visit.period + 0.5, visit.sequence + 0.5), text, fontsize=LETTER_SIZE, color=INK)
    bare(axes)
    said = "sequence" if rows == found.sequences else f"sequence (first {rows} of {found.sequences})"
    axes.set(xlim=(0, found.periods), ylim=(rows, 0), xlabel="period", ylabel=said)
    axes.set_xticks([place + 0.5 for place in range(found.periods)], [str(place + 1) for place in range(found.periods)])
    axes.set_yticks([place + 0.5 for place in range(rows)], [str(place + 1) for place in range(rows)])
    named = ", ".join(f"{mark} {arm.replace('_', ' ')}" for arm, mark in letters.items())
    axes.set_title(f"units analysed / randomised; {named}", fontsize=8, color=MUTED)


def page(found: Consort) -> str:
    """Return the page as Markdown: checklist, flow by sequence and period, audit of the executed order."""
    lines = ["# Checklist of a randomised crossover", ""]
    lines += ["Filled by machine from the records of this run. Items after Dwan et al. 2019 (BMJ 366:l4378).", ""]
    lines += ["| item | what | stated | where |", "|---|---|---|---|"]
    lines += [f"| {item.number} | {item.topic} | {_cell(item.stated)} | {item.source} |" for item in found.items]
    lines += ["", "## Flow of units", "", f"![Flow of units](figures/{PICTURE}.png)", ""]
    lines += [
        "| sequence | period | arm | randomised | run | analysed | excluded |",
        "|---:|---:|---|---:|---:|---:|---:|",
    ]
    lines += [
        f"| {visit.sequence + 1} | {visit.period + 1} | {visit.arm} | {visit.randomised} | {visit.run} "
        f"| {visit.analysed} | {visit.excluded} |"
        for visit in found.flow.visits
    ]
    lines += ["", "## Order as executed", "", *_order(found.order)]
    return "\n".join(lines) + "\n"


def _order(order: Mapping[str, object]) -> list[str]:
    """Return the cross-tabs of the executed order: per factor and level, the lowest and highest count over arms."""
    departures, audits = order["departures"], order["audits"]
    moved = len(departures) if isinstance(departures, list) else 0
    lines = [f"{order['cells']} cells in {order['processes']} process(es); {moved} in another slot than planned.", ""]
    lines += ["| set | factor | level | lowest | highest | max - min | allowed |", "|---:|---|---|---:|---:|---:|---:|"]
    for number, rows in enumerate(audits if isinstance(audits, list) else [], start=1):
        for row in rows:
            allowed = "not judged" if row["allowed"] is None else row["allowed"]
            counts = f"{row['low']} | {row['high']} | {row['spread']} | {allowed}"
            lines.append(f"| {number} | {row['factor']} | {_cell(str(row['level']))} | {counts} |")
    return lines


def _cell(text: str) -> str:
    return " ".join(text.split()).replace("|", "\\|")


def write_consort(found: Consort, folder: Path) -> Path:
    """Write `consort.md` into a folder, beside the pictures of the report; return its path."""
    path = folder / PAGE
    path.write_text(page(found), encoding="utf-8")
    return path
