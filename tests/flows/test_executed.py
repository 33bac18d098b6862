"""The order as executed: read from markers, tabulated, judged; and nothing of it in the hashed data."""

from __future__ import annotations

import dataclasses
import json

import pandas as pd
import pytest

from neuromod_core.kernel.errors import DataError, IntegrityError
from neuromod_core.kernel.types import canonical
from neuromod_core.models import LoadedModel
from neuromod_core.report.consort import page, picture
from neuromod_core.store import MemoryStore
from neuromod_core.trial.archive import Archive
from neuromod_core.trial.close import judge, tables_of
from neuromod_core.trial.consort import Consort, checklist, flow
from neuromod_core.trial.executed import audits, executed, order_table, planned
from neuromod_core.trial.gates import balance_gate, before_first_cell, leak_gate, probe_hash, reset_gate, seal_gate
from neuromod_core.trial.leak import guess
from neuromod_core.trial.library import Library
from neuromod_core.trial.plan import Registration
from neuromod_core.trial.register import register
from neuromod_core.trial.verify import verify
from tests.flows.conftest import CONFIG, READY, open_room


def changed(archive: Archive, prefix: str, edit: object) -> Archive:
    """A copy of an archive in which the body of each key with a prefix was edited."""
    store = MemoryStore()
    for key in archive.store.keys(""):
        data = archive.store.get(key)
        store.put_new(key, canonical(edit(json.loads(data))) if key.startswith(prefix) else data)  # type: ignore[operator]
    return Archive(store)


def executed_part(change: object) -> object:
    def edit(body: dict[str, dict[str, object]]) -> object:
        began = dict(body["provenance"]["executed"])  # type: ignore[call-overload]
        body["provenance"] = {**body["provenance"], "executed": change(began)}  # type: ignore[operator]
        return body

    return edit


def test_the_audit_covers_every_factor_of_the_executed_order(closed: Archive, registration: Registration) -> None:
    (audit,) = audits(registration.plan, executed(closed, registration))
    dealt = {"wording", "item wording", "option order", "option labels", "opener", "passage"}
    wanted = {"unit", "period", "carry-over"} | dealt
    assert {row.factor for row in audit.rows} == wanted | {"batch slot", "executed index", "process"}
    assert audit.ok
    assert max(row.spread for row in audit.rows if row.factor == "batch slot") == 1
    assert {row.spread for row in audit.rows if row.factor in dealt} == {0}


def test_the_executed_order_is_kept_as_a_table_and_verified(closed: Archive, registration: Registration) -> None:
    kept = json.loads(closed.store.get("analysis/order.json"))
    table = order_table(registration, executed(closed, registration))
    assert kept["audits"] == table["audits"]
    assert kept["balanced"] is True
    assert kept["departures"] == []
    assert "carry-over: F(5, " in kept["said"]
    other = changed(closed, "analysis/order", lambda body: {**body, "balanced": False})
    with pytest.raises(IntegrityError, match=r"order.json does not follow from the commit markers"):
        verify(other)


def test_a_shard_run_in_another_order_fails_the_gate(closed: Archive, registration: Registration) -> None:
    turned = changed(closed, "commits/", executed_part(lambda began: {**began, "cells": sorted(began["cells"])}))
    gate = balance_gate(registration, executed(turned, registration))
    assert gate.state == "failed"
    assert "cells ran in another batch slot than planned" in gate.evidence


def test_a_marker_that_does_not_say_how_it_ran_is_an_error(closed: Archive, registration: Registration) -> None:
    silent = changed(closed, "commits/", executed_part(lambda _began: None))
    with pytest.raises(IntegrityError, match="does not say in which order its cells ran"):
        executed(silent, registration)
    other = changed(closed, "commits/", executed_part(lambda began: {**began, "cells": began["cells"][1:]}))
    with pytest.raises(IntegrityError, match="names other cells than the plan"):
        executed(other, registration)


def test_processes_that_favour_an_arm_are_found(closed: Archive, registration: Registration) -> None:
    ran = executed(closed, registration)
    by_arm = [dataclasses.replace(one, process="a" if one.arm == "placebo" else "b") for one in ran]
    (audit,) = audits(registration.plan, by_arm)
    assert {row.factor for row in audit.failures} == {"process"}


def test_the_gates_do_not_depend_on_scheduling(closed: Archive, registration: Registration) -> None:
    other = changed(
        closed, "commits/", executed_part(lambda began: {**began, "index": 7 - began["index"], "process": "elsewhere"})
    )
    one = balance_gate(registration, executed(closed, registration))
    assert balance_gate(registration, executed(other, registration)) == one
    assert planned(registration)[0].cell.slot == 0


@pytest.mark.parametrize("order", ["williams", "cyclic"])
def test_a_cyclic_order_is_registered_and_audited_as_one(library: Library, llama: LoadedModel, order: str) -> None:
    import secrets

    made = register(dataclasses.replace(CONFIG, order=order), library, llama, READY, secrets.token_bytes)  # type: ignore[arg-type]
    (audit,) = audits(made.plan, planned(made))
    assert audit.ok
    neighbours = [row.spread for row in audit.rows if row.factor == "carry-over"]
    assert (max(neighbours) > 0) == (order == "cyclic")


# ------------------------------------------------------------------------------------------------------ wash-out, leaks


def test_a_fresh_process_that_reads_otherwise_fails_the_reset_gate(
    registration: Registration, library: Library, llama: LoadedModel
) -> None:
    with open_room(registration, library, llama) as room:
        clean = probe_hash(room, registration.plan)
        assert reset_gate(room, registration, clean).state == "passed"
        assert reset_gate(room, registration, "0" * 64).state == "failed"
        alone = before_first_cell(room, registration, library.pack("placebo"))[1]
    assert alone.state == "passed"
    assert "no fresh process was compared" in alone.evidence


def test_metadata_guesses_are_reported_with_area_and_indices(closed: Archive, registration: Registration) -> None:
    rows = [closed.rows(registration, name) for name in ("responses", "generations")]
    found = guess(registration, rows[0], rows[1])
    assert found.auc.ci is not None
    assert "AUC = " in str(found)
    assert "Bang" in str(found)
    assert "James" in str(found)
    gate = leak_gate(registration, rows[0], rows[1])
    assert gate.state == ("failed" if found.leaks else "passed")


def test_a_code_that_names_its_arm_is_found(closed: Archive, registration: Registration) -> None:
    """Codes whose first digits tell active arms from others: an area of one, and the gate fails."""
    arm_of = {item.cell_code: item.arm for item in registration.allocation}
    active = {arm.name for arm in registration.plan.arms if arm.target_scale is not None}
    told = {code: ("f" if arm in active else "0") * 4 + code[4:] for code, arm in arm_of.items()}
    plan = dataclasses.replace(
        registration.plan,
        cells=tuple(dataclasses.replace(cell, cell_code=told[cell.cell_code]) for cell in registration.plan.cells),
    )
    allocation = tuple(dataclasses.replace(item, cell_code=told[item.cell_code]) for item in registration.allocation)
    leaking = dataclasses.replace(registration, plan=plan, allocation=allocation)
    rows = [closed.rows(registration, name).assign(cell_code=lambda t: t["cell_code"].map(told)) for name in
            ("responses", "generations")]  # fmt: skip
    found = guess(leaking, rows[0], rows[1])
    assert found.auc.estimate == 1.0
    assert [index.estimate for index in found.bang] == [1.0, 1.0]
    assert found.james.estimate == pytest.approx(0.0)
    assert leak_gate(leaking, rows[0], rows[1]).state == "failed"


def test_without_two_kinds_of_arms_there_is_nothing_to_guess(closed: Archive, registration: Registration) -> None:
    arms = tuple(dataclasses.replace(arm, target_scale=None) for arm in registration.plan.arms)
    aimless = dataclasses.replace(registration, plan=dataclasses.replace(registration.plan, arms=arms))
    rows = [closed.rows(registration, name) for name in ("responses", "generations")]
    with pytest.raises(DataError, match="two cells each"):
        guess(aimless, rows[0], rows[1])
    assert leak_gate(aimless, rows[0], rows[1]).state == "not run"


def test_the_seal_gate_carries_the_plan_hashes(registration: Registration) -> None:
    registered = registration.public.fingerprint[:12]
    assert registered in seal_gate(registration, None).evidence
    assert "amended to plan abcdefabcdef" in seal_gate(registration, "abcdef" * 11).evidence


# -------------------------------------------------------------------------------------------------------------- consort


def test_the_flow_counts_every_unit_in_every_period(closed: Archive, registration: Registration) -> None:
    outcome, ran = judge(closed, registration), executed(closed, registration)
    cells = tables_of(closed, registration, outcome)["cells"].to_pandas()
    found = flow(registration.plan, outcome.scores, ran, cells, 130)
    assert (found.units, found.sequences, found.periods) == (6, 6, 6)
    assert found.total("randomised") == found.total("run") == 36
    assert found.total("analysed") + found.total("excluded") == 36
    assert sorted(visit.arm for visit in found.visits if visit.period == 0) == sorted(CONFIG.arms)
    lost = outcome.scores.copy()
    lost.loc[(lost["unit_id"] == "u000") & (lost["arm"] == "creative_plus"), ["value", "reason"]] = [
        None,
        "unreadable",
    ]
    less = flow(registration.plan, lost, ran, cells, 130)
    assert less.total("analysed") == found.total("analysed") - 1
    assert less.total("excluded") == found.total("excluded") + 1
    assert less.reasons["unreadable"] == 1
    assert picture(less).alt != picture(found).alt


def test_the_checklist_states_every_item_from_the_records(closed: Archive, registration: Registration) -> None:
    outcome, ran = judge(closed, registration), executed(closed, registration)
    cells = tables_of(closed, registration, outcome)["cells"].to_pandas()
    found = flow(registration.plan, outcome.scores, ran, cells, 130)
    items = checklist(closed, registration, outcome, found)
    wanted = "1 2 3 5 6 7 8 9 10 11 12 13 14 15 16 17 17+ 19 20 23-25 LLM"
    assert " ".join(item.number for item in items) == wanted
    assert all(item.stated and item.source for item in items)
    text = page(Consort(found, items, order_table(registration, ran)))
    assert registration.public.fingerprint in text
    assert "| 1 | batch slot |" in text
    assert text.count("\n|") > 36
    assert isinstance(cells, pd.DataFrame)
