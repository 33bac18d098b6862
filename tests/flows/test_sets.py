"""Thirteen arms: units receive sets of at most eight, and everything after the plan still holds within units."""

from __future__ import annotations

import dataclasses
import secrets
from collections import Counter

import numpy as np
import pandas as pd
import pytest

from neuromod_core.kernel.errors import DesignError
from neuromod_core.kernel.rng import rng
from neuromod_core.models import LoadedModel
from neuromod_core.trial.analysis import analyse
from neuromod_core.trial.executed import audits, planned
from neuromod_core.trial.library import Library
from neuromod_core.trial.plan import Registration
from neuromod_core.trial.register import register
from neuromod_core.trial.roles import Allocator
from tests.flows.conftest import CONFIG, READY

ARMS = (
    *("placebo", "sham_vectors", "entropy_temperature", "creative_plus", "creative_minus", "lsd", "caffeine"),
    *("morphine", "ketamine", "mdma", "cannabis_thc", "persona", "none"),
)
SHARED = {"placebo", "sham_vectors", "entropy_temperature"}


@pytest.fixture(scope="module")
def wide(library: Library, llama: LoadedModel) -> Registration:
    config = dataclasses.replace(CONFIG, arms=ARMS, scales=tuple(library.scales), units=16, units_per_shard=4)
    config.check(library)
    doses = {name: 0.1 for name in ARMS if library.pack(name).target_scale is not None}
    return register(config, library, llama, dataclasses.replace(READY, doses=doses), secrets.token_bytes)


def received(registration: Registration) -> dict[str, set[str]]:
    arm_of = {item.cell_code: item.arm for item in registration.allocation}
    given: dict[str, set[str]] = {}
    for cell in registration.plan.cells:
        given.setdefault(cell.unit_id, set()).add(arm_of[cell.cell_code])
    return given


def scores(registration: Registration, shift: dict[str, float]) -> pd.DataFrame:
    """Scores in which an arm moves its target scale by what `shift` says."""
    draw, rows = rng(1, "synthetic"), []
    unit_of = {cell.cell_code: cell.unit_id for cell in registration.plan.cells}
    target = {arm.name: arm.target_scale for arm in registration.plan.arms}
    for item in registration.allocation:
        for scale in registration.plan.scales:
            for reading in ("statement_raw", "statement_expressed"):
                moved = shift.get(item.arm, 0.0) if scale == target[item.arm] else 0.0
                value = moved + 0.2 * draw.standard_normal()
                rows.append((unit_of[item.cell_code], item.arm, item.member, scale, reading, value, 3, 3, None))
    columns = ["unit_id", "arm", "member", "scale", "reading", "value", "n_items", "n_valid", "reason"]
    return pd.DataFrame(rows, columns=columns)


def neutral(registration: Registration) -> pd.DataFrame:
    rows = [(unit, arm, 3.0) for unit, arms in received(registration).items() for arm in sorted(arms)]
    return pd.DataFrame(rows, columns=["unit_id", "arm", "neutral_nll"])


def test_every_unit_receives_one_set_and_every_set_the_placebos(wide: Registration) -> None:
    given = received(wide)
    sizes = Counter(len(arms) for arms in given.values())
    assert sizes == {8: 16}
    assert all(arms >= SHARED for arms in given.values())
    assert len({frozenset(arms) for arms in given.values()}) == 2
    assert set().union(*given.values()) == set(ARMS)


def test_each_set_is_balanced_by_itself(wide: Registration) -> None:
    found = audits(wide.plan, planned(wide))
    assert len(found) == 2
    assert all(audit.ok for audit in found)
    assert all(audit.n_arms == 8 for audit in found)


def test_planted_effects_are_seen_within_the_units_that_received_the_arm(wide: Registration) -> None:
    signs = {arm.name: float(arm.predicted_sign or 0) for arm in wide.plan.arms if arm.target_scale is not None}
    there = analyse(wide.plan, scores(wide, {arm: 3.0 * sign for arm, sign in signs.items()}), neutral(wide))
    absent = analyse(wide.plan, scores(wide, {}), neutral(wide))
    decided = {item.arm: item for item in there if item.family == "F1 decisions"}
    assert {arm: item.state for arm, item in decided.items()} == dict.fromkeys(signs, "supported")
    assert {item.n for item in decided.values()} == {8}
    assert {item.state for item in absent if item.family == "F1 decisions"} == {"not supported"}
    shifts = {item.arm: item.n for item in there if item.family == "F3"}
    assert shifts["sham_vectors"] == 16
    assert {count for arm, count in shifts.items() if arm not in SHARED} == {8}


def test_sets_are_adjusted_for_each_other(wide: Registration) -> None:
    rows = analyse(wide.plan, scores(wide, {}), neutral(wide))
    pairs = [(item.p, item.p_adj) for item in rows if item.family == "F1" and item.p is not None]
    assert pairs
    assert all(adjusted >= min(1.0, 2 * p) - 1e-12 for p, adjusted in pairs if p is not None and adjusted is not None)


def test_dummy_labels_keep_to_the_set_of_the_unit(wide: Registration) -> None:
    names = dict(zip(wide.codes, (arm.name for arm in wide.plan.arms), strict=True))
    dummy, given = Allocator(wide).dummy(), received(wide)
    for cell in wide.plan.cells:
        assert names[dummy.by_cell[cell.cell_code][0]] in given[cell.unit_id]


def test_units_must_be_a_multiple_of_all_sequences(library: Library) -> None:
    config = dataclasses.replace(CONFIG, arms=ARMS, scales=tuple(library.scales), units=13, units_per_shard=1)
    with pytest.raises(DesignError, match="13 arms need a multiple of 16"):
        config.check(library)


def test_twelve_arms_are_still_one_square(library: Library, llama: LoadedModel) -> None:
    config = dataclasses.replace(CONFIG, arms=ARMS[:12], scales=tuple(library.scales), units=12, units_per_shard=2)
    made = register(config, library, llama, READY, secrets.token_bytes)
    assert {len(arms) for arms in received(made).values()} == {12}
    assert np.all([audit.ok for audit in audits(made.plan, planned(made))])
