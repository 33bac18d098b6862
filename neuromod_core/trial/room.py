"""Where cells are administered, who sits there, and the blank row that every reading fills in."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from neuromod_core.effects import Stream, Subject
from neuromod_core.engine import Row, Session
from neuromod_core.instruments import Scale
from neuromod_core.packs import Pack
from neuromod_core.trial.plan import Cell, Unit
from neuromod_core.trial.prompts import Prompter, Tokens

Line = Mapping[str, object]
EMPTY = (
    *("keyed_ll", "antonym_ll", "keyed_expressed_ll", "antonym_expressed_ll", "keyed_tokens", "antonym_tokens"),
    *("options_raw", "options_expressed", "option_mass", "option", "answer", "reason"),
)
"""The columns of `responses` that a reading may leave empty."""


@dataclass(frozen=True)
class Seat:
    """One cell with what only the runner knows: its pack."""

    cell: Cell
    unit: Unit
    pack: Pack


@dataclass(frozen=True, eq=False)
class Room:
    """Where cells are administered: a model under the engine, its calibration, its prompts, the scales.

    unvalidated: whether the study uses a vector that failed its validation; every row says so.
    """

    session: Session
    subject: Subject
    prompter: Prompter
    scales: tuple[Scale, ...]
    batch: int
    story_tokens: int
    seed: int
    unvalidated: bool = False

    def row(self, seat: Seat, prompt: Tokens, within: str = "") -> Row:
        """Return a seat's row. Arms of one unit share the unit's randomness, so that a difference between them is not a
        difference of luck; `within` names what draws anew within a unit.
        """
        return Row(prompt, seat.pack, Stream(self.seed, seat.unit.unit_id + within))


def alike(seats: Sequence[Seat], *factors: str) -> list[list[Seat]]:
    """Return the seats in groups whose units are equal in these factors: side by side in a batch, whatever their arm.

    What a group reads is the same but for the prompt.
    """
    groups: dict[tuple[object, ...], list[Seat]] = {}
    for seat in seats:
        groups.setdefault(tuple(getattr(seat.unit, factor) for factor in factors), []).append(seat)
    return list(groups.values())


def blank(seat: Seat, instrument: str, item: str, reading: str) -> dict[str, object]:
    """Return a row of `responses` that names what was read, and holds nothing yet."""
    names = {"cell_code": seat.cell.cell_code, "instrument": instrument, "item": item, "reading": reading}
    return {**names, **dict.fromkeys(EMPTY), "valid": True}
