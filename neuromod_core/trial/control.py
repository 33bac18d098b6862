"""The positive control, before registration: can this model, read this way, show a state it is told to be in?

A scale that does not move under an explicit instruction cannot detect a pack. Pilot units only: no vignette of a study
is used.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace

import numpy as np

from neuromod_core.instruments import Order, option_score, statement_score
from neuromod_core.kernel.errors import InstrumentError
from neuromod_core.kernel.rng import rng
from neuromod_core.packs import Pack
from neuromod_core.stats import constant_by_construction, paired, sign_flip
from neuromod_core.trial.administer import Line, Room, Seat, option_lines, statement_lines, with_frames
from neuromod_core.trial.library import Library
from neuromod_core.trial.plan import Cell, Control, Unit

READINGS = ("options", "statement")  # in order of preference: the first that passes is primary
SMALLEST_G = 0.8
ALPHA = 0.05
UNDOSED = Pack(name="none", description="no intervention", kind="control")


def pilot_units(library: Library) -> list[Unit]:
    """Return one unit per pilot vignette, with wording and option order dealt in turn."""
    pilots = [vignette for vignette in library.vignettes if vignette.split == "pilot"]
    probes = [passage.id for passage in library.passages if passage.split == "calibration"]
    return [
        Unit(
            unit_id=f"pilot-{vignette.id}",
            vignette=vignette.id,
            paraphrase=number % len(vignette.paraphrases),
            option_order=("ascending", "descending")[number % 2],
            opener=library.openers[0].id,
            passage=probes[number % len(probes)],
            options=True,
        )
        for number, vignette in enumerate(pilots)
    ]


def _seats(units: Sequence[Unit], label: str) -> list[Seat]:
    return [
        Seat(Cell(f"{unit.unit_id}/{label}", unit.unit_id, 0, slot, 0, "full"), unit, UNDOSED)
        for slot, unit in enumerate(units)
    ]


def _score(lines: Sequence[Line], reading: str, order: str) -> float | None:
    if reading == "statement":
        return statement_score(
            [float(str(line["keyed_ll"])) for line in lines], [float(str(line["antonym_ll"])) for line in lines]
        ).value
    return option_score(np.array([line["options_raw"] for line in lines], dtype=np.float64), _order(order)).value


def _order(text: str) -> Order:
    return "ascending" if text == "ascending" else "descending"


def _by_cell(lines: Sequence[Line]) -> Mapping[str, list[Line]]:
    grouped: dict[str, list[Line]] = {}
    for line in lines:
        grouped.setdefault(str(line["cell_code"]), []).append(line)
    return grouped


def shifts(room: Room, reading: str, system: str, units: Sequence[Unit]) -> list[float | None]:
    """Return, per unit, the score under the instructed state minus the score under the neutral frame."""
    neutral, told = _seats(units, "neutral"), [with_frames(seat, system) for seat in _seats(units, "state")]
    before = _scores(room, reading, neutral)
    if all(score is None for score in before):
        return list(before)  # unreadable already without an instruction: nothing to shift
    after = _scores(room, reading, told)
    pairs = zip(before, after, strict=True)
    return [None if plain is None or state is None else state - plain for plain, state in pairs]


def _scores(room: Room, reading: str, seats: Sequence[Seat]) -> list[float | None]:
    administered = statement_lines if reading == "statement" else option_lines
    lines = _by_cell(administered(room, seats))
    return [_score(lines[seat.cell.cell_code], reading, seat.unit.option_order) for seat in seats]


def judge(reading: str, scale: str, differences: Sequence[float | None]) -> Control:
    """Return whether a reading passes on a scale: g_z at least 0.8 and a one-sided sign-flip p below .05."""
    values = [value for value in differences if value is not None]
    if len(values) < 2:
        note = f"{len(differences) - len(values)} of {len(differences)} pilot units have no valid score"
        return Control(reading, scale, None, None, len(values), False, note)
    if constant_by_construction(values):
        return Control(reading, scale, None, None, len(values), False, "the instructed state changes nothing at all")
    test = sign_flip(values, alternative="greater", generator=rng(0, "positive control", reading, scale))
    effect = paired(values).g_z
    passed = effect is not None and effect >= SMALLEST_G and test.pvalue < ALPHA
    return Control(reading, scale, effect, test.pvalue, len(values), passed, f"mean shift {test.estimate:+.2f}")


def positive_control(room: Room, library: Library, names: Collection[str], *, pilots: int) -> tuple[Control, ...]:
    """Return the outcome for every reading of the room's scales that are named.

    Raises:
        InstrumentError: for a scale that no instructed state belongs to.
    """
    states = {state.scale: state.system for state in library.frames.states if state.scale is not None}
    units, found = pilot_units(library)[:pilots], []
    for scale in (scale for scale in room.scales if scale.name in names):
        if scale.name not in states:
            raise InstrumentError(
                f"Scale {scale.name!r} has no instructed state in frames.yaml: it cannot be controlled."
            )
        for reading in READINGS:
            differences = shifts(replace(room, scales=(scale,)), reading, states[scale.name], units)
            found.append(judge(reading, scale.name, differences))
    return tuple(found)


def primary_reading(controls: Sequence[Control], scale: str) -> str | None:
    """Return the first reading that passed its positive control on the primary scale, None when none did."""
    passed = {control.reading for control in controls if control.scale == scale and control.passed}
    return next((reading for reading in READINGS if reading in passed), None)
