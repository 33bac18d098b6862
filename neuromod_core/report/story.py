"""The page and the pictures of the story emotion test: how well the reader reads, and what packs do to stories."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import to_hex
from matplotlib.figure import Figure

from neuromod_core.affect.plutchik import LABELS
from neuromod_core.affect.reliability import LEAST_AUC, Reliability
from neuromod_core.affect.story import STEPS
from neuromod_core.kernel.errors import DataError
from neuromod_core.kernel.types import Json, plain
from neuromod_core.report.canvas import Plot, bare, drawing, inside, write_png
from neuromod_core.report.palette import INK, MUTED, PACKS, text_on
from neuromod_core.report.plots.heat import PALETTE
from neuromod_core.report.wording import MISSING, signed
from neuromod_core.trial.scale_card import correlation
from neuromod_core.trial.story_test import PLAIN, Readings, Shift

SIGNS = {1: "rises", -1: "falls", None: ""}
ACROSS = 3
Judged = Mapping[str, tuple[Reliability, ...]]


@dataclass(frozen=True)
class Facts:
    """What a page says of a test besides its numbers."""

    model: str
    packs: tuple[str, ...]
    against: str
    samples: int
    tokens: int
    splits: tuple[str, ...]
    texts: int
    fingerprint: str
    held_out: Judged
    stories: Judged


def row(shift: Shift) -> dict[str, object]:
    """Return one line of the table of shifts."""
    found = shift.found
    ci = None if found is None else found.ci
    return {
        "pack": shift.pack,
        "emotion": shift.emotion,
        "predicted": SIGNS[shift.predicted],
        "shift": "" if found is None else signed(found.estimate, 3),
        "95 % CI": "" if ci is None else f"{signed(ci.low, 3)} to {signed(ci.high, 3)}",
        "g_z": "" if shift.g_z is None else signed(shift.g_z),
        "q": "" if shift.p_adj is None else f"{shift.p_adj:.3f}",
        "pairs": "" if found is None else found.n,
        "state": shift.state,
    }


def reliability_row(comments: Reliability, written: Reliability) -> dict[str, object]:
    """Return how well a reader tells one emotion, on held-out comments and on story sentences."""
    return {
        "emotion": comments.dimension,
        "AUC, held-out comments": _area(comments),
        "average precision": "" if comments.precision is None else f"{comments.precision:.2f}",
        "base rate": f"{comments.base:.3f}",
        "AUC, story sentences": _area(written),
        "reported": "yes" if comments.told else f"no: {comments.reason}",
    }


def _area(found: Reliability) -> str:
    if found.area is None or found.area.ci is None:
        return MISSING
    return f"{found.area.estimate:.2f} [{found.area.ci.low:.2f}, {found.area.ci.high:.2f}]"


def as_json(
    readings: Readings, baseline: Readings, shifts: Sequence[Shift], held_out: Judged, stories: Judged
) -> dict[str, Json]:
    """Return a whole test as JSON types: stories with their readings by sentence, tests, reliability."""
    told = [
        {
            **{key: getattr(story, key) for key in ("pack", "opener", "sample", "text", "tokens")},
            "sentences": [] if one is None else list(one.sentences),
            "readings": [] if one is None else [[round(float(x), 6) for x in line] for line in one.readings],
        }
        for story, one in zip(readings.stories, readings.courses, strict=True)
    ]
    judged = {
        f"{reader}, {where}": [line.as_row() for line in lines]
        for where, table in (("held-out comments", held_out), ("story sentences", stories))
        for reader, lines in table.items()
    }
    return {
        "reader": readings.reader,
        "emotions": list(readings.dimensions),
        "reported": list(readings.told),
        "baseline": baseline.reader,
        "tests": plain([shift.as_row() for shift in shifts]),
        "reliability": plain(judged),
        "agreement": plain(agreement(readings, baseline)),
        "stories": plain(told),
    }


def agreement(readings: Readings, baseline: Readings) -> dict[str, float | None]:
    """Return r over stories between the two readers, by emotion; None where one of them says the same of all."""
    packs = list(dict.fromkeys(story.pack for story in readings.stories))
    found: dict[str, float | None] = {}
    for name in baseline.told:
        both = [
            np.concatenate([one.column(pack, name, lambda each: each.mean) for pack in packs])
            for one in (readings, baseline)
        ]
        there = np.isfinite(both[0]) & np.isfinite(both[1])
        try:
            found[name] = correlation(both[0][there], both[1][there]).estimate
        except DataError:
            found[name] = None
    return found


def _course(axes: Axes, paths: np.ndarray[tuple[int, ...], np.dtype[np.float64]], colour: str, marker: str) -> None:
    """Draw the mean course of stories, (stories, steps), with its 95 % interval over stories."""
    middle, clock = paths.mean(axis=0), np.arange(STEPS)
    half = 1.96 * paths.std(axis=0, ddof=1) / np.sqrt(len(paths))
    axes.fill_between(clock, middle - half, middle + half, color=colour, alpha=0.13, linewidth=0)
    axes.plot(clock, middle, color=colour, marker=marker, markersize=4, linewidth=1.6)


def courses(readings: Readings, packs: Sequence[str], against: str) -> Plot:
    """Draw, per emotion, the course of stories under each pack and under what they are compared with."""
    names = [against, *(pack for pack in packs if pack != against)]
    colours = dict(zip(names, (INK, *PACKS), strict=False))
    deep = -(-len(readings.told) // ACROSS)
    with drawing("story"):
        figure = Figure(figsize=(10, 0.8 + 2.3 * deep), layout="constrained")
        grid = figure.subplots(deep, ACROSS, squeeze=False).ravel()
        for axes, emotion in zip(grid, readings.told, strict=False):
            place = readings.dimensions.index(emotion)
            for number, name in enumerate(names):
                paths = readings.paths(name)
                if len(paths) > 1:
                    _course(axes, paths[:, :, place], colours[name], "os^Dv"[number % 5])
            axes.set_title(emotion)
            axes.set_xticks([0, STEPS - 1], ["first sentence", "last"])
            axes.set_ylim(bottom=0)
            axes.grid(axis="y")
        for axes in grid[len(readings.told) :]:
            axes.set_axis_off()
        handles = [grid[0].plot([], [], color=colours[name], marker="os^Dv"[n % 5])[0] for n, name in enumerate(names)]
        figure.legend(handles, names, loc="outside upper left", ncols=len(names))
        figure.supylabel("probability of the emotion", fontsize=9)
    return Plot("story", f"Course of {', '.join(readings.told)} in stories under {', '.join(names)}", figure)


def shift_plot(shifts: Sequence[Shift]) -> Plot:
    """Draw every shift with its interval, predictions marked by an arrow in the predicted direction."""
    shown = [shift for shift in shifts if shift.found is not None]
    packs = list(dict.fromkeys(shift.pack for shift in shifts))
    emotions = list(dict.fromkeys(shift.emotion for shift in shown))
    with drawing("story-shifts"):
        figure = Figure(figsize=(10, 1.4 + 0.3 * max(len(emotions), 3)), layout="constrained")
        grid = figure.subplots(1, max(len(packs), 1), squeeze=False, sharex=True, sharey=True).ravel()
        for number, (axes, pack) in enumerate(zip(grid, packs, strict=False)):
            for shift in (one for one in shown if one.pack == pack and one.found is not None):
                _mark(axes, shift, emotions.index(shift.emotion), PACKS[number % len(PACKS)])
            axes.axvline(0, color=MUTED, linewidth=0.8)
            axes.set(title=pack, ylim=(len(emotions) - 0.5, -0.5), xlabel="shift of probability")
            axes.set_yticks(range(len(emotions)), emotions)
            axes.tick_params(length=0)
            axes.grid(axis="x")
    return Plot("story-shifts", "Shift of each emotion under each pack, with predictions", figure)


def _mark(axes: Axes, shift: Shift, place: int, colour: str) -> None:
    """Draw one shift: filled where it is shown, an arrow where a sign was predicted."""
    found = shift.found
    if found is None:
        return
    if found.ci is not None:
        axes.plot([found.ci.low, found.ci.high], [place, place], color=colour, linewidth=2, alpha=0.5)
    face = colour if shift.state in ("as predicted", "shifted") else "none"
    axes.plot(found.estimate, place, "o", markeredgecolor=colour, markerfacecolor=face, markersize=6)
    if shift.predicted is not None:
        edge = 0.97 if shift.predicted > 0 else 0.03
        arrow = ">" if shift.predicted > 0 else "<"
        axes.plot(edge, place, arrow, color=MUTED, markersize=6, transform=axes.get_yaxis_transform())


def told_plot(told: Sequence[Shift]) -> Plot:
    """Draw the positive control: told emotions (rows) by what the reader sees (columns), g_z; a star where shown."""
    names = [one.pack for one in told if one.predicted is not None]
    emotions = [one.emotion for one in told if one.predicted is not None]
    columns = [*emotions, *dict.fromkeys(one.emotion for one in told if one.emotion not in emotions)]
    with drawing("story-control"):
        figure = Figure(figsize=(8, 1.4 + 0.4 * len(names)), layout="constrained")
        axes = figure.add_subplot()
        table = np.full((len(names), len(columns)), np.nan)
        for one in told:
            table[names.index(one.pack), columns.index(one.emotion)] = np.nan if one.g_z is None else one.g_z
        limit = float(np.nanmax(np.abs(table), initial=0.0)) or 1.0
        axes.imshow(table, cmap=PALETTE, vmin=-limit, vmax=limit, aspect="auto")
        for one in told:
            row, column = names.index(one.pack), columns.index(one.emotion)
            value, shown = float(np.nan_to_num(table[row, column])), one.state in SHOWN  # the ground of a missing cell
            shade = to_hex(PALETTE(value / limit / 2 + 0.5))
            text = MISSING if one.g_z is None else signed(one.g_z)
            inside(axes, (column, row), f"{text} *" if shown else text, fontsize=9, color=text_on(shade))
        axes.set_xticks(range(len(columns)), columns)
        axes.set_yticks(range(len(names)), names)
        axes.set_title(f"g_z of the shift against a writer {PLAIN}; *: q of at most .05", fontsize=9)
        bare(axes)
    seen = ", ".join(one.emotion for one in told if one.predicted is not None and one.state in SHOWN) or "none"
    return Plot(
        "story-control", f"Told emotions against what the reader sees; seen on their own reading: {seen}", figure
    )


SHOWN = ("as predicted", "shifted")

HEAD = """# Story emotion test

Written by `neuromod story --pack ... --document docs`; do not edit by hand.

{count} stories by {model}:
{samples} from each of six openers (`datasets/stories/openers.yaml`) under {packs} and under {against}, up to {tokens}
tokens. Stories of one opener and sample share their randomness, so they differ by the pack. A pair is one opener and
sample; the openers are fixed, so what is found holds for stories from these openers.

![Course of the emotions](pictures/story.png)

## Can the reader read?

The reader is a logistic regression per emotion on character n-grams, trained on {texts} comments of GoEmotions
({splits}); fingerprint `{fingerprint}`. Labels that count:
{labels}.

It is judged on comments it was not trained on, and on sentences written for this project to show one emotion each
(`datasets/stories/sentences.jsonl`, 8 an emotion). Stories are not comments: the column of story sentences says what to
expect here, as widely as eight sentences allow. An emotion is reported where the lower limit of its area under the
curve on held-out comments is at least {least}.

"""

SHIFTS = """
![Shift of every emotion](pictures/story-shifts.png)

## What the packs do

Shift of the mean probability over the sentences of a story, pack less {against}. Predictions come from published
descriptions and are tested one-sided in their direction, all else two-sided; q is BH-adjusted within either family.
`intensity` is the mean of all reported emotions. Filled dots: q of at most .05; arrows: the predicted direction.

"""

CONTROL = """
## Is a told emotion seen?

The positive control: {samples} stories from each opener by a writer who is told what people in the story feel
(`datasets/stories/controls.yaml`), against as many by a writer who is told of nothing in particular. Seen on their own
reading: {seen} of {count}{named}. An emotion that is not seen here has no assay: that a pack does not move it says
nothing.

![Told emotions by what the reader sees](pictures/story-control.png)

"""

SECOND = """
## A second reader

Agreement over stories with the baseline, the share of words in Empath's lists of the same name:
{agreement}.
Empath itself tells the emotions of held-out comments with areas under the curve of {areas}: it is a baseline,
and a weak one. Any reader with a name, its dimensions and a method from texts to numbers
(`neuromod_core.affect.Reader`) can take its place beside the trained one.
"""


def _table(rows: Sequence[Mapping[str, object]]) -> str:
    head = list(rows[0])
    lines = [f"| {' | '.join(head)} |", "|" + "---|" * len(head)]
    return "\n".join([*lines, *(f"| {' | '.join(str(value) for value in line.values())} |" for line in rows)]) + "\n"


def _control(facts: Facts, told: Sequence[Shift]) -> str:
    """Return the section of the positive control; nothing where it was not asked for."""
    own = [one for one in told if one.predicted is not None]
    if not own:
        return ""
    seen = [one.emotion for one in own if one.state in SHOWN]
    named = f" ({', '.join(seen)})" if seen else ""
    text = CONTROL.format(samples=facts.samples, seen=len(seen), count=len(own), named=named)
    return text + _table([row(one) for one in own])


def page(
    facts: Facts, readings: Readings, baseline: Readings, shifts: Sequence[Shift], told: Sequence[Shift] = ()
) -> str:
    """Return the page in Markdown."""
    judged = facts.held_out[readings.reader]
    text = HEAD.format(
        count=sum(story.pack in {*facts.packs, facts.against} for story in readings.stories),
        model=facts.model,
        samples=facts.samples,
        packs=", ".join(f"`{pack}`" for pack in facts.packs),
        against=f"`{facts.against}`",
        tokens=facts.tokens,
        texts=facts.texts,
        splits=", ".join(facts.splits),
        fingerprint=facts.fingerprint[:12],
        labels=";\n".join(f"{name}: {', '.join(labels)}" for name, labels in LABELS.items()),
        least=LEAST_AUC,
    )
    pairs = zip(judged, facts.stories[readings.reader], strict=True)
    text += _table([reliability_row(comments, written) for comments, written in pairs])
    text += _control(facts, told)
    text += SHIFTS.format(against=f"`{facts.against}`") + _table([row(shift) for shift in shifts])
    reasons = dict.fromkeys(f"- {one.emotion}: {one.reason}" for one in shifts if one.reason is not None)
    text += "".join(["\nNot testable:\n\n", *(f"{line}\n" for line in reasons)] if reasons else [])
    agreed = agreement(readings, baseline)
    areas = [one.area.estimate for one in facts.held_out[baseline.reader] if one.area is not None]
    return text + SECOND.format(
        agreement=", ".join(f"{name} {MISSING if r is None else signed(r)}" for name, r in agreed.items()),
        areas=f"{min(areas):.2f} to {max(areas):.2f}",
    )


def write(
    facts: Facts,
    readings: Readings,
    baseline: Readings,
    shifts: Sequence[Shift],
    told: Sequence[Shift],
    folder: Path,
) -> None:
    """Write story.md and its pictures into a folder of documentation."""
    (folder / "pictures").mkdir(parents=True, exist_ok=True)
    (folder / "story.md").write_text(page(facts, readings, baseline, shifts, told), encoding="utf-8")
    control = [told_plot(told)] if told else []
    for plot in (courses(readings, facts.packs, facts.against), shift_plot(shifts), *control):
        write_png(plot, folder / "pictures")
