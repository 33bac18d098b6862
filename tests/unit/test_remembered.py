"""A remembered calibration is read only while nothing it came from, and nothing it wrote, has changed."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from neuromod_core.kernel.types import Json
from tasks.remembered import SOURCES, fingerprint, recall, remember
from tests.conftest import ROOT

TINY: dict[str, Json] = {"source": "tiny", "path": "llama"}


@pytest.fixture
def project(tmp_path: Path) -> Path:
    for name in SOURCES:
        if "." not in name:
            (tmp_path / name).mkdir()
            (tmp_path / name / "one.py").write_text("1")
    (tmp_path / "requirements.lock").write_text("a==1")
    return tmp_path


@pytest.mark.parametrize("name", SOURCES)
def test_whatever_could_change_an_answer_changes_its_fingerprint(project: Path, name: str) -> None:
    before = fingerprint(project, TINY, [])
    file = project / name if "." in name else project / name / "one.py"
    file.write_text("2")
    assert fingerprint(project, TINY, []) != before
    if file.parent != project:
        file.rename(file.with_name("two.py"))
        assert fingerprint(project, TINY, []) not in (before, None)


def test_options_and_models_have_fingerprints_of_their_own(project: Path, tmp_path: Path) -> None:
    weights = tmp_path / "weights"
    weights.mkdir()
    (weights / "model.safetensors").write_bytes(b"1")
    there: dict[str, Json] = {"source": "transformers", "path": str(weights)}
    found = [fingerprint(project, *each) for each in ((TINY, []), (TINY, ["last"]), (there, []))]
    (weights / "model.safetensors").write_bytes(b"22")
    found.append(fingerprint(project, there, []))
    assert len(set(found)) == 4
    assert None not in found


def test_a_model_that_only_loading_can_tell_is_not_remembered(project: Path) -> None:
    assert fingerprint(project, {"source": "transformers", "path": "someone/something"}, []) is None


def test_an_answer_is_read_while_its_cards_are_as_written(tmp_path: Path) -> None:
    card = tmp_path / "calm.json"
    card.write_text("{}")
    remember(tmp_path, "key", [{"vector": "calm"}], [card])
    answer = recall(tmp_path, "key")
    assert answer is not None
    assert answer.rows == ({"vector": "calm"},)
    assert recall(tmp_path, "other") is None
    card.write_text("{ }")
    assert recall(tmp_path, "key") is None, "an altered card is written again"
    card.unlink()
    assert recall(tmp_path, "key") is None


def test_reading_an_answer_takes_no_heavy_library() -> None:
    code = "import sys, tasks.remembered; print({'torch', 'transformers', 'prefect', 'pandas'} & set(sys.modules))"
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, check=True)
    assert ran.stdout.strip() == "set()"
