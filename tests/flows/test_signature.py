"""Looking beyond one closed study: directions of effect, and several models."""

from __future__ import annotations

from pathlib import Path

from neuromod_core.trial.archive import Archive
from neuromod_core.trial.close import judge
from neuromod_core.trial.robust import published
from tasks.signatures import matched, pooled
from tests.conftest import ROOT

TEXT = """
- {arm: creative_plus, scale: pdq_s, sign: 1, finding: rises, source: nobody 2000}
- {arm: creative_plus, over: creative_minus, scale: pdq_s, sign: 1, finding: above, source: nobody 2000}
"""


def test_a_closed_study_answers_to_signed_predictions(closed: Archive, tmp_path: Path) -> None:
    file = tmp_path / "predictions.yaml"
    file.write_text(TEXT, "utf-8")
    rows = matched(closed, str(file), str(ROOT))
    assert [row["prediction"] for row in rows] == [
        "creative_plus above the baseline on pdq_s",
        "creative_plus above creative_minus on pdq_s",
        "all",
    ]
    scores = judge(closed, closed.registration()).scores
    raw = scores[(scores["reading"] == "statement_raw") & (scores["scale"] == "pdq_s")]
    means = raw.groupby("arm")["value"].mean()
    baseline = closed.registration().plan.baseline
    assert (rows[0]["came true"] == "yes") == (means["creative_plus"] > means[baseline])
    assert (rows[1]["came true"] == "yes") == (means["creative_plus"] > means["creative_minus"])


def test_one_model_has_no_mean_over_models_and_its_own_rows(closed: Archive) -> None:
    rows = pooled([closed])
    estimates = [row for row in rows if row["model"] == "tiny-llama"]
    assert len(estimates) == 4
    assert [row["model"] for row in rows if row not in estimates] == ["no mean over 1 models: it takes 6"] * 4


def test_a_closed_study_has_its_sensitivity_analyses_beside_it(closed: Archive) -> None:
    found = published(closed)
    claims = {(row.arm, row.comparator) for row in found if row.analysis == "registered"}
    assert len(claims) == 4
    assert len({row.analysis for row in found}) > 10
