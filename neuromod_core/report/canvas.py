"""From a matplotlib figure to bytes: SVG that a page can hold inline, and PNG. Equal figures give equal bytes.

No pyplot and no global settings: every setting holds inside `drawing()` only, whatever a user's own settings are.
"""

from __future__ import annotations

import html
import io
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import matplotlib.style
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from neuromod_core.report.palette import INK, MUTED, PAPER, RULE, THEME, css

PNG_WIDTH = 1600
"""Width of a written picture, pixels."""

PIXELS_PER_INCH = 106
"""Scale of a figure on a page: all figures share it, so that their letters have one size."""

SETTINGS = {
    "axes.axisbelow": True,
    "axes.edgecolor": RULE,
    "axes.facecolor": "none",
    "axes.labelcolor": INK,
    "axes.labelsize": 9,
    "axes.spines.right": False,
    "axes.spines.top": False,
    "axes.titlecolor": INK,
    "axes.titlelocation": "left",
    "axes.titlesize": 10,
    "axes.unicode_minus": True,
    "figure.facecolor": "none",
    "font.sans-serif": ["DejaVu Sans"],
    "font.size": 9,
    "grid.color": RULE,
    "grid.linewidth": 0.6,
    "hatch.linewidth": 0.6,
    "legend.fontsize": 8.5,
    "legend.frameon": False,
    "legend.labelcolor": INK,
    "svg.fonttype": "none",
    "text.color": INK,
    "text.parse_math": False,
    "xtick.color": RULE,
    "xtick.labelcolor": MUTED,
    "xtick.labelsize": 8.5,
    "ytick.color": RULE,
    "ytick.labelcolor": INK,
    "ytick.labelsize": 9,
}


@dataclass(frozen=True)
class Plot:
    """One picture: its name, what someone who cannot see it should know, and the figure."""

    name: str
    alt: str
    figure: Figure


@contextmanager
def drawing(name: str) -> Iterator[None]:
    """Hold the report's settings over matplotlib's defaults; `name` salts the identifiers inside an SVG."""
    with matplotlib.style.context("default", after_reset=True), rc_context({**SETTINGS, "svg.hashsalt": name}):
        yield


def svg(plot: Plot) -> str:
    """Return the picture as one `<svg>` element: no date, no fixed size, theme colours as CSS variables."""
    stream = io.StringIO()
    with drawing(plot.name):
        plot.figure.savefig(stream, format="svg", metadata=dict.fromkeys(("Date", "Creator", "Format", "Type")))
    text = stream.getvalue()
    return _themed(_labelled(text[text.index("<svg") :], plot))


def write_png(plot: Plot, folder: Path) -> Path:
    """Write `<folder>/<name>.png`, `PNG_WIDTH` pixels wide, on white; return its path."""
    path = folder / f"{plot.name}.png"
    with drawing(plot.name):
        inches = float(plot.figure.get_size_inches()[0])
        plot.figure.savefig(path, format="png", dpi=PNG_WIDTH / inches, facecolor=PAPER, metadata={"Software": None})
    return path


def bare(axes: Axes) -> None:
    """Remove frame and tick marks of `axes`; labels stay."""
    axes.spines[:].set_visible(False)
    axes.tick_params(length=0)


def inside(axes: Axes, place: tuple[float, float], text: str, *, fontsize: float, color: str) -> None:
    """Write centred `text` that lies inside `axes`, so that the layout need not measure it."""
    written = axes.text(*place, text, ha="center", va="center", fontsize=fontsize, color=color)
    written.set_in_layout(False)


def _labelled(text: str, plot: Plot) -> str:
    """Return `text` with a role and label for screen readers, unique identifiers, and the page's own font."""
    width = f'style="max-width: {PIXELS_PER_INCH * float(plot.figure.get_size_inches()[0]):.0f}px"'
    text = re.sub(r'width="[^"]*pt" height="[^"]*pt"', width, text, count=1)
    text = re.sub(r"\s*<defs>\s*<style.*?</defs>", "", text, count=1, flags=re.DOTALL)
    text = re.sub(r" font-family: [^;\"]*;?", "", text)
    text = re.sub(r'( id="|href="#|url\(#)', rf"\g<1>{plot.name}-", text)
    head = f'<svg class="figure" role="img" aria-label="{html.escape(plot.alt)}" stroke-linejoin="round"'
    return text.replace("<svg", f'{head} font-family="system-ui, Verdana, sans-serif"', 1)


def _themed(text: str) -> str:
    for colour in THEME:
        text = text.replace(colour, css(colour))
    return text
