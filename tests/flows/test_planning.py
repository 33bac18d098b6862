"""What a study would take and could find, before it is run; and one study with several doses of a pack."""

from __future__ import annotations

import dataclasses
import itertools
import json
import secrets
from collections import Counter
from collections.abc import Iterator

import pytest

from flows.settings import settings
from neuromod_core.engine import dosed
from neuromod_core.kernel.errors import ConfigError, PackError, UnknownName
from neuromod_core.models import LoadedModel
from neuromod_core.packs import parse_pack
from neuromod_core.stats import detectable
from neuromod_core.trial.library import Library, load_library
from neuromod_core.trial.plan import Registration
from neuromod_core.trial.prompts import Prompter
from neuromod_core.trial.register import arms_of, register
from neuromod_core.trial.roles import Allocator
from neuromod_core.trial.room import Room
from tasks import costing
from tasks.estimating import Cost, Sitting, _shares, estimated, stretched
from tests.conftest import ROOT, subject_of
from tests.flows.conftest import CONFIG, READY


@pytest.fixture(scope="module")
def sitting(registration: Registration, llama: LoadedModel, library: Library) -> Iterator[Sitting]:
    runner = Allocator(registration).runner()
    seats = [seat for shard in range(registration.plan.shards) for seat in runner.seats(shard)]
    scales = library.administered(CONFIG.scales, CONFIG.primary_scale, CONFIG.foil_items)
    with dosed(llama) as session:
        yield Sitting(Room(session, subject_of(llama), Prompter(llama, library), scales, 64, 12, 0), None, seats)


@pytest.mark.parametrize(("few", "many", "wanted"), [(2, 12, 30), (2, 3, 1), (1, 40, 40)])
def test_two_slices_give_what_any_number_takes(few: int, many: int, wanted: int) -> None:
    fixed, each = Cost(5.0, 100.0), Cost(0.5, 7.0)

    def at(count: int) -> Cost:
        return fixed.plus(each.times(count))

    assert stretched(at(few), few, at(many), many, wanted) == pytest.approx(at(wanted))
    assert stretched(at(few), few, at(few), few, wanted) == pytest.approx(at(few).times(wanted / few))
    slower = stretched(Cost(3.0, 1.0), few, Cost(2.0, 1.0), many, wanted)
    assert slower == pytest.approx((3.0, 1.0)), "a large slice that was faster does not promise time back"


def test_shares_are_the_units_of_a_shard(registration: Registration, sitting: Sitting) -> None:
    """All shards together hold every unit once, and as often what some units alone receive."""
    plan, totals = registration.plan, Counter[str]()
    for shard in range(plan.shards):
        totals.update(_shares(sitting, [seat for seat in sitting.seats if seat.cell.shard == shard]))
    assert totals["statements"] == totals["passages"] == pytest.approx(len(plan.units))
    assert totals["sampled"] == sum(unit.sampled for unit in plan.units)
    assert totals["options"] >= sum(unit.options for unit in plan.units) > 0
    assert totals["stories"] == pytest.approx(plan.shards)
    assert totals["telemetry"] == 0, "this study has no panel"


def test_the_time_of_every_shard_is_made_of_its_parts(registration: Registration, sitting: Sitting) -> None:
    """On a clock that says one second of every reading, each part takes as many seconds as a shard has shares in it."""
    ticks = itertools.count()
    found = estimated(registration.plan, sitting, lambda: float(next(ticks)), 0)
    for shard, cost in enumerate(found.shards):
        shares = _shares(sitting, [seat for seat in sitting.seats if seat.cell.shard == shard])
        known = shares["statements"] + shares["options"] + shares["passages"] + shares["stories"]
        assert cost.seconds == pytest.approx(known + shares["sampled"] * len(sitting.room.scales))
        assert cost.bytes > 0
    assert sum(found.parts.values()) == pytest.approx(sum(cost.seconds for cost in found.shards))
    done = set(range(registration.plan.shards - 1))
    assert found.left(done) == pytest.approx(found.shards[-1])
    assert found.left(range(registration.plan.shards)) == (0, 0)


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
    factors = {name: {"": 0.5} for name in chosen.arms if name.startswith("creative")}
    factors["sham_vectors"] = READY.factors["sham_vectors"]
    ready = dataclasses.replace(READY, factors=factors)
    arms = {arm.name: arm for arm in arms_of(chosen, texts, ready)}
    levels = {name: parse_pack(arms[name].pack, name).kl for name in arms if name.startswith("creative_plus")}
    assert levels == {
        "creative_plus@0.25": 0.25,
        "creative_plus@0.5": 0.5,
        "creative_plus": 1.0,
        "creative_plus@2": 2.0,
    }
    assert len({arm.fingerprint for arm in arms.values()}) == len(arms)
    frozen = register(chosen, texts, llama, ready, secrets.token_bytes)
    periods = Counter(cell.unit_id for cell in frozen.plan.cells if cell.battery == "full")
    assert set(periods.values()) == {len(arms)}, "every unit receives every dose"
    assert json.loads(frozen.dump())
