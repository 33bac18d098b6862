"""The positive control, before registration: can this model, read this way, show a state it is told to be in?

A scale that does not move under an explicit instruction cannot detect a pack. Pilot units only: no vignette of a study
is used. The primary reading of a study is the first of `readings.PREFERRED` that passes on its primary scale.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from typing import cast

import numpy as np
import pandas as pd

from neuromod_core.design import balanced_levels
from neuromod_core.design.factors import orthogonal_levels
from neuromod_core.instruments import LABEL_SETS, ORDERS, Labels, Order
from neuromod_core.kernel.errors import InstrumentError
from neuromod_core.kernel.rng import rng
from neuromod_core.packs import Pack
from neuromod_core.stats import constant_by_construction, paired, sign_flip
from neuromod_core.trial.administer import statement_lines, with_frames
from neuromod_core.trial.answers import option_lines
from neuromod_core.trial.library import Library
from neuromod_core.trial.plan import Cell, Control, Probe, Unit
from neuromod_core.trial.readings import BY_OPTION, PREFERRED
from neuromod_core.trial.room import Line, Room, Seat
from neuromod_core.trial.scoring import cell_scores

SMALLEST_G = 0.8
ALPHA = 0.05
UNDOSED = Pack(name="none", description="no intervention", kind="control")
Scored = float | str  # a number, or the reason why there is none
Scores = Mapping[tuple[str, str, str], Scored]  # by unit, scale and reading
Shifts = Mapping[tuple[str, str], list[Scored]]  # by scale and reading, one per unit


def label_sets(levels: Sequence[int], sets: Sequence[Labels], generator: np.random.Generator) -> list[Labels]:
    """Return each unit's label set from its level of a factor of three; fewer sets are dealt in permuted blocks."""
    if len(sets) < len(LABEL_SETS):
        levels = balanced_levels(len(levels), len(sets), generator)
    return [sets[level] for level in levels]


def pilot_units(library: Library, count: int | None = None, sets: Sequence[Labels] = LABEL_SETS) -> list[Unit]:
    """Return one unit per pilot vignette (the first `count` of them), with nuisance factors dealt as in a study."""
    pilots = [vignette for vignette in library.vignettes if vignette.split == "pilot"][:count]
    probes = [passage.id for passage in library.passages if passage.split == "calibration"]
    dealt = orthogonal_levels(len(pilots), generator := rng(0, "pilot units"))
    given = label_sets([labels for *_, labels in dealt], sets, generator)
    return [
        Unit(
            unit_id=f"pilot-{vignette.id}",
            vignette=vignette.id,
            paraphrase=paraphrase,
            option_order=ORDERS[order],
            opener=library.openers[0].id,
            passage=probes[number % len(probes)],
            options=True,
            item_wording=wording,
            labels=given[number],
        )
        for number, (vignette, (order, paraphrase, wording, _)) in enumerate(zip(pilots, dealt, strict=True))
    ]


def _seats(units: Sequence[Unit], label: str) -> list[Seat]:
    return [
        Seat(Cell(f"{unit.unit_id}/{label}", unit.unit_id, 0, slot, 0, "full"), unit, UNDOSED)
        for slot, unit in enumerate(units)
    ]


def _scores(room: Room, lines: Sequence[Line], seats: Sequence[Seat]) -> Scores:
    """Return the scores of seats in the raw form of every reading that the lines hold."""
    table, names = pd.DataFrame(lines), [scale.name for scale in room.scales]
    checks, labels = room.prompter.library.checks, room.prompter.library.frames.labels
    told = [Probe(check.id, check.kind, check.levels(labels)) for check in checks]
    found: dict[tuple[str, str, str], Scored] = {}
    for seat in seats:
        rows = table[table["cell_code"] == seat.cell.cell_code].sort_values(["instrument", "item"])
        for scale, reading, score in cell_scores(rows, cast(Order, seat.unit.option_order), told, names):
            kind, _, form = reading.partition("_")
            if form == "raw":
                found[seat.unit.unit_id, scale, kind] = str(score.reason) if score.value is None else score.value
    return found


def _read(room: Room, seats: Sequence[Seat], *, options: bool) -> Scores:
    by_option = option_lines(room, seats) if options else []
    return _scores(room, [*statement_lines(room, seats), *by_option], seats)


def shifts(room: Room, states: Mapping[str, str], units: Sequence[Unit]) -> Shifts:
    """Return, per scale and reading, the score of each unit under the instructed state minus that under the neutral
    frame, or the reason why one of them is missing.

    states: scale -> system text. Answers by option that are unreadable already without an instruction are not asked
    for again with one.
    """
    before = _read(room, _seats(units, "neutral"), options=True)
    found: dict[tuple[str, str], list[Scored]] = {}
    for scale in room.scales:
        readable = any(
            not isinstance(before[unit.unit_id, scale.name, kind], str) for unit in units for kind in BY_OPTION
        )
        told = [with_frames(seat, states[scale.name]) for seat in _seats(units, "state")]
        after = _read(replace(room, scales=(scale,)), told, options=readable)
        for kind in PREFERRED:
            keys = [(unit.unit_id, scale.name, kind) for unit in units]
            found[scale.name, kind] = [_difference(after.get(key, before[key]), before[key]) for key in keys]
    return found


def _difference(after: Scored, before: Scored) -> Scored:
    """Return the difference, or the first reason; what was not asked again has the reason why not."""
    return before if isinstance(before, str) else after if isinstance(after, str) else after - before


def judge(reading: str, scale: str, differences: Sequence[Scored]) -> Control:
    """Return whether a reading passes on a scale: g_z at least 0.8 and a one-sided sign-flip p below .05.

    differences: one per pilot unit, or the reason why it has none.
    """
    values = [value for value in differences if not isinstance(value, str)]
    if len(values) < 2:
        (reason, _), *_ = Counter(value for value in differences if isinstance(value, str)).most_common(1)
        note = f"{len(differences) - len(values)} of {len(differences)} pilot units have no valid score, most: {reason}"
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
    scales = tuple(scale for scale in room.scales if scale.name in names)
    for scale in scales:
        if scale.name not in states:
            raise InstrumentError(
                f"Scale {scale.name!r} has no instructed state in frames.yaml: it cannot be controlled."
            )
    found = shifts(replace(room, scales=scales), states, pilot_units(library, pilots, room.prompter.label_sets()))
    return tuple(judge(reading, scale.name, found[scale.name, reading]) for scale in scales for reading in PREFERRED)


def primary_reading(controls: Sequence[Control], scale: str) -> str | None:
    """Return the first reading that passed its positive control on the primary scale, None when none did."""
    passed = {control.reading for control in controls if control.scale == scale and control.passed}
    return next((reading for reading in PREFERRED if reading in passed), None)
