"""The page and the pictures of heads: where they look, what they write, what they cause; what a recipe would find."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.colors import LinearSegmentedColormap, to_hex
from matplotlib.figure import Figure
from matplotlib.image import AxesImage
from matplotlib.lines import Line2D
from torch import Tensor

from neuromod_core.calibrate.heads import (
    DISTANCES,
    LENGTH,
    PROMPT,
    SEQUENCES,
    THRESHOLD,
    Ablation,
    Findings,
    Head,
    findings,
    middle_heads,
    split_half,
)
from neuromod_core.models import LoadedModel
from neuromod_core.report.canvas import Plot, bare, drawing, write_png
from neuromod_core.report.palette import INK, MUTED, PACKS, PAPER, RULE, text_on
from neuromod_core.report.wording import signed

SHADES = LinearSegmentedColormap.from_list(
    "scores", ["#f3f5f7", *map(to_hex, colormaps["Blues"](np.linspace(0.35, 1, 6)))]
)
PANELS = {"induction": "induction", "previous_token": "previous token", "duplicate_token": "duplicate token"}
LOOKS = {
    "induction": "what followed the current token before",
    "previous_token": "the token before",
    "duplicate_token": "the current token, where it was before",
}
TOP = 10
OUT_OF_REACH = "What heads write is out of reach on this architecture: no copying scores, and no ablation."


# ------------------------------------------------------------------------------------------------------------- pictures


def _panel(axes: Axes, found: Findings, name: str) -> AxesImage:
    """Draw the scores of a head set, layers x heads, and a triangle on its members: up where they copy."""
    scores = found.mean(name).numpy().T
    image = axes.imshow(scores, cmap=SHADES, vmin=0, vmax=1, aspect="auto")
    for layer, head in found.members(name):
        marker = "o"
        if found.copying is not None:
            marker = "^" if found.copying.eigen[layer, head] > 0 else "v"
        colour = text_on(to_hex(SHADES(float(scores[head, layer]))))
        axes.plot(layer, head, marker, color=colour, markersize=6, markeredgewidth=0)
    bare(axes)
    axes.set_xticks(np.arange(0, scores.shape[1], 1 if scores.shape[1] <= 12 else 5))
    axes.set_yticks(np.arange(0, len(scores), max(1, -(-len(scores) // 5))))
    axes.set_xticks(np.arange(-0.5, scores.shape[1]), minor=True)
    axes.set_yticks(np.arange(-0.5, len(scores)), minor=True)
    axes.grid(which="minor", color=PAPER, linewidth=0.8)
    axes.tick_params(which="minor", length=0)
    axes.set_ylabel("head")
    axes.set_title(f"{PANELS[name]}: attention to {LOOKS[name]}")
    return image


def overview(found: Findings) -> Plot:
    """Draw all heads in three panels, one for each head set."""
    depth, heads = found.mean("induction").shape
    with drawing("heads"):
        figure = Figure(figsize=(10, 1.6 + 3 * (0.55 + 0.17 * heads)), layout="constrained")
        rows = figure.subplots(3, 1, sharex=True)
        images = [_panel(axes, found, name) for axes, name in zip(rows, PANELS, strict=True)]
        rows[-1].set_xlabel("layer")
        bar = figure.colorbar(
            images[0], ax=list(rows), label="mean attention weight", fraction=0.03, pad=0.01, aspect=40
        )
        bar.outline.set_visible(False)
        bar.ax.axhline(THRESHOLD, color=INK, linewidth=1.2)
        member = f"{THRESHOLD} or more"
        kinds = {"^": f"{member}, and raises the token it attends to", "v": f"{member}, and lowers it"}
        if found.copying is None:
            kinds = {"o": member}
        marks = [Line2D([], [], marker=kind, ls="", color=INK, label=label) for kind, label in kinds.items()]
        figure.legend(handles=marks, loc="outside upper left", ncols=2)
    alt = f"Scores of {depth} x {heads} heads: {len(found.members('induction'))} induction heads stand out."
    return Plot("heads", alt, figure)


def _causes(axes: Axes, cause: Ablation) -> None:
    for row, copy in enumerate((1, 0)):
        drawn = [losses[copy] - cause.undosed[copy] for losses in cause.random]
        axes.plot(drawn, np.full(len(drawn), row), "|", color=MUTED, markersize=14)
        axes.plot(cause.ablated[copy] - cause.undosed[copy], row, "o", color=PACKS[0], markersize=8)
    axes.set_yticks(range(2), ["second copy", "first copy"])
    axes.set_ylim(1.6, -0.6)
    axes.axvline(0, color=RULE, linewidth=0.8, zorder=0)
    axes.spines["left"].set_visible(False)
    axes.tick_params(axis="y", length=0)
    axes.set(xlabel="rise of the loss, nats a token", title=f"Ablation of {len(cause.heads)} heads")
    marks = [
        Line2D([], [], marker="o", ls="", color=PACKS[0], markersize=8, label="induction heads"),
        Line2D([], [], marker="|", ls="", color=MUTED, markersize=12, label="random heads, same layers"),
    ]
    axes.legend(handles=marks, loc="upper center", bbox_to_anchor=(0.5, 0.72))


def _recipe(axes: Axes, found: Findings, scores: Tensor) -> None:
    true = found.mean("induction") >= THRESHOLD
    marks = []
    for member, colour in ((False, MUTED), (True, PACKS[0])):
        for chosen, marker in ((False, "o"), (True, "D")):
            which = (found.naive.chosen == chosen) & (true == member)
            x, y = found.mean("induction")[which].numpy(), scores[which].numpy()
            kind = f"{'induction' if member else 'other'} head, {'chosen' if chosen else 'not chosen'}"
            size, face = 7 if member else 4.5, colour if chosen else "none"
            if len(x):
                marks += axes.plot(x, y, marker, color=colour, markerfacecolor=face, markersize=size, label=kind)
    axes.axvline(THRESHOLD, color=RULE, linewidth=1, zorder=0)
    axes.set(xlabel="induction score, repeated random tokens", ylabel="attention, published recipe")
    axes.set_title("The published recipe beside the score")
    axes.legend(handles=marks, loc="upper right")


def evidence(found: Findings) -> Plot | None:
    """Draw what ablating the induction heads does, and the published recipe beside the score; None without either."""
    with drawing("heads-evidence"):
        figure = Figure(figsize=(10, 3.4), layout="constrained")
        parts = (found.ablation is not None) + (found.naive.scores is not None)
        axes = list(figure.subplots(1, parts, squeeze=False)[0]) if parts else []
        if found.ablation is not None:
            _causes(axes[0], found.ablation)
        if found.naive.scores is not None:
            _recipe(axes[-1], found, found.naive.scores)
    alt = "Left: loss after ablation of induction heads and of random ones. Right: the recipe's score of every head."
    return Plot("heads-evidence", alt, figure) if parts else None


# ------------------------------------------------------------------------------------------------------------- the page


def _names(heads: tuple[Head, ...]) -> str:
    return ", ".join(f"{layer}.{head}" for layer, head in heads) or "none"


def _sets(found: Findings) -> Iterator[str]:
    yield "| head set | attention to | heads | split-half r | 99th percentile, shuffled copy | highest, shuffled copy |"
    yield "|---|---|---|---|---|---|"
    for name in PANELS:
        scores = found.scores[name]
        cells = [f"{split_half(scores):.3f}", f"{found.limit(name):.3f}", f"{float(found.shuffled[name].max()):.2f}"]
        yield f"| `{name}` | {LOOKS[name]} | {_names(found.members(name))} | {' | '.join(cells)} |"


def _table(found: Findings) -> Iterator[str]:
    yield (
        "| head | induction | standard error | shuffled copy | previous | duplicate | copying, eigenvalues | logits "
        "| ablated alone, nats a token |"
    )
    yield "|---|---|---|---|---|---|---|---|---|"
    for number, at in enumerate(found.members("induction")):
        values = [f"{float(found.mean('induction')[at]):.2f}", f"{float(found.error('induction')[at]):.3f}"]
        values.append(f"{float(found.shuffled['induction'][at].mean()):.3f}")
        values += [f"{float(found.mean(name)[at]):.2f}" for name in ("previous_token", "duplicate_token")]
        if found.copying is None:
            values += ["\u2013", "\u2013"]
        else:
            values += [signed(float(found.copying.eigen[at])), signed(float(found.copying.logit[at]))]
        values.append("\u2013" if found.ablation is None else signed(found.ablation.rises_alone[number]))
        yield f"| {at[0]}.{at[1]} | {' | '.join(values)} |"


def _near(found: Findings) -> str:
    """Return a sentence on heads that another sample of tokens could put on the other side of the threshold."""
    mean, error = found.mean("induction"), found.error("induction")
    said = [f"{at[0]}.{at[1]} ({float(mean[at]):.3f} \u00b1 {float(error[at]):.3f})" for at in found.near()]
    if not said:
        return "No head is within two standard errors of the threshold."
    return f"Within two standard errors of the threshold, so that other tokens may decide otherwise: {', '.join(said)}."


def _written(found: Findings) -> str:
    if found.copying is None:
        return OUT_OF_REACH
    eigen, logit = found.copying.eigen, found.copying.logit
    at = found.members("induction")
    raised = sum(float(eigen[one]) > 0 for one in at)
    r = float(torch.corrcoef(torch.stack([eigen.flatten(), logit.flatten()]))[0, 1])
    return (
        f"{raised} of {len(at)} induction heads raise the token they attend to by their eigenvalues. So does "
        f"{100 * float((eigen > 0).float().mean()):.0f} % of all heads (median {signed(float(eigen.median()))}), so a "
        f"positive score alone does not make a head one of copying. The two scores agree at r = {r:.2f} over heads. "
        "Both follow the direct path from the token's embedding to its logit; what blocks in between make of a token, "
        "and of what a head writes, is not in them."
    )


def _caused(found: Findings) -> str:
    cause = found.ablation
    if cause is None:
        if found.copying is None:
            return OUT_OF_REACH
        few = "A layer has too few other heads to compare with, and nothing was ablated."
        return few if found.members("induction") else f"No head reaches {THRESHOLD}: there is nothing to ablate."
    first, rises = cause.ablated[0] - cause.undosed[0], cause.random_rises
    return (
        f"Undosed, the loss is {cause.undosed[0]:.2f} nats a token on the first copy and {cause.undosed[1]:.2f} on the "
        f"second. With the mean of their outputs in place of the {len(cause.heads)} induction heads it is "
        f"{cause.ablated[1]:.2f} on the second ({signed(cause.rise)}) and {cause.ablated[0]:.2f} on the first "
        f"({signed(first)}). {len(rises)} sets of as many other heads of the same layers move the second copy by "
        f"{signed(min(rises))} to {signed(max(rises))} (mean {signed(sum(rises) / len(rises))}); "
        f"p = {cause.pvalue:.3f}. The tokens are others than those the heads were found on."
    )


def _compared(found: Findings) -> Iterator[str]:
    """Yield the table of what the recipe and its variants choose, and how its scores go with induction."""
    mean = found.mean("induction")
    true, depth = mean >= THRESHOLD, len(mean)
    layer = torch.arange(depth)[:, None].expand_as(mean)
    middle = found.naive.chosen & (3 * layer >= depth) & (3 * layer < 2 * depth)
    fallback = middle_heads(*mean.shape)
    yield "| choice | heads chosen | induction heads among them | expected of as many random heads |"
    yield "|---|---|---|---|"
    for name, chosen in (
        ("top 20 % of every layer", found.naive.chosen),
        ("top 20 % of the layers of the middle third", middle),
        ("middle heads of every layer (fallback)", fallback),
    ):
        count, hits = int(chosen.sum()), int((chosen & true).sum())
        chance = float(true.sum()) * count / true.numel()
        yield f"| {name} | {count} | {hits} of {int(true.sum())} | {chance:.1f} |"
    yield ""
    if found.naive.scores is None:
        yield "The recipe found no token that recurs and fell back on the middle heads."
        return
    best = [
        set(scores.flatten().topk(min(TOP, true.numel())).indices.tolist()) for scores in (mean, found.naive.scores)
    ]
    r = float(torch.corrcoef(torch.stack([mean.flatten(), found.naive.scores.flatten()]))[0, 1])
    near = [at for at in found.near() if at not in found.members("induction")]
    taken = tuple(at for at in near if found.naive.chosen[at])
    said = f" ({_names(taken)})" if taken else ""
    yield (
        f"Of the ten best heads of each, {len(best[0] & best[1])} are the same. Over all heads, r = {signed(r)}. Of "
        f"the {len(near)} heads just below the threshold it chose {len(taken)}{said}."
    )


def _method() -> str:
    distances = ", ".join(f"{distance} ({PANELS[name]})" for name, distance in DISTANCES.items())
    return (
        f"{SEQUENCES} sequences of a start token and {LENGTH} random ordinary tokens, twice. The score of a head is "
        "its mean attention weight, over the second copy from its second token on, on the key so many tokens back: "
        f"{distances}. A head set is the heads at {THRESHOLD} or more (Olsson et al. 2022; duplicate-token heads: Wang "
        "et al. 2023). The shuffled copy holds the same tokens in another order; its percentile is over heads and "
        "shuffles. Previous-token heads count positions and need no copy, so that for them it is no null."
    )


def _formula() -> str:
    return (
        "With embeddings E, unembeddings U (times the gain of the final norm, less their mean over tokens) and the "
        "head's value and output maps R and W (times the gain of the input norm), M = E R W U\u1d40 is what attending "
        "to each token adds to the logit of each. Eigenvalues l of M (Elhage et al. 2021): sum(l) / sum|l|. Logits "
        "(Olsson et al. 2022): the same of the diagonal of M. Both run from \u22121 to 1."
    )


def _recipe_said() -> str:
    return (
        f"The prototype of the Neuromod methodology reads `{PROMPT}` once, takes the attention from the second A to "
        "what followed the first, and keeps the top 20 % of heads (two at least) of each layer; where the probe fails "
        "it takes the two middle heads. `calibrate.heads.naive` does the same, and no calibration uses it. Whatever it "
        "finds, it rests on one text of seven tokens in an order that models know by heart, without a start token, and "
        "on a quota that every layer fills, whether it has such heads or not."
    )


def page(model: str, found: Findings) -> str:
    """Return docs/heads.md: the head sets of `model` with all evidence on them, and the published recipe beside it."""
    members, total = found.members("induction"), found.mean("induction").numel()
    lines = ["# Heads", "", "Written by `neuromod calibrate --document docs`; do not edit by hand.", ""]
    lines += [f"Measured on {model}. **{len(members)} of {total} heads are induction heads.**", "", _method(), ""]
    lines += ["![All heads: layers by heads, three scores](pictures/heads.png)", "", *_sets(found), ""]
    lines += ["## The induction heads", "", *(_table(found) if members else ["No head reaches the threshold."]), ""]
    lines += [_near(found), "", "## What they write", "", _formula(), "", _written(found), ""]
    lines += ["## What they cause", "", _caused(found), ""]
    if found.ablation is not None or found.naive.scores is not None:
        lines += ["![Ablation, and the published recipe](pictures/heads-evidence.png)", ""]
    lines += ["## The published recipe", "", _recipe_said(), "", *_compared(found)]
    return "\n".join([*lines, ""])


def write(folder: Path, model: LoadedModel, name: str | None = None, found: Findings | None = None) -> Findings:
    """Write heads.md and its pictures into a folder of documentation; return what was found.

    name: what readers know the model by.  found: what `findings` gave, where it is known already.
    """
    found = found or findings(model)
    (folder / "pictures").mkdir(parents=True, exist_ok=True)
    (folder / "heads.md").write_text(page(name or model.name, found), encoding="utf-8")
    for plot in (overview(found), evidence(found)):
        if plot is not None:
            write_png(plot, folder / "pictures")
    return found
