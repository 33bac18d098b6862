"""What a tracker is told of a study: names for people, every file, and nothing of arms before unblinding."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from neuromod_core.report.tracking import study_record
from neuromod_core.store import MemoryStore
from neuromod_core.store.compact import read_manifest
from neuromod_core.track import StudyRecord
from neuromod_core.trial.archive import Archive
from neuromod_core.trial.plan import Registration
from tests.flows.conftest import CONFIG

NAME = re.compile(r"[/\w.\- ]+")  # what MLflow takes on every system
BLIND = ("plan.json", "data/", "commits/", "ledger/000000", "ledger/000001")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("record")
    (made / "figures").mkdir()
    (made / "figures" / "forest.png").write_bytes(b"png")
    (made / "report.html").write_text("<p>report</p>")
    return made


@pytest.fixture(scope="module")
def record(closed: Archive, folder: Path) -> StudyRecord:
    return study_record(closed, folder)


@pytest.fixture
def unopened(closed: Archive) -> Archive:
    """The same study with all its shards, before unblinding."""
    store = MemoryStore()
    for key in closed.store.keys(""):
        if key.startswith(BLIND):
            store.put_new(key, closed.store.get(key))
    return Archive(store)


def test_a_closed_study_has_a_child_per_arm_with_numbers_under_names_for_people(record: StudyRecord) -> None:
    assert [arm.name for arm in record.arms if arm.name != "none"]
    assert {arm.name for arm in record.arms} == set(CONFIG.arms)
    for one in (record, *record.arms):
        assert all(NAME.fullmatch(name) for name in (*one.metrics, *one.params)), one.metrics
    plus = next(arm for arm in record.arms if arm.name == "creative_plus")
    assert {"shift/pdq_s vs placebo", "specificity/pdq_s vs sham_vectors", "score/pdq_s statement_raw"} <= set(
        plus.metrics
    )
    assert {"specificity adjusted p/pdq_s vs sham_vectors", "text/distinct word pairs"} <= set(plus.metrics)
    assert plus.params["target scale"] == "pdq_s"
    assert record.finished
    assert record.metrics["shards committed"] == record.metrics["shards"]
    assert CONFIG.question in record.description


def test_two_runs_of_one_study_have_different_titles(record: StudyRecord) -> None:
    assert record.title is not None
    assert {"tiny", "tiny-llama", "dose 1"} <= set(record.title.split(" · "))
    assert record.title.endswith(record.registration[:6])


def test_report_figures_plan_manifest_and_cards_are_kept(record: StudyRecord, closed: Archive) -> None:
    files = {path.name: path for path in record.artifacts}
    assert files.keys() == {"report.html", "plan.yaml", "model.json", "data", "figures"}
    manifest = json.loads((files["data"] / "manifest.json").read_text())
    assert manifest["root"] == read_manifest(closed.store).root == record.tags["root_hash"]
    assert json.loads(files["model.json"].read_text())["weights (SHA-256)"] == closed.plan().weights_sha256
    packs = {arm.name: json.loads(arm.artifacts[0].read_text()) for arm in record.arms}
    for arm in closed.plan().arms:
        assert packs[arm.name]["pack"] == json.loads(arm.pack)
        assert packs[arm.name]["fingerprint"] == arm.fingerprint


def test_the_same_records_give_the_same_record(record: StudyRecord, closed: Archive, folder: Path) -> None:
    assert study_record(closed, folder) == record


def test_before_unblinding_nothing_of_arms_is_told(
    unopened: Archive, registration: Registration, tmp_path: Path
) -> None:
    told = study_record(unopened, tmp_path)
    assert told.arms == ()
    assert not told.finished
    assert told.metrics["shards committed"] == registration.plan.shards
    files = "".join(path.read_text() for path in told.artifacts)
    said = f"{told}{files}"
    secret = [registration.key.hex(), *registration.codes, *(arm.fingerprint for arm in registration.plan.arms)]
    names = [arm.name for arm in registration.plan.arms if arm.name != "none"]
    assert [word for word in (*secret, *names) if word in said] == []


def test_what_is_told_before_is_not_changed_after(unopened: Archive, record: StudyRecord, tmp_path: Path) -> None:
    before = study_record(unopened, tmp_path)
    assert (before.registration, before.title, before.name) == (record.registration, record.title, record.name)
    assert before.params == record.params, "a tracker refuses parameters that change"
