"""Colours, markers and letters: one look per arm, the same in every picture.

The assay and the packs take the Okabe-Ito palette (Okabe & Ito 2008), which people with any common colour-vision
deficiency can tell apart, without its yellow, which vanishes on white; controls are muted; no meaning is left to colour
alone. Five theme colours stand for others: an inline SVG replaces them by CSS variables, so that one picture reads on
light and on dark paper.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from matplotlib.colors import to_rgb

from neuromod_core.report.data import ReportData

INK, MUTED, RULE, BAND, PAPER = "#1b1e23", "#636a74", "#d3d7dd", "#e9ecf0", "#fefefe"
"""Text, secondary text, hairlines, shaded areas, background: as printed on white."""

THEME: Mapping[str, str] = {INK: "ink", MUTED: "muted", RULE: "rule", BAND: "band", PAPER: "paper"}
"""Theme colour -> name of the CSS variable that replaces it."""

CONTROLS: Mapping[str, str] = {
    "none": MUTED,
    "P0": "#7d8794",
    "P1": "#a89984",
    "P2": "#8a7462",
    "P3": "#5f8f8b",
    "persona": "#a48fa8",
    "assay": INK,
}
"""Role -> colour for every role but `pack`."""

PACKS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9")
"""Colours of packs, in turn; a second turn takes another marker."""

MARKERS = ("o", "D", "^", "s", "v", "P")


class Look(NamedTuple):
    """How one arm is drawn: colour, marker and the letter that stands for it in small cells."""

    colour: str
    marker: str
    letter: str


def looks(data: ReportData) -> Mapping[str, Look]:
    """Return the look of each arm; letters are A, B, ... in the order of the report."""
    packs, chosen = data.with_role("pack"), {}
    for index, arm in enumerate(data.arm_names):
        turn, place = divmod(packs.index(arm), len(PACKS)) if arm in packs else (0, 0)
        colour = PACKS[place] if arm in packs else CONTROLS[data.arm_rows[arm].role]
        chosen[arm] = Look(colour, MARKERS[turn % len(MARKERS)], letter(index))
    return chosen


def css(colour: str) -> str:
    """Return `colour` as CSS: a theme colour as a variable that falls back to the colour itself."""
    return f"var(--{THEME[colour]}, {colour})" if colour in THEME else colour


def letter(index: int) -> str:
    """Return A ... Z, AA, AB, ...

    >>> letter(0), letter(25), letter(26)
    ('A', 'Z', 'AA')
    """
    turn, place = divmod(index, 26)
    return (letter(turn - 1) if turn else "") + chr(ord("A") + place)


def text_on(colour: str) -> str:
    """Return the text colour that reads on `colour`: paper on a theme colour, else near-black or white by luminance."""
    if colour in THEME:
        return PAPER
    red, green, blue = to_rgb(colour)
    return "#101214" if 0.299 * red + 0.587 * green + 0.114 * blue > 0.5 else "#ffffff"
