"""Laws of a trial: sealed before it runs, the same bytes however it runs, and nothing can be altered unseen."""

from __future__ import annotations

import copy
import dataclasses
import json
import secrets

import numpy as np
import pandas as pd
import pytest

from neuromod_core.design import append, dump
from neuromod_core.kernel.errors import (
    ConfigError,
    DesignError,
    IntegrityError,
    NeuromodError,
    OutOfRange,
    StorageFull,
    UnblindRefused,
)
from neuromod_core.kernel.types import canonical, digest
from neuromod_core.models import LoadedModel
from neuromod_core.store import MemoryStore, Store
from neuromod_core.store.compact import Manifest, read_manifest
from neuromod_core.store.files import File
from neuromod_core.store.tables import SORT_KEYS, decode, encode
from neuromod_core.trial.analysis import analyse
from neuromod_core.trial.archive import Archive
from neuromod_core.trial.close import judge
from neuromod_core.trial.gates import assay_gate
from neuromod_core.trial.library import Library
from neuromod_core.trial.plan import Registration, parse_registration
from neuromod_core.trial.register import register
from neuromod_core.trial.roles import Allocator
from neuromod_core.trial.scoring import Labels, neutral_of, scores_of
from neuromod_core.trial.verify import verify
from tests.flows.conftest import CONFIG, READY, finish, open_room, run_shard, run_study


def root(archive: Archive) -> str:
    return read_manifest(archive.store).root


def test_a_registration_survives_its_file(registration: Registration) -> None:
    again = parse_registration(registration.dump(), "file")
    assert again == registration
    assert again.dump() == registration.dump()


def test_the_public_plan_says_nothing_of_the_allocation(registration: Registration) -> None:
    """Neither codes nor order tell arms apart: codes are random, and slots hold every arm."""
    codes = [cell.cell_code for cell in registration.plan.cells]
    assert len(set(codes)) == len(codes)
    again = register(CONFIG, *_rest(registration), READY, secrets.token_bytes)
    assert not set(codes) & {cell.cell_code for cell in again.plan.cells}


def _rest(registration: Registration) -> tuple[Library, LoadedModel]:
    from neuromod_core.models import tiny
    from neuromod_core.trial.library import load_library
    from tests.conftest import ROOT

    return load_library(ROOT), tiny("llama", seed=3)


def test_every_unit_has_every_arm_in_a_balanced_order(registration: Registration) -> None:
    arm_of = {item.cell_code: item.arm for item in registration.allocation}
    for unit in registration.plan.units:
        cells = [cell for cell in registration.plan.cells if cell.unit_id == unit.unit_id and cell.battery == "full"]
        assert sorted(arm_of[cell.cell_code] for cell in cells) == sorted(CONFIG.arms)
        assert sorted(cell.period for cell in cells) == list(range(len(CONFIG.arms)))
    assert len({unit.vignette for unit in registration.plan.units}) == CONFIG.units


def test_shams_are_dealt_evenly(registration: Registration) -> None:
    draws = [item.member for item in registration.allocation if item.arm == "sham_vectors"]
    counts = np.bincount([int(draw) for draw in draws], minlength=24)
    assert counts.max() - counts.min() <= 1
    assert len(draws) == CONFIG.units * CONFIG.sham_per_unit


def test_a_closed_study_verifies(closed: Archive) -> None:
    assert verify(closed).root == root(closed)


def test_gates_are_recorded_and_hold(closed: Archive, registration: Registration) -> None:
    states = {gate.code: gate.state for gate in judge(closed, registration).gates}
    assert [states[code] for code in ("G1", "G2", "G3", "G4", "G5")] == ["passed"] * 5


def test_none_and_placebo_are_bitwise_equal_in_the_data(closed: Archive, registration: Registration) -> None:
    scores = judge(closed, registration).scores
    wide = scores.pivot_table(index=["unit_id", "scale", "reading"], columns="arm", values="value", dropna=False)
    pair = wide[["none", "placebo"]].dropna()
    assert len(pair) > 0
    assert (pair["none"] == pair["placebo"]).all()


def test_order_crash_and_resume_change_no_byte(
    closed: Archive, registration: Registration, library: Library, llama: LoadedModel
) -> None:
    backwards = run_study(registration, library, llama, [2, 0, 1])
    resumed = Archive(MemoryStore())
    resumed.publish(registration)
    with open_room(registration, library, llama) as room:
        run_shard(resumed, registration, room, 1)
        assert set(resumed.done(registration)) == {1}
    resumed.publish(registration)  # a second start says the same again
    with open_room(registration, library, llama) as room:
        from neuromod_core.trial.close import record_gates
        from neuromod_core.trial.gates import before_first_cell

        record_gates(resumed, before_first_cell(room, registration, library.pack("placebo")))
        for shard in (0, 1, 2):
            run_shard(resumed, registration, room, shard)
    assert finish(resumed, registration) == root(closed) == root(backwards)


def test_a_study_cannot_be_unblinded_before_its_time(
    registration: Registration, library: Library, llama: LoadedModel
) -> None:
    archive = Archive(MemoryStore())
    archive.publish(registration)
    with pytest.raises(UnblindRefused, match="comes after the data are recorded"):
        archive.unblind()
    with pytest.raises(IntegrityError, match="3 of 3 shards are not there yet"):
        finish(archive, registration)


class Tampered:
    """A copy of a store in which one thing was changed, as somebody with write access could."""

    def __init__(self, archive: Archive, key: str, data: bytes) -> None:
        self.inner = archive.store
        self.changed = {key: data}

    def get(self, key: str) -> bytes:
        return self.changed[key] if key in self.changed else self.inner.get(key)

    def put_new(self, key: str, data: bytes) -> bool:
        return self.inner.put_new(key, data)

    def keys(self, prefix: str) -> tuple[str, ...]:
        return self.inner.keys(prefix)

    def holds(self, key: str) -> bool:
        return self.inner.holds(key)


def flipped(data: bytes) -> bytes:
    middle = len(data) // 2
    return data[:middle] + bytes([data[middle] ^ 1]) + data[middle + 1 :]


def test_one_changed_byte_anywhere_is_found(closed: Archive) -> None:
    keys = [
        key
        for prefix in ("data/", "commits/", "ledger/", "dataset/", "opened/", "analysis/", "plan")
        for key in closed.store.keys(prefix)
    ]
    assert len(keys) > 15
    for key in keys:
        with pytest.raises(NeuromodError) as caught:
            verify(Archive(Tampered(closed, key, flipped(closed.store.get(key)))))
        assert "\n" not in str(caught.value)


def forge(archive: Archive, column: str, value: float) -> Archive:
    """Alter one published verdict and recompute every hash: dataset, manifest, root, ledger."""
    store = MemoryStore()
    manifest = read_manifest(archive.store)
    rows = decode(archive.store.get("dataset/verdicts.parquet")).to_pandas()
    rows.loc[rows[column].first_valid_index(), column] = value
    import pyarrow as pa

    from neuromod_core.store.tables import schema_of

    data = encode(pa.Table.from_pandas(rows, schema=schema_of("verdicts"), preserve_index=False), SORT_KEYS["verdicts"])
    files = {**manifest.files, "verdicts": File(digest(data), len(rows))}
    forged = Manifest(files)
    for key in archive.store.keys(""):
        if key not in ("dataset/verdicts.parquet", "dataset/manifest.json") and not key.startswith("ledger/"):
            store.put_new(key, archive.store.get(key))
    store.put_new("dataset/verdicts.parquet", data)
    store.put_new("dataset/manifest.json", canonical({"files": forged.files, "root": forged.root}))
    entries: list = []
    for entry in archive.ledger():
        payload = {"root": forged.root} if entry.kind == "closed" else entry.payload
        entries.append(append(entries, entry.kind, payload))
        store.put_new(f"ledger/{entries[-1].index:06d}.json", dump([entries[-1]]).encode())
    return Archive(store)


@pytest.mark.parametrize(("column", "value"), [("estimate", 1.2345), ("p_adj", 0.0101), ("p", 0.0404)])
def test_a_forged_number_is_found_though_every_hash_was_recomputed(closed: Archive, column: str, value: float) -> None:
    with pytest.raises(IntegrityError, match=rf"Table 'verdicts' does not follow from the raw rows: {column} of"):
        verify(forge(closed, column, value))


def test_another_allocation_is_refused(closed: Archive, registration: Registration) -> None:
    swapped = list(registration.allocation)
    at = next(place for place, item in enumerate(swapped) if item.arm != swapped[0].arm)
    swapped[0], swapped[at] = (
        dataclasses.replace(swapped[0], arm=swapped[at].arm, member=swapped[at].member),
        dataclasses.replace(swapped[at], arm=swapped[0].arm, member=swapped[0].member),
    )
    forged = dataclasses.replace(registration, allocation=tuple(swapped)).sealed()
    with pytest.raises(IntegrityError, match="allocation table is not the one committed to"):
        Archive(Tampered(closed, "opened/allocation.json", forged)).unblind()


def test_nothing_written_before_unblinding_names_an_arm(
    registration: Registration, library: Library, llama: LoadedModel
) -> None:
    archive = Archive(MemoryStore())
    archive.publish(registration)
    with open_room(registration, library, llama) as room:
        run_shard(archive, registration, room, 0)
    prints = [arm.name for arm in registration.plan.arms if arm.role not in ("none",)]
    prints += [arm.fingerprint for arm in registration.plan.arms]
    for key in archive.store.keys(""):
        text = archive.store.get(key)
        tables = decode(text).to_pandas().to_json().encode() if key.startswith("data/") else text
        assert not [name for name in prints if name.encode() in tables], key


def test_dummy_labels_are_another_allocation_of_the_same_shape(registration: Registration) -> None:
    dummy, real = Allocator(registration).dummy(), Labels.real(registration.allocation)
    code = dict(zip((arm.name for arm in registration.plan.arms), registration.codes, strict=True))
    coded = {cell: (code[arm], code.get(member, member)) for cell, (arm, member) in real.by_cell.items()}
    assert set(dummy.by_cell) == set(coded)
    assert dummy.by_cell != coded
    assert sorted(dummy.by_cell.values()) == sorted(coded.values())


def synthetic(registration: Registration, shift: dict[str, float], noise: float = 0.3) -> pd.DataFrame:
    """Scores in which an arm moves pdq_s by what `shift` says, and nothing else. Noise does not know the allocation."""
    from neuromod_core.kernel.rng import rng

    draw, rows = rng(1, "synthetic"), []
    unit_of = {cell.cell_code: cell.unit_id for cell in registration.plan.cells}
    for item in sorted(registration.allocation, key=lambda one: (unit_of[one.cell_code], one.arm, one.member)):
        for scale in registration.plan.scales:
            for reading in ("statement_raw", "statement_expressed"):
                moved = shift.get(item.arm, 0.0) if scale == "pdq_s" else 0.0
                value = moved + noise * draw.standard_normal()
                key = (unit_of[item.cell_code], item.arm, item.member, scale, reading)
                rows.append((*key, value, 3, 3, None))
    columns = ["unit_id", "arm", "member", "scale", "reading", "value", "n_items", "n_valid", "reason"]
    return pd.DataFrame(rows, columns=columns)


def neutral_like(registration: Registration) -> pd.DataFrame:
    rows = [(unit.unit_id, arm.name, 3.0) for unit in registration.plan.units for arm in registration.plan.arms]
    return pd.DataFrame(rows, columns=["unit_id", "arm", "neutral_nll"])


def test_the_analysis_sees_a_planted_effect_and_not_its_absence(registration: Registration) -> None:
    plan = registration.plan
    there = analyse(
        plan, synthetic(registration, {"creative_plus": 3.0, "creative_minus": -3.0}), neutral_like(registration)
    )
    absent = analyse(plan, synthetic(registration, {}), neutral_like(registration))
    decided = {item.arm: item.state for item in there if item.family == "F1 decisions"}
    assert decided == {"creative_plus": "supported", "creative_minus": "supported"}
    assert {item.state for item in absent if item.family == "F1 decisions"} == {"not supported"}


def test_an_effect_in_the_wrong_direction_is_no_success(registration: Registration) -> None:
    scores = synthetic(registration, {"creative_plus": -3.0, "creative_minus": 3.0})
    verdicts = analyse(registration.plan, scores, neutral_like(registration))
    assert {item.state for item in verdicts if item.family == "F1 decisions"} == {"not supported"}


def test_a_contrast_that_is_zero_by_construction_is_not_informative(
    closed: Archive, registration: Registration
) -> None:
    shifts = {(item.arm, item.state) for item in judge(closed, registration).verdicts if item.family == "F3"}
    assert ("none", "not informative") in shifts
    assert ("entropy_temperature", "not informative") in shifts


def test_the_assay_gate_needs_effect_reversal_and_more_than_shams(registration: Registration) -> None:
    gate = lambda shift: assay_gate(registration.plan, synthetic(registration, shift)).state  # noqa: E731
    assert gate({"creative_plus": 3.0, "creative_minus": -3.0}) == "passed"
    assert gate({"creative_plus": 3.0, "creative_minus": 3.0}) == "failed"
    assert gate({"creative_plus": 3.0, "creative_minus": -3.0, "sham_vectors": 3.5}) == "failed"
    assert gate({}) == "failed"


def test_without_the_steering_hook_the_assay_fails(
    registration: Registration, library: Library, llama: LoadedModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The same study on an engine whose hook forgets the vectors: the known-active arms equal the baseline."""
    from neuromod_core.engine import session

    monkeypatch.setattr(session, "edit_stream", lambda _now, _layer, hidden, _entering: hidden)
    archive = run_study(registration, library, llama, [0, 1, 2])
    gate = next(gate for gate in judge(archive, registration).gates if gate.code == "G6")
    assert gate.state == "failed"
    assert "does not move pdq_s at all" in gate.evidence
    assert not [item for item in judge(archive, registration).verdicts if item.state == "supported"]


class Full(MemoryStore):
    """A store that takes a few objects and then has no space."""

    def put_new(self, key: str, data: bytes) -> bool:
        if key.startswith("commits/"):
            raise StorageFull(f"No space left to write {key!r}.")
        return super().put_new(key, data)


def test_a_full_store_leaves_no_half_written_shard(
    registration: Registration, library: Library, llama: LoadedModel
) -> None:
    store: Store = Full()
    archive = Archive(store)
    archive.publish(registration)
    with open_room(registration, library, llama) as room, pytest.raises(StorageFull):
        run_shard(archive, registration, room, 0)
    assert archive.done(registration) == {}


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"units": 7}, DesignError, "6 arms need a multiple of 6"),
        ({"units": 132}, OutOfRange, "130 distinct vignettes"),
        ({"arms": ("creative_plus", "placebo")}, ConfigError, "the first arm is the baseline"),
        ({"arms": ("none", "nope")}, NeuromodError, "No pack is called 'nope'"),
        ({"scales": ("pdq_s",)}, ConfigError, "needs a scale and a foil"),
        ({"arms": ("none", "caffeine"), "scales": ("pdq_s", "ddq")}, ConfigError, "targets 'sdq'"),
    ],
)
def test_a_study_that_cannot_be_run_is_refused_before_it_starts(
    library: Library, change: dict[str, object], error: type[Exception], message: str
) -> None:
    config = dataclasses.replace(copy.deepcopy(CONFIG), **change)  # type: ignore[arg-type]
    with pytest.raises(error, match=message):
        config.check(library)


@pytest.mark.parametrize("change", [{"units": 1}, {"dose": 9.0}, {"alpha": 0.9}, {"min_effect": float("nan")}])
def test_numbers_out_of_range_are_refused(change: dict[str, float]) -> None:
    with pytest.raises(OutOfRange, match=r"allowed is"):
        dataclasses.replace(CONFIG, **change)  # type: ignore[arg-type]


def test_scores_do_not_depend_on_the_order_of_rows(closed: Archive, registration: Registration) -> None:
    responses = closed.rows(registration, "responses")
    labels = Labels.real(registration.allocation)
    shuffled = responses.sample(frac=1, random_state=3)
    pd.testing.assert_frame_equal(
        scores_of(registration.plan, responses, labels), scores_of(registration.plan, shuffled, labels)
    )
    assert len(neutral_of(registration.plan, responses, labels)) == CONFIG.units * len(CONFIG.arms)


def test_the_ledger_tells_the_story_in_order(closed: Archive) -> None:
    kinds = [entry.kind for entry in closed.ledger()]
    assert kinds == ["registered", "gates", "data", "dry run", "unblinded", "closed"]
    assert json.loads(closed.store.get("analysis/dry_run.json"))
