"""What a study would take on this machine: real cells of a draft of it, administered, timed and weighed.

    T(shard) = a + sum over its cells of b(kind),   bytes(shard) likewise

a and b follow from two slices of the most common kind of cell; every other kind has a slice of its own. A kind is what
the time of a cell depends on: its battery, and what else its unit is asked. All in a batch cost a fixed part and
a part per row, so this holds for batches larger than the slices. Loading, gates and statistics are not in it.
"""

from __future__ import annotations

import secrets
import time
from collections import Counter
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import NamedTuple

from neuromod_core.packs import parse_pack
from neuromod_core.store.files import packed
from neuromod_core.store.tables import table
from neuromod_core.trial.config import StudyConfig
from neuromod_core.trial.plan import Control, Plan, Registration
from neuromod_core.trial.register import Readiness, register
from neuromod_core.trial.room import Seat
from neuromod_core.trial.sitting import rows_of
from tasks import progress
from tasks.bench import bench, with_panel
from tasks.lab import Places, Run, calibration, library, model, room, runner, spec_of

Clock = Callable[[], float]
Kind = tuple[str, bool, bool, bool]
FEW, MOST = 2, 12  # cells in the small slice, and at most in the large one
DOSE = 0.1  # of an entropy placebo whose dose is not known yet: any dose takes the same time


class Cost(NamedTuple):
    """What something takes."""

    seconds: float
    bytes: float

    def per(self, count: int) -> Cost:
        """Return a share of it."""
        return Cost(self.seconds / count, self.bytes / count)

    def less(self, other: Cost) -> Cost:
        """Return what is left without `other`; nothing takes less than nothing."""
        return Cost(max(0.0, self.seconds - other.seconds), max(0.0, self.bytes - other.bytes))

    def times(self, count: int) -> Cost:
        """Return what so many of it take."""
        return Cost(self.seconds * count, self.bytes * count)


@dataclass(frozen=True)
class Estimate:
    """Costs of the shards of a study on this machine.  gpus: how many the model is on, 0 on a processor."""

    shards: tuple[Cost, ...]
    cells_timed: int
    gpus: int

    def left(self, done: Collection[int]) -> Cost:
        """Return what the shards take that are not done."""
        rest = [cost for number, cost in enumerate(self.shards) if number not in done]
        return Cost(sum(cost.seconds for cost in rest), sum(cost.bytes for cost in rest))


def kinds_of(plan: Plan, seats: Sequence[Seat]) -> list[Kind]:
    """Return what the time of each cell depends on besides its model."""
    watched = {unit.unit_id for unit in plan.units[: plan.panel.telemetry_units]}
    return [(seat.cell.battery, seat.unit.options, seat.unit.sampled, seat.unit.unit_id in watched) for seat in seats]


def fitted(small: Cost, few: int, large: Cost, many: int) -> tuple[Cost, Cost]:
    """Return (fixed part, part per cell) of two slices of few and many cells."""
    if many <= few:
        return Cost(0.0, 0.0), small.per(few)
    each = large.less(small).per(many - few)
    return small.less(each.times(few)), each


def size_of_large(seconds_of_small: float, budget: float) -> int:
    """Return how many cells the large slice has so that it takes about a third of the budget."""
    return min(MOST, max(2 * FEW, int(budget / 3 / max(seconds_of_small / FEW, 1e-6))))


def estimate(
    study: StudyConfig | Run, places: Places, *, budget: float = 20.0, clock: Clock = time.perf_counter
) -> Estimate:
    """Return what the shards of a study take here, from about `budget` seconds of administering its cells.

    study: a registered one, or a configuration, of which a draft is made.

    Raises:
        ConfigError, ModelError, CalibrationError: as registering the study would.
    """
    if isinstance(study, Run):
        return _timed(study, budget, clock)
    with TemporaryDirectory(prefix="neuromod-") as folder:
        file = Path(folder) / "draft.json"
        file.write_bytes(_draft(study, places).dump())
        return _timed(Run(str(file), places), budget, clock)


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


def _timed(run: Run, budget: float, clock: Clock) -> Estimate:
    plan, places, asked = run.registration().plan, run.places, bench(run)
    progress.stage("loading the model and its calibration")
    loaded = model(spec_of(plan), places.cache)
    packs = tuple(parse_pack(arm.pack, f"arm {arm.name}") for arm in plan.arms)
    found = calibration(loaded, packs, places).admitting()
    seats = [seat for shard in range(plan.shards) for seat in runner(run.file).seats(shard)]
    with room(plan, loaded, found, library(places.project)) as open_room:

        def cost(chosen: Sequence[Seat]) -> Cost:
            begun = clock()
            rows = rows_of(open_room, asked, chosen, {})
            files = packed({name: table(name, lines) for name, lines in rows.items()})
            progress.tick(len(chosen))
            return Cost(clock() - begun, float(sum(len(data) for _, data in files.values())))

        progress.stage("timing cells")
        gpus = len({part.device for part in loaded.network.parameters() if part.is_cuda})
        return _estimate(plan, seats, cost, budget, gpus)


def _estimate(
    plan: Plan, seats: Sequence[Seat], cost: Callable[[Sequence[Seat]], Cost], budget: float, gpus: int
) -> Estimate:
    kinds = kinds_of(plan, seats)
    by_kind: dict[Kind, list[Seat]] = {}
    counts = [Counter[Kind]() for _ in range(plan.shards)]
    for seat, kind in zip(seats, kinds, strict=True):
        by_kind.setdefault(kind, []).append(seat)
        counts[seat.cell.shard][kind] += 1
    common = Counter(kind for kind in kinds if kind[0] == "full").most_common(1)[0][0]
    cost(by_kind[common][:1])  # what is made once is not of the slices
    small = cost(by_kind[common][:FEW])
    large = by_kind[common][-size_of_large(small.seconds, budget) :]
    whole = cost(large)
    fixed, each = fitted(small, FEW, whole, len(large))
    costs, timed = {common: each}, 1 + FEW + len(large)
    few = FEW if small.seconds + whole.seconds < budget / 2 else 1  # of every other kind
    for kind, some in by_kind.items():
        if kind != common:
            some = some[:few]
            costs[kind] = cost([by_kind[common][0], *some]).less(fixed).less(each).per(len(some))
            timed += 1 + len(some)
    shards = []
    for count in counts:
        parts = [fixed, *(costs[kind].times(cells) for kind, cells in count.items())]
        shards.append(Cost(sum(part.seconds for part in parts), sum(part.bytes for part in parts)))
    return Estimate(tuple(shards), timed, gpus)
