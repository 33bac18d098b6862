"""The page and the pictures of an audit: what the analysis promises, and what simulated studies say of it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch

from neuromod_core.report.canvas import Plot, drawing, write_png
from neuromod_core.report.palette import BAND, INK, MUTED, PACKS, RULE
from neuromod_core.trial.audit import Audit
from neuromod_core.trial.checks import LEVEL, SIZE, Check, Line
from neuromod_core.trial.simulate import POPULATIONS

SHOWN = 0.2
"""Largest p of the curves: decisions are made at .05."""

COLUMNS = 4
STYLES = ("-", "--", ":")
PARTS = {
    "size": "Size: rejections at level .05 at the edge of the null hypothesis",
    "coverage": "Coverage of 95 % intervals",
    "at most": "Errors that may not exceed .05",
    "power": "Power against the closed form",
    "strain": "Where tests strain: an arm that sinks into a floor, a variance that is estimated as zero",
    "exact": "What may not differ at all",
    "caught": "Analyses that are wrong, and have to stand out",
}
HEAD = "| check | found | Monte-Carlo error | allowed | studies | |\n|---|---|---|---|---|---|\n"


def curves(audit: Audit) -> Plot:
    """Draw the distribution function of the p-values of every test at its null, against the diagonal."""
    panels = list(_panels(audit.lines))
    deep = -(-(len(panels) + 1) // COLUMNS)
    with drawing("audit-pvalues"):
        figure = Figure(figsize=(10, 2.8 * deep), layout="constrained")
        grid = figure.subplots(deep, COLUMNS, squeeze=False).ravel()
        for axes, (title, lines) in zip(grid, panels, strict=False):
            _curves(axes, title, lines)
        for axes in grid[: len(panels) : COLUMNS]:
            axes.set_ylabel("share of studies at or below p")
        for axes in grid[len(panels) :]:
            axes.set_axis_off()
        grid[len(panels)].legend(handles=_key(), loc="center left", fontsize=8)
    alt = f"{sum(len(lines) for _, lines in panels)} distribution functions of p-values under their null hypotheses."
    return Plot("audit-pvalues", alt, figure)


def _panels(lines: Sequence[Line]) -> Iterator[tuple[str, list[Line]]]:
    """Yield the groups of lines that share a panel: those with one line a population, and the others together."""
    with_p = [line for line in lines if line.pvalues is not None and line.check.part == "size"]
    groups: dict[str, list[Line]] = {}
    for line in with_p:
        group, _, rest = line.check.name.partition(": ")
        if rest not in POPULATIONS or group.startswith(("max-T", "re-random")):
            group = "mixed models" if "mixed model" in group else "other tests"
        groups.setdefault(group, []).append(line)
    yield from groups.items()


def _curves(axes: Axes, title: str, lines: Sequence[Line]) -> None:
    level = np.linspace(0, SHOWN, 201)
    least = min(line.check.n for line in lines)
    slack = 3 * np.sqrt(level * (1 - level) / least)
    axes.fill_between(level, level - slack, level + slack, color=BAND, linewidth=0, zorder=0)
    axes.plot(level, level, color=MUTED, linewidth=0.8, zorder=1)
    axes.plot([LEVEL, LEVEL], SIZE, color=INK, linewidth=2.2, solid_capstyle="butt", zorder=4)
    for number, line in enumerate(lines):
        colour, style = _look(_index(line, number))
        p = np.sort(np.asarray(line.pvalues))
        share = np.searchsorted(p, level, side="right") / p.size
        axes.plot(level, share, style, color=colour, linewidth=1.1, zorder=2)
    axes.set(xlim=(0, SHOWN), ylim=(0, SHOWN), aspect="equal", xlabel="p")
    axes.set_title(_wrapped(title), fontsize=8)
    axes.set_xticks([0, 0.05, 0.1, 0.2], ["0", ".05", ".1", ".2"])
    axes.set_yticks([0, 0.05, 0.1, 0.2], ["0", ".05", ".1", ".2"])
    if not any(line.check.name.partition(": ")[2] in POPULATIONS for line in lines) or title == "other tests":
        names = [Line2D([], [], color=_look(n)[0], ls=_look(n)[1], label=_short(one)) for n, one in enumerate(lines)]
        axes.legend(handles=names, fontsize=5.2, loc="upper left", handlelength=1.4, labelspacing=0.2)


def _index(line: Line, number: int) -> int:
    """Return the number of a line's population, or its own where it has none of a panel that compares them."""
    group, _, rest = line.check.name.partition(": ")
    alone = rest not in POPULATIONS or group.startswith(("max-T", "re-random"))
    return number if alone else list(POPULATIONS).index(rest)


def _look(index: int) -> tuple[str, str]:
    colours = (*PACKS, INK)
    return colours[index % len(colours)], STYLES[index // len(colours)]


def _short(line: Line) -> str:
    name, _, rest = line.check.name.partition(": ")
    shorter = name.replace(" mixed model", "").replace("max-T, all six arms at the minimum", "max-T")
    shorter = shorter.replace("non-inferiority at a margin of ", "margin ").replace("re-randomised ", "")
    return f"{shorter}: {rest.partition(',')[0]}" if rest else shorter


def _wrapped(title: str) -> str:
    """Return a title of two lines, so that all panels of a row have one height."""
    first, _, rest = title.partition(", ")
    return f"{first}\n{rest or ' '}"


def _key() -> list[Line2D | Patch]:
    marks = [Line2D([], [], color=_look(n)[0], ls=_look(n)[1], label=name) for n, name in enumerate(POPULATIONS)]
    band = Patch(facecolor=BAND, label="three Monte-Carlo errors")
    bar = Line2D([], [], color=INK, linewidth=2.2, label="allowed at .05: .035 to .065")
    return [*marks, band, bar]


def marks(audit: Audit) -> Plot:
    """Draw every coverage, power and bounded error as a point in the range it has to lie in."""
    parts = [part for part in ("coverage", "power", "at most") if any(one.part == part for one in audit.checks)]
    found = [[one for one in audit.checks if one.part == part] for part in parts]
    heights = [len(each) + 1.5 for each in found]
    with drawing("audit-checks"):
        figure = Figure(figsize=(10, 0.6 + 0.27 * sum(heights)), layout="constrained")
        for axes, part, checks in zip(
            figure.subplots(len(parts), 1, height_ratios=heights, squeeze=False).ravel(), parts, found, strict=True
        ):
            _points(axes, PARTS[part], checks)
    alt = f"{sum(map(len, found))} coverages, powers and error rates, each within or outside its allowed range."
    return Plot("audit-checks", alt, figure)


def _points(axes: Axes, title: str, checks: Sequence[Check]) -> None:
    for row, check in enumerate(checks):
        colour = PACKS[0] if check.passed else PACKS[1]
        axes.barh(row, check.high - check.low, left=check.low, height=0.72, color=BAND, linewidth=0, zorder=0)
        reach = 2 * check.error
        axes.plot([check.value - reach, check.value + reach], [row, row], color=colour, linewidth=1.6)
        axes.plot(check.value, row, "o" if check.passed else "X", color=colour, markersize=5.5)
    axes.set_yticks(range(len(checks)), [check.name for check in checks], fontsize=8)
    axes.set_ylim(len(checks) - 0.4, -0.6)
    reached = [edge for one in checks for edge in (one.value - 2 * one.error, one.value + 2 * one.error)]
    narrow = checks[0].part == "coverage"
    match checks[0].part:
        case "coverage":
            axes.set_xlim(min(0.92, *reached), 1.0)
        case "power":
            axes.set_xlim(max(min(reached) - 0.1, 0.0), min(max(reached) + 0.1, 1.0))
        case _:
            axes.set_xlim(0.0, max(0.1, *reached))
    axes.set_title(f"{title}; shaded: allowed; line: two Monte-Carlo errors")
    axes.tick_params(axis="y", length=0)
    axes.grid(axis="x")
    axes.spines["left"].set_visible(False)
    axes.axvline(LEVEL if checks[0].part == "at most" else 1 - LEVEL if narrow else 0, color=RULE, linewidth=1.0)


# ----------------------------------------------------------------------------------------------------------------- page


def page(audit: Audit) -> str:
    """Return docs/audit.md."""
    settings, failed = audit.settings, audit.failed
    verdict = "all pass" if not failed else f"**{len(failed)} fail**"
    strict = settings.studies >= 1000
    sections = [
        "# Audit of the analysis",
        "Written by `neuromod audit --document docs`; do not edit by hand.",
        f"{len(audit.checks)} checks of the functions that decide a registered study: {verdict}. "
        f"{settings.studies} simulated studies a line, {settings.trials} whole studies through the primary analysis in "
        f"each scenario, {settings.fits} fits of each linear mixed model and {settings.links} of each other one; "
        f"{settings.draws} random sign flips or deals a test (all of them up to 16 units) and {settings.resamples} "
        f"resamples an interval, where a study takes 100 000 and 9 999; seed {settings.seed}."
        + ("" if strict else " **A short audit: the limits are wider than those of a full one.**"),
        "Limits are fixed before anything is drawn: size .035 to .065 at level .05, coverage at least .93, power "
        "within .03 of the closed form, bounded errors at most two Monte-Carlo errors above their level. A part with a "
        "line outside is drawn once more, afresh and four times as large, and that draw stands.",
        _populations(),
        "![p-values under their null hypotheses](pictures/audit-pvalues.png)",
        "![Coverage, power, bounded errors](pictures/audit-checks.png)",
        *_sections(audit.checks),
    ]
    return "\n\n".join(sections) + "\n"


def _populations() -> str:
    rows = [
        "Scores are y = b + r (s + e) + effect, with b by unit (SD 1), s by unit and arm and e by unit, arm and scale "
        "(SD .5 each), limited and rounded where the population says so; the first arm alone has another spread r. "
        "Where limits or steps leave no closed form the true mean is that of a million units.",
        "| population | units | SD of s | skewness | spread r | limits | step |\n|---|---|---|---|---|---|---|",
    ]
    for name, one in POPULATIONS.items():
        limits = f"{one.floor:g} to {one.ceiling:g}".replace("-inf", "none").replace("inf", "none")
        limits = "none" if limits == "none to none" else limits
        cells = [name, one.units, f"{one.slope_sd:g}", f"{one.skew:g}", f"{one.ratio:g}", limits, f"{one.step:g}"]
        rows.append("| " + " | ".join(map(str, cells)) + " |")
    return "\n\n".join(rows[:2]) + "\n" + "\n".join(rows[2:])


def twins_page(model: str, checks: Sequence[Check]) -> str:
    """Return docs/audit-MODEL.md: what A/A studies on a real model gave."""
    failed = [check for check in checks if not check.passed]
    said = f"**{len(failed)} fail**" if failed else "all pass"
    sections = [
        f"# One pack under two names on {model}",
        f"Written by `neuromod audit --model {model} --document docs`; do not edit by hand.",
        f"{len(checks)} checks: {said}. A small crossover gives every context the same pack twice, as two arms with "
        "codes, orders and slots of their own, through the administration and the analysis of a study. Arms of a study "
        "share their unit's randomness: the twins must then agree in every number and every token. When each twin "
        "draws for itself, only luck is left between them, and p-values may fall below .05 no more often than luck has "
        "it: five times in a hundred, plus two Monte-Carlo errors.",
        *_sections(checks),
    ]
    return "\n\n".join(sections) + "\n"


def _sections(checks: Sequence[Check]) -> list[str]:
    found = {part: [check for check in checks if check.part == part] for part in PARTS}
    return [_section(part, mine) for part, mine in found.items() if mine]


def _section(part: str, checks: Sequence[Check]) -> str:
    rows = "\n".join(
        f"| {one.name} | {one.value:.3f} | {one.error:.4f} | {one.low:.3f} to {one.high:.3f} | {one.n} | "
        f"{'' if one.passed else '**outside**'} |"
        for one in checks
    )
    return f"## {PARTS[part]}\n\n{HEAD}{rows}"


def write(audit: Audit, folder: Path) -> None:
    """Write audit.md and its pictures into a folder of documentation."""
    (folder / "pictures").mkdir(parents=True, exist_ok=True)
    (folder / "audit.md").write_text(page(audit), encoding="utf-8")
    for plot in (curves(audit), marks(audit)):
        write_png(plot, folder / "pictures")
