"""One shard, whole: scales and stories, panel and telemetry, and the cells of stopped arms, missing with a reason."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from neuromod_core.trial import examine, stopping
from neuromod_core.trial.administer import Tick, administer
from neuromod_core.trial.examine import Bench
from neuromod_core.trial.room import Line, Room, Seat
from neuromod_core.trial.spy import spy


def rows_of(
    room: Room, bench: Bench | None, seats: Sequence[Seat], reasons: Mapping[str, str], tick: Tick = lambda _: None
) -> Mapping[str, Sequence[Line]]:
    """Return the rows of a shard by table.

    bench: what the panel needs; None for a study without one.  reasons: why cells are not run, by code.
    """
    held = [seat for seat in seats if seat.cell.cell_code in reasons]
    run = [seat for seat in seats if seat.cell.cell_code not in reasons]
    responses, generations = administer(room, run, tick) if run else ([], [])
    responses = responses + stopping.missed(room.scales, held, reasons, unvalidated=room.unvalidated)
    if bench is None:
        return {"responses": responses, "generations": generations}
    panel = examine.examine(room, bench, run, generations)
    full = [seat for seat in held if seat.cell.battery == "full"]
    return {
        "responses": responses,
        "generations": generations,
        "panel": panel + examine.missed(bench, full, reasons, unvalidated=room.unvalidated),
        "telemetry": spy(room, bench.asked, run, generations),
    }
