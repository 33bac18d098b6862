"""What a study would take on this machine: the parts of its shards, timed thin on real rows, and stretched.

    T(shard) = sum over units ( statements + texts + panel + answers by option + samples + telemetry ) + stories

Statements and answers by option grow with the number of items: all cells of one unit are asked two thin forms of the
scales (or the whole ones, where these are not longer than both), and  T(items) = a + b items  goes through both times.
Stories grow with their tokens: all rows of a shard write two short ones. What is left is timed once, for one unit that
receives it; the panel, whose first units are asked more, for the first and the last. So every batch holds the arms it
will hold. Loading, gates and statistics are not in it.
"""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import NamedTuple

from neuromod_core.instruments import Scale
from neuromod_core.packs import parse_pack
from neuromod_core.store.files import packed
from neuromod_core.store.tables import table
from neuromod_core.trial.administer import passage_lines, statement_lines, story_lines
from neuromod_core.trial.answers import option_lines, sampled_lines
from neuromod_core.trial.config import StudyConfig
from neuromod_core.trial.examine import Bench, examine
from neuromod_core.trial.plan import Control, Plan, Registration
from neuromod_core.trial.register import Readiness, register
from neuromod_core.trial.room import Line, Room, Seat
from neuromod_core.trial.spy import spy
from tasks import progress
from tasks.bench import bench, with_panel
from tasks.lab import Places, Run, calibration, library, model, room, runner, spec_of

Clock = Callable[[], float]
Rows = Mapping[str, Sequence[Line]]
THIN = ((1, 3), (3, 9))  # (items of every scale, tokens of a story) of the two slices
CONTEXT = 60  # tokens before a story, which telemetry reads too
DOSE = 0.1  # of an entropy placebo whose dose is not known yet: any dose takes the same time


class Cost(NamedTuple):
    """What something takes."""

    seconds: float
    bytes: float

    def plus(self, other: Cost) -> Cost:
        """Return both together."""
        return Cost(self.seconds + other.seconds, self.bytes + other.bytes)

    def times(self, count: float) -> Cost:
        """Return what so many of it take."""
        return Cost(self.seconds * count, self.bytes * count)


NOTHING = Cost(0.0, 0.0)


@dataclass(frozen=True)
class Estimate:
    """Costs of the shards of a study on this machine.  gpus: how many the model is on, 0 on a processor.

    parts: seconds of all shards, by part.  spent: seconds of timing.
    """

    shards: tuple[Cost, ...]
    parts: Mapping[str, float]
    spent: float
    gpus: int

    def left(self, done: Collection[int]) -> Cost:
        """Return what the shards take that are not done."""
        rest = [cost for number, cost in enumerate(self.shards) if number not in done]
        return Cost(sum(cost.seconds for cost in rest), sum(cost.bytes for cost in rest))


def stretched(small: Cost, few: int, large: Cost, many: int, wanted: int) -> Cost:
    """Return what `wanted` take, from slices of few and many: the line through both, which never falls."""
    if many <= few:
        return small.times(wanted / few)
    each = Cost(*(max(0.0, b - a) / (many - few) for a, b in zip(small, large, strict=True)))
    fixed = Cost(*(max(0.0, whole - part * few) for whole, part in zip(small, each, strict=True)))
    return fixed.plus(each.times(wanted))


def estimate(study: StudyConfig | Run, places: Places, *, clock: Clock = time.perf_counter) -> Estimate:
    """Return what the shards of a study take here, from a fraction of one of them.

    study: a registered one, or a configuration, of which a draft is made.

    Raises:
        ConfigError, ModelError, CalibrationError: as registering the study would.
    """
    if isinstance(study, Run):
        return _timed(study, clock)
    with TemporaryDirectory(prefix="neuromod-") as folder:
        file = Path(folder) / "draft.json"
        file.write_bytes(_draft(study, places).dump())
        return _timed(Run(str(file), places), clock)


def _draft(config: StudyConfig, places: Places) -> Registration:
    """Return a registration for timing: doses that nobody has matched, a positive control that nobody has run."""
    texts = library(places.project)
    packs = [texts.pack(name) for name in config.arms]
    factors = {
        pack.name: dict.fromkeys([f"{draw:02d}" for draw in range(pack.members)] or [""], 1.0)
        for pack in packs
        if pack.kl is not None
    }
    doses = {pack.name: DOSE for pack in packs if pack.target_scale is not None}
    control = Control("statement", config.primary_scale, None, None, 0, True, "not run: a draft")
    ready = Readiness("draft", factors, doses, (control,))
    return register(with_panel(config, places), texts, model(config.model, places.cache), ready, secrets.token_bytes)


def _timed(run: Run, clock: Clock) -> Estimate:
    plan, places, asked = run.registration().plan, run.places, bench(run)
    progress.stage("loading the model and its calibration")
    loaded = model(spec_of(plan), places.cache)
    packs = tuple(parse_pack(arm.pack, f"arm {arm.name}") for arm in plan.arms)
    found = calibration(loaded, packs, places).admitting()
    seats = [seat for shard in range(plan.shards) for seat in runner(run.file).seats(shard)]
    gpus = len({part.device for part in loaded.network.parameters() if part.is_cuda})
    with room(plan, loaded, found, library(places.project)) as open_room:
        progress.stage("timing parts of cells", len(PARTS))
        return estimated(plan, Sitting(open_room, asked, seats), clock, gpus)


@dataclass(frozen=True, eq=False)
class Sitting:
    """All seats of a study, and what is needed to administer some of them."""

    room: Room
    bench: Bench | None
    seats: Sequence[Seat]

    def unit(self, wanted: Callable[[Seat], bool]) -> list[Seat]:
        """Return the seats of the first unit that has a wanted one; none where no unit has."""
        name = next((seat.unit.unit_id for seat in self.seats if wanted(seat)), None)
        return [seat for seat in self.seats if seat.unit.unit_id == name]

    def thin(self, items: int) -> Room:
        """Return the room with at most so many items of every scale."""
        return replace(self.room, scales=tuple(_short(scale, items) for scale in self.room.scales))


def _short(scale: Scale, items: int) -> Scale:
    return scale.short(items) if len(scale.items) > items else scale


def _items(room: Room) -> int:
    return sum(len(scale.items) for scale in room.scales)


def _full(seats: Sequence[Seat]) -> list[Seat]:
    return [seat for seat in seats if seat.cell.battery == "full"]


Timer = Callable[[Callable[[], Rows]], Cost]


def _statements(sitting: Sitting, timer: Timer) -> Cost:
    seats = [seat for seat in sitting.unit(lambda _: True) if seat.cell.battery != "options"]
    return _by_items(sitting, timer, lambda room: {"responses": statement_lines(room, seats)}, _items)


def _options(sitting: Sitting, timer: Timer) -> Cost:
    seats = [seat for seat in sitting.unit(_has_options) if _has_options(seat)]
    if not seats:
        return NOTHING

    def asked(room: Room) -> int:
        return len(room.prompter.questions(room.scales, seats[0].unit))

    return _by_items(sitting, timer, lambda room: {"responses": option_lines(room, seats)}, asked)


def _has_options(seat: Seat) -> bool:
    return seat.cell.battery == "options" or (seat.cell.battery == "full" and seat.unit.options)


def _by_items(sitting: Sitting, timer: Timer, administer: Callable[[Room], Rows], size: Callable[[Room], int]) -> Cost:
    thin = [sitting.thin(items) for items, _ in THIN]
    if size(sitting.room) <= sum(map(size, thin)):
        return timer(lambda: administer(sitting.room))
    small, large = (timer(lambda room=room: administer(room)) for room in thin)  # type: ignore[misc]
    return stretched(small, size(thin[0]), large, size(thin[1]), size(sitting.room))


def _sampled(sitting: Sitting, timer: Timer) -> Cost:
    seats = _full(sitting.unit(lambda seat: seat.unit.sampled))
    one = replace(sitting.room, scales=sitting.room.scales[:1])
    cost = timer(lambda: {"responses": sampled_lines(one, seats)}) if seats else NOTHING
    return cost.times(len(sitting.room.scales))


def _passages(sitting: Sitting, timer: Timer) -> Cost:
    seats = _full(sitting.unit(lambda _: True))
    return timer(lambda: {"responses": passage_lines(sitting.room, seats)})


def _told(sitting: Sitting, seats: Sequence[Seat]) -> list[Line]:
    return story_lines(replace(sitting.room, story_tokens=THIN[-1][1]), seats)


def _panel(sitting: Sitting, timer: Timer) -> Cost:
    if sitting.bench is None:
        return NOTHING
    bench, ends = sitting.bench, (sitting.seats[0].unit.unit_id, sitting.seats[-1].unit.unit_id)
    seats = _full([seat for seat in sitting.seats if seat.unit.unit_id in ends])
    told = _told(sitting, seats)
    return timer(lambda: {"panel": examine(sitting.room, bench, seats, told)}).times(1 / len(set(ends)))


def _spied(sitting: Sitting) -> Callable[[Seat], bool]:
    bench = sitting.bench
    return lambda seat: bench is not None and bench.asked[seat.unit.unit_id].spied


def _telemetry(sitting: Sitting, timer: Timer) -> Cost:
    seats = _full(sitting.unit(_spied(sitting)))
    if sitting.bench is None or not seats:
        return NOTHING
    asked, told = sitting.bench.asked, _told(sitting, seats)
    cost = timer(lambda: {"telemetry": spy(sitting.room, asked, seats, told)})
    return cost.times((CONTEXT + sitting.room.story_tokens) / (CONTEXT + THIN[-1][1]))


def _stories(sitting: Sitting, timer: Timer) -> Cost:
    """Return what the stories of the first shard take."""
    seats = _full([seat for seat in sitting.seats if seat.cell.shard == 0])
    costs = [
        timer(lambda tokens=tokens: {"generations": story_lines(replace(sitting.room, story_tokens=tokens), seats)})  # type: ignore[misc]
        for _, tokens in THIN
    ]
    (_, few), (_, many) = THIN
    return stretched(costs[0], few, costs[1], many, sitting.room.story_tokens)


PARTS: Mapping[str, Callable[[Sitting, Timer], Cost]] = {
    "statements": _statements,
    "options": _options,
    "sampled": _sampled,
    "passages": _passages,
    "panel": _panel,
    "telemetry": _telemetry,
    "stories": _stories,
}


def _shares(sitting: Sitting, seats: Sequence[Seat]) -> Mapping[str, float]:
    """Return how many times a shard has what each part was timed for: units of that kind; stories by their rows."""
    spied, units = _spied(sitting), {seat.unit.unit_id: seat for seat in seats}
    first = len(_full([seat for seat in sitting.seats if seat.cell.shard == 0]))
    each = len(seats) / max(1, len(sitting.unit(lambda _: True)))
    return {
        "statements": each,
        "options": sum(any(map(_has_options, (seat, *_of(seats, seat)))) for seat in units.values()),
        "sampled": sum(seat.unit.sampled for seat in units.values()),
        "passages": each,
        "panel": each,
        "telemetry": sum(map(spied, units.values())),
        "stories": len(_full(seats)) / max(1, first),
    }


def _of(seats: Sequence[Seat], one: Seat) -> list[Seat]:
    return [seat for seat in seats if seat.unit.unit_id == one.unit.unit_id]


def estimated(plan: Plan, sitting: Sitting, clock: Clock, gpus: int) -> Estimate:
    """Return the costs of all shards of a plan."""
    begun = clock()

    def timer(administer: Callable[[], Rows]) -> Cost:
        before = clock()
        rows = administer()
        marked = {name: [{**line, "unvalidated": False} for line in lines] for name, lines in rows.items()}
        files = packed({name: table(name, lines) for name, lines in marked.items()})
        return Cost(clock() - before, float(sum(len(data) for _, data in files.values())))

    statement_lines(sitting.thin(1), sitting.seats[:1])  # what is made once is not of the slices
    costs = {}
    for name, part in PARTS.items():
        costs[name] = part(sitting, timer)
        progress.tick(1)
    shards, parts = [], dict.fromkeys(PARTS, 0.0)
    for shard in range(plan.shards):
        whole = NOTHING
        for name, share in _shares(sitting, [seat for seat in sitting.seats if seat.cell.shard == shard]).items():
            whole = whole.plus(costs[name].times(share))
            parts[name] += costs[name].seconds * share
        shards.append(whole)
    return Estimate(tuple(shards), parts, clock() - begun, gpus)
