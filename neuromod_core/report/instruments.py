"""The page and the pictures of instrument cards: what every scale is worth on one model."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import to_hex
from matplotlib.figure import Figure

from neuromod_core.report.canvas import Plot, bare, drawing, inside, write_png
from neuromod_core.report.palette import MUTED, PACKS, RULE, text_on
from neuromod_core.report.plots.heat import PALETTE
from neuromod_core.report.wording import MISSING, signed
from neuromod_core.trial.scale_card import NEEDED, Fact, ScaleCard

GOOD, POOR = PACKS[0], PACKS[1]
RELIABILITY = ("alpha", "omega", "split half", "wordings", "mean of wordings", "retest")
CHANGES = ("alpha of", "seeds")
COLUMNS = ("alpha", "omega", "split half", "wordings", "convergent r", "discriminant r", "retest", "acquiescence")
LEAST_G = 0.8


def _dots(axes: Axes, facts: Sequence[Fact], low: float) -> None:
    """Draw estimates with their intervals, one row each; what is missing says so."""
    for row, fact in enumerate(facts):
        found = fact.found
        if found is None:
            axes.text(0.02, row, MISSING, va="center", fontsize=8, color=MUTED, transform=axes.get_yaxis_transform())
            continue
        colour = GOOD if found.estimate >= NEEDED else POOR
        if found.ci is not None:
            axes.plot(np.clip([found.ci.low, found.ci.high], low, 1), [row, row], color=colour, linewidth=2, alpha=0.5)
        axes.plot(max(found.estimate, low), row, "o" if found.estimate >= low else "<", color=colour, markersize=7)
    axes.axvline(NEEDED, color=MUTED, linewidth=0.9, linestyle="--", zorder=0)
    axes.axvline(0, color=RULE, linewidth=0.9, zorder=0)
    axes.set(xlim=(low, 1.03), ylim=(len(facts) - 0.5, -0.5))
    axes.set_yticks(range(len(facts)), [fact.name for fact in facts])
    axes.grid(axis="x")
    axes.tick_params(length=0)
    axes.spines["left"].set_visible(False)


def _item_rows(axes: Axes, card: ScaleCard) -> None:
    """Draw the correlation of every item with the rest of its scale."""
    names = [item.item.removeprefix(f"{card.scale}_") for item in card.items]
    values = [item.r for item in card.items]
    shades = [MUTED if value is None else (GOOD if value > 0 else POOR) for value in values]
    axes.barh(range(len(names)), [value or 0 for value in values], color=shades, height=0.65)
    axes.axvline(0, color=MUTED, linewidth=0.8)
    size = 8 if len(names) <= 26 else 5
    axes.set_yticks(
        range(len(names)), [f"{name}  {item.subscale}" for name, item in zip(names, card.items, strict=True)]
    )
    axes.tick_params(length=0)
    axes.tick_params(axis="y", labelsize=size)
    axes.set(ylim=(len(names) - 0.5, -0.5), xlabel="r with the other items", title="Items")
    axes.spines["left"].set_visible(False)
    axes.grid(axis="x")


def _other_scales(axes: Axes, card: ScaleCard) -> None:
    """Draw how this scale agrees with itself in other words, and how with other scales."""
    own = card.value("convergent r")
    rows = [*([] if own is None else [("itself", own)]), *sorted(card.others.items(), key=lambda pair: -abs(pair[1]))]
    axes.barh(
        range(len(rows)),
        [value for _, value in rows],
        color=[GOOD if name == "itself" else "#9aa3ad" for name, _ in rows],
        height=0.65,
    )
    axes.axvline(0, color=MUTED, linewidth=0.8)
    axes.set_yticks(range(len(rows)), [name for name, _ in rows])
    axes.set(ylim=(len(rows) - 0.5, -0.5), xlim=(-1, 1), xlabel="r, other wording", title="Convergent and discriminant")
    axes.tick_params(length=0)
    axes.spines["left"].set_visible(False)
    axes.grid(axis="x")


def card_plot(card: ScaleCard) -> Plot:
    """Draw one card: reliability, items, and agreement with itself and with other scales."""
    with drawing(card.scale):
        figure = Figure(figsize=(11, 3.9), layout="constrained")
        left, centre, right = figure.subplots(1, 3, width_ratios=(1.25, 1, 1))
        wanted = [fact for fact in card.facts if fact.name in RELIABILITY or fact.name.startswith(CHANGES)]
        _dots(left, wanted, -0.5)
        left.set(xlabel=f"reliability (dashed: {NEEDED})", title=f"{card.scale}: {card.units} contexts")
        _item_rows(centre, card)
        _other_scales(right, card)
        figure.suptitle(_verdict(card), x=0.01, ha="left", fontsize=9, color=MUTED)
    return Plot(card.scale, f"Instrument card of {card.scale} on {card.model}: {_verdict(card)}", figure)


def _verdict(card: ScaleCard) -> str:
    """Return what the card comes to, in a line."""
    groups = card.fact("known groups").found
    told = "no instructed state" if groups is None else f"told to be in its state: {signed(groups.estimate)} nats"
    g = None if groups is None else groups.as_row()["g_z"]
    size = f" (g_z = {g:.2f})" if isinstance(g, float) else ""
    style = card.fact("acquiescence")
    yes = "by options not readable" if style.found is None else f"acquiescence {signed(style.found.estimate)} levels"
    return f"{card.model}; {told}{size}; {yes}"


def overview(cards: Sequence[ScaleCard]) -> Plot:
    """Draw alpha, agreement of wordings and the known-groups effect of all scales."""
    with drawing("instruments"):
        figure = Figure(figsize=(11, 1.6 + 0.36 * len(cards)), layout="constrained")
        first, second, third = figure.subplots(1, 3)
        for axes, name, title in (
            (first, "alpha", "Do its items agree? (alpha)"),
            (second, "wordings", "Does another wording give it again? (ICC)"),
        ):
            facts = [Fact(card.scale, "", card.fact(name).found) for card in cards]
            _dots(axes, facts, -0.5)
            axes.set(title=title, xlabel=f"dashed: {NEEDED}")
        second.set_yticklabels([])
        for row, card in enumerate(cards):
            found = card.fact("known groups").found
            g = None if found is None else found.as_row()["g_z"]
            if isinstance(g, float):
                third.plot(g, row, "o", color=GOOD if g >= LEAST_G else POOR, markersize=7)
            else:
                third.text(0.02, row, "no state is written", va="center", fontsize=8, color=MUTED)
        third.axvline(LEAST_G, color=MUTED, linewidth=0.9, linestyle="--", zorder=0)
        third.axvline(0, color=RULE, linewidth=0.9, zorder=0)
        third.set_yticks(range(len(cards)), [""] * len(cards))
        third.set(ylim=(len(cards) - 0.5, -0.5), xlabel=f"g_z (dashed: {LEAST_G})")
        third.set_title("Does it move when told to?")
        third.grid(axis="x")
        third.tick_params(length=0)
        third.spines["left"].set_visible(False)
    good = sum((card.value("alpha") or 0) >= NEEDED for card in cards)
    return Plot("instruments", f"{good} of {len(cards)} scales have alpha of {NEEDED} or more over contexts", figure)


def matrix(cards: Sequence[ScaleCard]) -> Plot:
    """Draw the convergent (diagonal) and discriminant correlations of all scales."""
    names = [card.scale for card in cards]
    with drawing("instruments-matrix"):
        figure = Figure(figsize=(8, 1.8 + 0.45 * len(names)), layout="constrained")
        axes = figure.add_subplot()
        table = np.array([[_crossed(card, name) for name in names] for card in cards])
        axes.imshow(np.nan_to_num(table), cmap=PALETTE, vmin=-1, vmax=1, aspect="auto")
        for row, column in np.ndindex(*table.shape):
            value = float(table[row, column])
            text = "one wording" if np.isnan(value) else signed(value)
            shade = to_hex(PALETTE(0.5 if np.isnan(value) else value / 2 + 0.5))
            size = 6.0 if np.isnan(value) else (9.0 if row == column else 8.0)
            inside(axes, (column, row), text, fontsize=size, color=text_on(shade))
        axes.set_xticks(range(len(names)), names, rotation=35, ha="right")
        axes.set_yticks(range(len(names)), names)
        axes.set_title("r over contexts between scales, each in another wording; diagonal: a scale with itself")
        bare(axes)
    return Plot("instruments-matrix", "Convergent and discriminant correlations of all scales", figure)


def _crossed(card: ScaleCard, name: str) -> float:
    if name != card.scale:
        return card.others[name]
    own = card.value("convergent r")
    return float("nan") if own is None else own


def _cell(fact: Fact) -> str:
    """Return an estimate with its interval as a cell of a table."""
    if fact.found is None:
        return MISSING
    ci = fact.found.ci
    return f"{fact.found.estimate:.2f}" + ("" if ci is None else f" [{ci.low:.2f}, {ci.high:.2f}]")


HEAD = """# Instrument cards

Written by `neuromod instruments card --all --document docs`; do not edit by hand.

Measured on {model}, statement reading (log-likelihood of the keyed sentence less that of its antonym, nats), undosed,
over {units} everyday contexts. A unit is a context, so every number is about contexts under this one model and none
is about models or people. The scales are study-specific indices without norms.

![Reliability and known-groups effect of every scale](pictures/instruments.png)

| scale | items | {columns} | known groups, nats | g_z |
|---|---|{rule}---|---|
"""

TAIL = """
**alpha, omega, split half**: do the items of the main wording rise together over contexts? Omega needs more contexts
than items. **wordings**: ICC(3,1) of one wording for another. **convergent r**: the two wordings that are least
alike. **discriminant r**: the other scale it is most like, each in another wording. **retest**: ICC(2,1) of a second
reading in another batch and another order; the reading draws nothing, so it tests the engine. **acquiescence**: by
options, how far keyed and antonym are affirmed alike, in levels above the middle; missing where the model does not
answer by options. **known groups**: contrast when told to be in the scale's state less the contrast undosed; g_z of
at least {least} is what a study's gate asks.

![Convergent and discriminant correlations](pictures/instruments-matrix.png)

A scale may be read by itself where its diagonal exceeds every other entry of its row (Campbell & Fiske 1959). That
holds for {discriminating}. Where it does not, contexts move both scales alike, and only a contrast of a target with
its foils, as studies make it, says something about one of them.

## Reliability of change

Of contrasts under a pack, or in the instructed state, less the undosed contrast of the same context: alpha over
items, and ICC(2,1) over seeds where the pack draws random numbers while it reads.

| scale | {changes} |
|---|{change_rule}
"""

OWN = """
## Can they be fooled?

`neuromod run study=assay` gives all eight scales under three packs that can mean nothing, under a dreamlike and a
drowsy state in words, and under a plain day in words. Family C1 of its report says which arm raises which scale beyond
its foils; family C2, the positive control, whether a told state is seen on its own scale.

![Which arm raises which scale](pictures/assay.png)

## A scale of your own

`neuromod instruments import FILE` reads a YAML file in the form of `datasets/instruments`, or a CSV file with the
columns `id, subscale, keyed, antonym` (and `keyed_2, antonym_2, ...` for further wordings); `inspect:FILE.jsonl`
reads samples of inspect_ai, and `lm-eval:TASK.yaml` a task of the lm-evaluation-harness with its data file. A wrong
file is one line that says where. `neuromod instruments card` takes the same words in place of a name.

## Detection

`neuromod detect RUN` asks whether the scores of a closed study tell a dosed cell from its sham and matched placebos: a
ridge logistic regression, judged on packs and contexts that it did not see, with the area under the curve, its p by
refits, and the calibration of its probabilities. Several runs of at least three doses give a model of the dose. A study
of fewer than three dosed arms or eight contexts gets the reason and no model. `--legacy` adds the hand-set weights of
earlier work, for comparison only: with every item answered in the middle they call every scale drugged.
"""


def page(cards: Sequence[ScaleCard], title: str) -> str:
    """Return the page in Markdown."""
    text = HEAD.format(model=title, units=cards[0].units, columns=" | ".join(COLUMNS), rule="---|" * len(COLUMNS))
    for card in cards:
        groups = card.fact("known groups")
        g = None if groups.found is None else groups.found.as_row()["g_z"]
        cells = [_cell(card.fact(name)) for name in COLUMNS]
        size = f"{g:.2f}" if isinstance(g, float) else MISSING
        text += f"| `{card.scale}` | {len(card.items)} | {' | '.join(cells)} | {_cell(groups)} | {size} |\n"
    changes = [fact.name for fact in cards[0].facts if fact.name.startswith(CHANGES)]
    good = [f"`{card.scale}`" for card in cards if discriminates(card)]
    text += TAIL.format(
        least=LEAST_G,
        discriminating=", ".join(good) or "none of them",
        changes=" | ".join(changes),
        change_rule="---|" * len(changes),
    )
    for card in cards:
        text += f"| `{card.scale}` | {' | '.join(_cell(card.fact(name)) for name in changes)} |\n"
    return text + _reasons(cards) + OWN


def discriminates(card: ScaleCard) -> bool:
    """Return whether a scale agrees more with itself in other words than with any other scale."""
    own = card.value("convergent r")
    return own is not None and all(own > abs(value) for value in card.others.values())


def _reasons(cards: Sequence[ScaleCard]) -> str:
    """Return why values are missing, each reason once."""
    reasons: dict[str, list[str]] = {}
    for card in cards:
        for fact in card.facts:
            if fact.reason is not None:
                reasons.setdefault(f"{fact.name}: {fact.reason}", []).append(f"`{card.scale}`")
    lines = [f"- {reason} ({', '.join(names)})" for reason, names in sorted(reasons.items())]
    return "" if not lines else "\n## What is missing, and why\n\n" + "\n".join(lines) + "\n"


def write(cards: Sequence[ScaleCard], title: str, folder: Path) -> None:
    """Write instruments.md and its pictures into a folder of documentation."""
    (folder / "pictures").mkdir(parents=True, exist_ok=True)
    (folder / "instruments.md").write_text(page(cards, title), encoding="utf-8")
    for plot in (overview(cards), matrix(cards)):
        write_png(plot, folder / "pictures")
