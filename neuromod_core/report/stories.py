"""The sample stories: one unit, one prompt, every arm side by side, chosen by a rule that cannot see the stories."""

from __future__ import annotations

from typing import NamedTuple

import pandas as pd

from neuromod_core.report.data import ReportData
from neuromod_core.report.palette import css, looks
from neuromod_core.report.wording import MISSING, words

TOKENS = 96
"""About how many tokens of a story are shown."""


class Story(NamedTuple):
    """One arm's story: its letter and colour, the text as shown, whether that is all of it, and its ending."""

    arm: str
    role: str
    letter: str
    colour: str
    text: str | None
    cut: bool
    stop_reason: str


class Samples(NamedTuple):
    """The unit and prompt that were chosen, and one story per arm."""

    unit: str
    prompt: str
    stories: tuple[Story, ...]
    tokens: int = TOKENS


def samples(data: ReportData) -> Samples | None:
    """Return the stories of the first unit and prompt, by name, with the most arms; None if there are no stories."""
    if data.generations.empty:
        return None
    counts = data.generations.groupby(["unit_id", "prompt"], sort=True, observed=True)["arm"].nunique()
    unit, prompt = counts.index[int(counts.to_numpy().argmax())]
    rows = data.generations[(data.generations["unit_id"] == unit) & (data.generations["prompt"] == prompt)]
    return Samples(str(unit), str(prompt), tuple(_story(data, arm, rows[rows["arm"] == arm]) for arm in data.arm_names))


def _story(data: ReportData, arm: str, rows: pd.DataFrame) -> Story:
    look = looks(data)[arm]
    head = (arm, data.arm_rows[arm].role, look.letter, css(look.colour))
    if rows.empty:
        return Story(*head, text=None, cut=False, stop_reason="")
    row = rows.sort_values("member", kind="stable", key=lambda member: member.astype(str)).iloc[0]
    written = words(row["text"]).strip()
    text = opening(written, len(row["entropy"]))
    return Story(*head, text=text, cut=text != written, stop_reason=words(row["stop_reason"]) or MISSING)


def opening(text: str, tokens: int) -> str:
    """Return about the first `TOKENS` of the `tokens` that made `text`, cut at a space: by share of its length.

    >>> opening("one two three four", 4), opening("ab " * 192, 192).count("ab")
    ('one two three four', 96)
    """
    if tokens <= TOKENS:
        return text.strip()
    return text[: len(text) * TOKENS // tokens + 1].rsplit(maxsplit=1)[0].strip() if " " in text else text[:TOKENS]
