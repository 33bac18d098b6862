"""What packs are expected to do to the emotions of a story, and what a told emotion must do: read from files."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from neuromod_core.affect.plutchik import DIMENSIONS
from neuromod_core.instruments.records import read_headed_yaml

INTENSITY = "intensity"
"""The mean over all emotions that a reader can tell."""

SIGNS = {"rises": 1, "falls": -1}


def load_signatures(path: Path) -> Mapping[str, Mapping[str, int]]:
    """Return, per pack, the sign (+1 or -1) expected of each emotion that is named.

    Raises:
        InstrumentError: for an unknown, missing or repeated key, an unknown emotion or sign, or a pack named twice.
    """
    found: dict[str, dict[str, int]] = {}
    for record in read_headed_yaml(path, "signatures", "signatures").records("signatures"):
        entry = record.only("pack", "signs")
        name, signs = entry.text("pack"), entry.record("signs")
        if name in found:
            raise entry.wrong(f"pack {name!r} is there twice")
        for emotion in signs.entries:
            if emotion not in (*DIMENSIONS, INTENSITY):
                raise signs.wrong(f"{emotion!r} is no emotion; allowed: {', '.join(DIMENSIONS)}, {INTENSITY}")
        found[name] = {emotion: SIGNS[signs.choice(emotion, tuple(SIGNS))] for emotion in signs.entries}
    return found


@dataclass(frozen=True)
class Controls:
    """The positive control: emotion -> what a writer is told of people in the story; `plain` tells of no emotion."""

    plain: str
    emotions: Mapping[str, str]


def load_controls(path: Path) -> Controls:
    """Return the told emotions.

    Raises:
        InstrumentError: for an unknown, missing or repeated key, or an emotion that is none or named twice.
    """
    head, found = read_headed_yaml(path, "story_controls", "plain", "emotions"), dict[str, str]()
    for record in head.records("emotions"):
        entry = record.only("emotion", "system")
        emotion = entry.choice("emotion", tuple(DIMENSIONS))
        if emotion in found:
            raise entry.wrong(f"emotion {emotion!r} is there twice")
        found[emotion] = entry.text("system")
    return Controls(head.text("plain"), found)
