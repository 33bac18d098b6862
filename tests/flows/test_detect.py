"""Detection on a closed study: cells as features, and the refusal where a study is too small."""

from __future__ import annotations

from dataclasses import replace

import pytest

from neuromod_core.kernel.errors import DataError
from neuromod_core.stats import Named
from neuromod_core.trial.archive import Archive
from neuromod_core.trial.detection import Presence, cells_of, presence
from neuromod_core.trial.legacy import by_arm
from neuromod_core.trial.library import Library
from tasks import detecting
from tasks.detecting import _table, told


def test_cells_of_a_closed_study(closed: Archive) -> None:
    plan, scores = closed.plan(), _table(closed, "scores")
    found = cells_of(plan, scores, "statement_raw")
    assert found.packs == ("creative_minus", "creative_plus")
    assert set(found.arms) == {"sham_vectors", "entropy_temperature", "creative_plus", "creative_minus"}
    assert set(found.units) == {unit.vignette for unit in plan.units}
    cells = scores[scores["arm"].isin(set(found.arms))].drop_duplicates(["unit_id", "arm", "member"])
    assert (len(found.arms), found.left_out) == (len(cells), 0), "no more cells than there are"
    rows = scores[scores["reading"] == "statement_raw"].set_index(["unit_id", "arm", "member", "scale"])["value"]
    unit = next(one for one in plan.units if one.vignette == found.units[0])
    member = plan.arms[[arm.name for arm in plan.arms].index("creative_plus")].members[0]
    expected = rows[unit.unit_id, "creative_plus", member, "pdq_s"] - rows[unit.unit_id, "placebo", "", "pdq_s"]
    place = list(zip(found.arms, found.units, strict=True)).index(("creative_plus", unit.vignette))
    assert found.features[place, plan.scales.index("pdq_s")] == pytest.approx(expected)
    with pytest.raises(DataError, match="no scores of reading 'guess'"):
        cells_of(plan, scores, "guess")


def test_a_study_of_two_packs_gets_a_reason_and_no_model(closed: Archive) -> None:
    found = cells_of(closed.plan(), _table(closed, "scores"), "statement_raw")
    with pytest.raises(DataError, match="2 dosed arms"):
        presence(found)
    assert [str(line["result"])[:40] for line in told(found, None)] == [
        "No model of presence is offered: 2 dosed",
        "No model of intensity is offered: 2 dose",
    ]


def test_a_model_that_does_no_better_than_chance_is_not_offered(
    closed: Archive, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = cells_of(closed.plan(), _table(closed, "scores"), "statement_raw")
    area = Named(symbol="AUC", estimate=0.46, ci=None, label="U", statistic=1.0, pvalue=0.8, n=288, method="ranks")
    model = Presence(area, 0.8, 0.33, 0.24, -1.0, 0.4, (), {"lsd": 0.46}, 3, 24, 288, 0)
    for one, offered in ((model, False), (replace(model, area=replace(area, estimate=0.7), pvalue=0.01), True)):
        monkeypatch.setattr(detecting, "presence", lambda _cells, one=one: one)
        said = str(told(found, None)[0]["result"])
        assert said.startswith("AUC") == offered
        assert said.startswith("No model of presence is offered: it does no better than chance.") != offered


def test_the_weights_of_earlier_work_say_something_of_every_arm_or_why_not(closed: Archive, library: Library) -> None:
    registration, responses = closed.registration(), _table(closed, "responses")
    arms = {item.cell_code: item.arm for item in registration.allocation}
    lines = by_arm(registration.plan, library.scale("pdq_s"), responses, arms)
    assert {line.arm for line in lines} == set(arms.values())
    assert all((line.presence is None) == (line.reason is not None) for line in lines)
