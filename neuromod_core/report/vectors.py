"""The page and the pictures of calibrated vectors: what each separates, what it causes, and how they overlap."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from matplotlib.axes import Axes
from matplotlib.colors import to_hex
from matplotlib.figure import Figure

from neuromod_core.calibrate.causal import SHAMS, Causal
from neuromod_core.calibrate.complete import Evidence
from neuromod_core.calibrate.leaks import Leaks
from neuromod_core.calibrate.vectors import LEAST_EXPLAINED, SHUFFLES, Card
from neuromod_core.calibrate.wording import Wording
from neuromod_core.report.canvas import Plot, bare, drawing, inside
from neuromod_core.report.palette import BAND, INK, MUTED, PACKS, RULE, text_on
from neuromod_core.report.plots.heat import PALETTE

VALID, FAILED = PACKS[0], PACKS[1]
COLUMNS = (
    "concept",
    "pairs",
    "layer",
    "d\u2032",
    "AUC",
    "AUC of word counts",
    "p, topics",
    "wrong way",
    "cosine",
    "first component",
    "dose of 1 nat",
    "causal shift",
    "best sham",
    "p, shams",
    "valid",
)


def colour(card: Card) -> str:
    """Return the colour of a vector: one for those packs may use, one for those refused."""
    return VALID if card.valid else FAILED


def _rows(axes: Axes, cards: Sequence[Card], label: str) -> None:
    axes.set_yticks(range(len(cards)), [card.concept for card in cards])
    axes.set_ylim(len(cards) - 0.5, -0.5)
    axes.axvline(0, color=MUTED, linewidth=0.8, zorder=1)
    axes.grid(axis="x")
    axes.tick_params(length=0)
    axes.spines["left"].set_visible(False)
    axes.set_xlabel(label)


def _separations(axes: Axes, cards: Sequence[Card]) -> None:
    for row, card in enumerate(cards):
        axes.barh(row, 2 * card.shuffled, left=-card.shuffled, height=0.7, color=BAND, zorder=0)
        axes.plot([-card.random, card.random], [row, row], color=RULE, linewidth=4, solid_capstyle="butt")
        axes.plot(card.separation, row, "o" if card.valid else "X", color=colour(card), markersize=7)
        legacy = card.others.get("legacy")
        if legacy:
            axes.plot(legacy[0], row, "d", color=MUTED, markersize=5)
    _rows(axes, cards, "d\u2032 on topics it was not made from")
    axes.set_title("Does it separate?")


def _causes(axes: Axes, cards: Sequence[Card]) -> None:
    for row, card in enumerate(cards):
        if card.causal is None or card.causal.shift is None:
            continue
        shams = np.array([*card.causal.random, *card.causal.shuffled])
        axes.plot(shams, np.full(len(shams), row), "|", color=MUTED, markersize=9, alpha=0.8)
        axes.plot(card.causal.shift, row, "o" if card.valid else "X", color=colour(card), markersize=7)
    _rows(axes, cards, "shift of log odds, nats a held-out pair")
    axes.set_yticklabels([])
    axes.set_title("Does it cause?")


def overview(cards: Sequence[Card]) -> Plot:
    """Draw, per concept, what its vector separates and causes beside what shams do."""
    with drawing("vectors"):
        figure = Figure(figsize=(10, 1.3 + 0.34 * len(cards)), layout="constrained")
        left, right = figure.subplots(1, 2)
        _separations(left, cards)
        _causes(right, cards)
        marks = [
            left.plot([], [], "o", color=VALID, label="vector")[0],
            left.plot([], [], "X", color=FAILED, label="vector that packs may not use")[0],
            left.plot([], [], "d", color=MUTED, label="published recipe")[0],
            left.barh(0, 0, color=BAND, label="95 % of label-shuffled"),
            left.plot([], [], color=RULE, linewidth=4, label="95 % of random")[0],
            left.plot([], [], "|", color=MUTED, markersize=9, label="one sham of the same KL")[0],
        ]
        figure.legend(handles=marks, loc="outside upper left", ncols=6, columnspacing=1.2)
    valid = sum(card.valid for card in cards)
    return Plot("vectors", f"{valid} of {len(cards)} vectors separate and move their concept beyond shams", figure)


def specificity(evidence: Evidence) -> Plot:
    """Draw how every vector (rows) separates the pairs of every set (columns)."""
    names = [card.concept for card in evidence.cards]
    table = evidence.specificity
    limit = float(np.abs(table).max())
    with drawing("specificity"):
        figure = Figure(figsize=(10, 2.2 + 0.4 * len(names)), layout="constrained")
        axes = figure.add_subplot()
        axes.imshow(table, cmap=PALETTE, vmin=-limit, vmax=limit, aspect="auto")
        for row, column in np.ndindex(*table.shape):
            shade = to_hex(PALETTE(float(table[row, column] / (2 * limit) + 0.5)))
            weight = 8.5 if row == column else 7.5
            inside(axes, (column, row), f"{table[row, column]:.1f}", fontsize=weight, color=text_on(shade))
        axes.set_xticks(range(len(names)), names, rotation=45, ha="right")
        axes.set_yticks(range(len(names)), names)
        axes.set_xlabel("pairs of")
        axes.set_ylabel("vector of")
        axes.set_title("d\u2032 of every vector on every set, each topic judged by the vector made without it")
        bare(axes)
    return Plot("specificity", "Separation of every set by every vector", figure)


def card_plot(card: Card, first: int) -> Plot:
    """Draw one vector: d' over layers, its methods, and its causal check. first: the first layer of the profile."""
    with drawing(f"vector-{card.concept}"):
        figure = Figure(figsize=(10, 2.9), layout="constrained")
        left, centre, right = figure.subplots(1, 3)
        left.plot(range(first, first + len(card.profile)), card.profile, color=INK, linewidth=1.4)
        left.plot(card.layer, card.profile[card.layer - first], "o", color=colour(card))
        left.axhline(card.shuffled, color=MUTED, linewidth=0.8, linestyle="--")
        left.set(xlabel="layer", ylabel="d\u2032, held-out topics", title=f"{card.concept}: layer {card.layer}")
        methods = {card.method: (card.separation, card.auc), **card.others}
        centre.barh(range(len(methods)), [value for value, _ in methods.values()], color=BAND, edgecolor=RULE)
        centre.set_yticks(range(len(methods)), [name.replace("_", " ") for name in methods])
        centre.invert_yaxis()
        centre.axvline(0, color=MUTED, linewidth=0.8)
        centre.set(xlabel="d\u2032 at this layer", title="methods")
        if card.causal is not None and card.causal.shift is not None:
            _strip(right, card)
        else:
            bare(right)
            inside(right, (0.5, 0.5), "causal check not made", fontsize=9, color=MUTED)
    return Plot(f"vector-{card.concept}", f"Evidence for the vector {card.concept}", figure)


def _strip(axes: Axes, card: Card) -> None:
    found = card.causal
    if found is None or found.shift is None:
        return
    for row, values in enumerate((found.random, found.shuffled, found.topics)):
        axes.plot(values, np.full(len(values), row), "|", color=MUTED, markersize=14)
    axes.plot(found.shift, 2, "o", color=colour(card), markersize=8)
    axes.set_yticks(range(3), ["random", "shuffled", "vector,\nby topic"])
    axes.set_ylim(2.6, -0.6)
    axes.axvline(0, color=MUTED, linewidth=0.8)
    axes.set(xlabel="nats a held-out pair", title=f"pushed at {found.relative or 0:.2f} of the residual norm")


def _line(card: Card, words: Wording) -> str:
    cells = [
        f"`{card.concept}`",
        str(card.pairs),
        str(card.layer),
        f"{card.separation:.2f}",
        f"{card.auc:.3f}",
        f"{words.words_auc:.3f}",
        f"{max(card.p_separation, card.p_auc):.4f}",
        f"{100 * card.wrong_way:.0f} %",
        f"{card.cosine:.2f}",
        f"{100 * card.explained:.0f} %",
        *_caused(card.causal),
        "yes" if card.valid else "**no**: " + "; ".join(card.failures),
    ]
    return f"| {' | '.join(cells)} |"


def _caused(found: Causal | None) -> list[str]:
    if found is None or found.relative is None or found.shift is None or found.pvalue is None:
        return ["\u2013"] * 4
    best = max((*found.random, *found.shuffled))
    return [f"{found.relative:.2f}", f"{found.shift:+.2f}", f"{best:+.2f}", f"{found.pvalue:.3f}"]


def page(model: str, evidence: Evidence, words: Mapping[str, Wording], shared: Leaks, templates: Path) -> str:
    """Return docs/vectors.md: every vector with its evidence, the methods, and what was refused."""
    cards = evidence.cards
    surroundings = Environment(loader=FileSystemLoader(templates), undefined=StrictUndefined, autoescape=False)
    return surroundings.get_template("vectors.md.j2").render(
        model=model,
        lines=[_line(card, words[card.concept]) for card in cards],
        columns=COLUMNS,
        methods=list(cards[0].others),
        cards=cards,
        explained=sum(card.explained > LEAST_EXPLAINED for card in cards),
        shams=SHAMS,
        shuffles=SHUFFLES,
        leaks=shared,
    )
