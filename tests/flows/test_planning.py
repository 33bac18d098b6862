"""What a study would take and could find, before it is run; and one study with several doses of a pack."""

from __future__ import annotations

import dataclasses
import json
import secrets
from collections import Counter
from collections.abc import Sequence

import pytest

from flows.settings import settings
from neuromod_core.kernel.errors import ConfigError, PackError, UnknownName
from neuromod_core.models import LoadedModel
from neuromod_core.packs import parse_pack
from neuromod_core.stats import detectable
from neuromod_core.trial.library import Library, load_library
from neuromod_core.trial.plan import Registration
from neuromod_core.trial.register import arms_of, register
from neuromod_core.trial.roles import Allocator
from neuromod_core.trial.room import Seat
from tasks import costing
from tasks.estimating import Cost, _estimate, fitted, kinds_of, size_of_large
from tests.conftest import ROOT
from tests.flows.conftest import CONFIG, READY

FIXED = Cost(3.0, 1000.0)
PER_KIND = {("full", True): Cost(2.0, 70.0), ("full", False): Cost(1.0, 50.0), ("statements", False): Cost(0.25, 9.0)}


@pytest.fixture(scope="module")
def seats(registration: Registration) -> list[Seat]:
    runner = Allocator(registration).runner()
    return [seat for shard in range(registration.plan.shards) for seat in runner.seats(shard)]


def price(chosen: Sequence[Seat]) -> Cost:
    """A machine on which a batch costs a fixed part, and each cell what its kind costs."""
    parts = [
        FIXED,
        *(PER_KIND[seat.cell.battery, seat.unit.options and seat.cell.battery == "full"] for seat in chosen),
    ]
    return Cost(sum(part.seconds for part in parts), sum(part.bytes for part in parts))


def test_the_time_of_every_shard_is_predicted_from_a_few_cells(registration: Registration, seats: list[Seat]) -> None:
    timed: Counter[str] = Counter()

    def cost(chosen: Sequence[Seat]) -> Cost:
        timed.update(seat.cell.cell_code for seat in chosen)
        return price(chosen)

    found = _estimate(registration.plan, seats, cost, budget=20.0, gpus=0)
    for shard, predicted in enumerate(found.shards):
        true = price([seat for seat in seats if seat.cell.shard == shard])
        assert predicted == pytest.approx(true)
    assert sum(timed.values()) == found.cells_timed < len(seats)
    done = set(range(registration.plan.shards - 1))
    assert found.left(done) == pytest.approx(found.shards[-1])
    assert found.left(range(registration.plan.shards)) == (0, 0)


def test_kinds_tell_apart_what_costs_differently(registration: Registration, seats: list[Seat]) -> None:
    kinds = set(kinds_of(registration.plan, seats))
    assert {kind[:2] for kind in kinds} >= {("full", True), ("full", False)}


@pytest.mark.parametrize(("few", "many"), [(2, 12), (2, 3), (1, 40)])
def test_two_slices_give_the_fixed_part_and_the_part_per_cell(few: int, many: int) -> None:
    fixed, each = Cost(5.0, 100.0), Cost(0.5, 7.0)

    def at(count: int) -> Cost:
        return Cost(fixed.seconds + each.seconds * count, fixed.bytes + each.bytes * count)

    assert fitted(at(few), few, at(many), many) == (pytest.approx(fixed), pytest.approx(each))
    assert fitted(at(few), few, at(few), few)[0] == (0, 0), "one slice has no fixed part to tell"


def test_the_large_slice_keeps_to_the_budget() -> None:
    assert size_of_large(seconds_of_small=0.01, budget=20) == 12
    assert size_of_large(seconds_of_small=2.0, budget=20) == 6
    assert size_of_large(seconds_of_small=60.0, budget=20) == 4


def test_the_size_of_a_study_is_that_of_its_plan(registration: Registration, library: Library) -> None:
    counted, planned = costing.size_of(CONFIG, library), costing.size_of_plan(registration.plan, library)
    assert counted == planned
    rows = {row["what"]: row["value"] for row in costing.rows(planned, (0,), None)}
    assert rows["shards done"] == 1
    assert rows["smallest effect found (power 0.8)"] == (
        f"0.5 nats + {detectable(6, test='greater', alpha=0.025):.2f} standard deviations"
    )


# -------------------------------------------------------------------------------------------------------- doses as arms


@pytest.fixture(scope="module")
def texts() -> Library:
    return load_library(ROOT)


def test_a_pack_at_a_level_has_its_divergence_or_its_doses_times_that(texts: Library) -> None:
    for name in texts.packs:
        base, half = texts.pack(name), texts.pack(f"{name}@0.5")
        assert half.name == f"{name}@0.5"
        assert half.role == base.role
        if base.kl is not None:
            assert (half.kl, half.effects) == (base.kl / 2, base.effects)
        else:
            assert [item.dose for item in half.effects] == [item.dose / 2 for item in base.effects]
        assert texts.pack(f"{name}@1").fingerprint == base.fingerprint


@pytest.mark.parametrize("level", ["", "0", "-1", "half", "1e3", "nan", "0.0"])
def test_a_level_is_a_positive_number(texts: Library, level: str) -> None:
    with pytest.raises(ConfigError, match=r"is no dose factor; allowed is a positive number, lsd@0\.5"):
        texts.pack(f"lsd@{level}")


def test_a_level_of_no_pack_and_a_level_out_of_range(texts: Library) -> None:
    with pytest.raises(UnknownName, match=r"No pack is called 'lsdd'\. Did you mean 'lsd'\?"):
        texts.pack("lsdd@0.5")
    with pytest.raises(PackError, match=r"lsd@90: kl: input should be less than or equal to 20"):
        texts.pack("lsd@90")


def test_every_dose_is_an_arm_of_its_own_and_a_whole_pack(texts: Library, llama: LoadedModel) -> None:
    chosen = settings(["study=doses", "model=tiny-llama"]).config()
    factors = {name: {"": 0.5} for name in chosen.arms if name.startswith("visionary")}
    factors["sham_vectors"] = READY.factors["sham_vectors"]
    ready = dataclasses.replace(READY, factors=factors)
    arms = {arm.name: arm for arm in arms_of(chosen, texts, ready)}
    levels = {name: parse_pack(arms[name].pack, name).kl for name in arms if name.startswith("visionary_plus")}
    assert levels == {
        "visionary_plus@0.25": 0.25,
        "visionary_plus@0.5": 0.5,
        "visionary_plus": 1.0,
        "visionary_plus@2": 2.0,
    }
    assert len({arm.fingerprint for arm in arms.values()}) == len(arms)
    frozen = register(chosen, texts, llama, ready, secrets.token_bytes)
    periods = Counter(cell.unit_id for cell in frozen.plan.cells if cell.battery == "full")
    assert set(periods.values()) == {len(arms)}, "every unit receives every dose"
    assert json.loads(frozen.dump())
