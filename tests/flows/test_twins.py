"""One pack under two names, on a tiny model: equal where luck is shared, and only lucky where it is not."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import pytest

from neuromod_core.kernel.errors import OutOfRange
from neuromod_core.models import LoadedModel
from neuromod_core.report.audit import twins_page
from neuromod_core.trial import twins
from neuromod_core.trial.library import Library
from neuromod_core.trial.plan import Plan, Registration
from neuromod_core.trial.room import Room
from tests.flows.conftest import open_room


@pytest.fixture(scope="module")
def room(registration: Registration, library: Library, llama: LoadedModel) -> Iterator[Room]:
    with open_room(registration, library, llama) as opened:
        yield replace(opened, scales=tuple(scale.short(1) for scale in opened.scales), story_tokens=4)


@pytest.fixture(scope="module")
def plan(room: Room) -> Plan:
    return twins.planned(room)


@pytest.fixture(scope="module")
def shared(room: Room, plan: Plan) -> twins.Outcome:
    return twins.studied(room, plan, twins.twin(), "one", shared=True)


@pytest.fixture(scope="module")
def own(room: Room, plan: Plan) -> twins.Outcome:
    return twins.studied(room, plan, twins.twin(), "two", shared=False)


def test_twins_that_share_their_luck_agree_in_every_number_and_token(shared: twins.Outcome) -> None:
    checks = twins.exact(shared)
    assert all(check.passed for check in checks)
    assert [check.n for check in checks] == [len(shared.responses) // 2, twins.UNITS, len(shared.verdicts)]
    assert {verdict.state for verdict in shared.verdicts} == {"not informative"}
    assert twins.pvalues(shared, np.random.default_rng(0)) == {}


def test_twins_that_draw_for_themselves_differ_in_everything_and_are_tested(own: twins.Outcome) -> None:
    rows, stories, hypotheses = twins.exact(own)
    assert not rows.passed
    assert not stories.passed
    assert not hypotheses.passed
    found = twins.pvalues(own, np.random.default_rng(0))
    assert len(found) == len(own.verdicts) + len(twins.STORY)
    assert all(0 < p <= 1 for p in found.values())


def test_one_row_that_leaks_is_seen(shared: twins.Outcome) -> None:
    rows = shared.responses.copy()
    rows.loc[rows.index[-1], "keyed_ll"] = float(rows["keyed_ll"].iloc[-1]) + 1e-12
    leaking = replace(shared, responses=rows)
    assert [check.passed for check in twins.exact(leaking)] == [False, True, True]


def test_orders_and_codes_are_dealt_anew_in_every_study(shared: twins.Outcome, own: twins.Outcome) -> None:
    assert set(shared.responses["cell_code"]) & set(own.responses["cell_code"]) == set()
    periods = shared.responses.drop_duplicates("cell_code").groupby("arm").size()
    assert periods.tolist() == [twins.UNITS, twins.UNITS]


def test_the_page_says_what_was_checked(shared: twins.Outcome) -> None:
    page = twins_page("tiny-llama", twins.exact(shared))
    assert "# One pack under two names on tiny-llama" in page
    assert "3 checks: all pass" in page
    assert page.count("| same draws: ") == 3


def test_few_studies_say_nothing(room: Room) -> None:
    with pytest.raises(OutOfRange, match="An audit of 5 A/A studies says nothing; at least 10"):
        twins.audit(room, 5)
