"""Words of the command line in any order, sweeps in processes, and what a marker may know of the environment."""

from __future__ import annotations

import argparse
import json
from importlib.util import find_spec
from pathlib import Path

import pytest

from flows import cli, commands, sweeping
from flows.records import place
from flows.settings import Runtime, places_here, settings
from neuromod_core.kernel.errors import ConfigError, MissingVector
from neuromod_core.models import LoadedModel
from neuromod_core.packs import parse_pack
from tasks import environment, provenance
from tasks.steps import PLACEBO, refuse_unfit
from tests.conftest import ROOT, subject_of


@pytest.mark.parametrize(
    "words",
    [
        ["register", "study=smoke", "--allow-unvalidated", "out=F"],
        ["register", "--allow-unvalidated", "study=smoke", "out=F"],
        ["register", "study=smoke", "out=F", "--allow-unvalidated"],
    ],
)
def test_options_may_stand_anywhere(words: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    given: list[argparse.Namespace] = []
    monkeypatch.setattr(commands, "run", lambda names, cache: given.append(names) or 0)
    assert cli.main(words) == 0
    assert given[0].overrides == ["study=smoke", "out=F", "allow_unvalidated=true"]


def test_a_word_too_many_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        cli.main(["verify", "runs/one", "runs/two"])
    assert "unrecognized arguments: runs/two" in capsys.readouterr().err


def runtime(launcher: str) -> Runtime:
    return Runtime.model_validate({"kind": "inprocess", "batch": 192, "launcher": launcher, "jobs": 1, "slurm": {}})


def test_a_job_that_fails_does_not_stop_the_others(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    jobs = [["model=nope"], ["dose=99"]]
    assert sweeping.launch(jobs, runtime("joblib"), tmp_path) == 2
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "== model=nope"
    assert lines[1].startswith("neuromod: No model is called 'nope'")
    assert lines[2] == "== dose=99"
    assert "dose is 99; allowed is -4 to 4" in lines[3]


def test_a_mistake_in_the_last_job_is_told_before_the_first_runs(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert cli.main(["run", "-m", "study=dose", "model=tiny-llama", "design.seed=1,none"]) == 2
    assert "design.seed: input should be a valid integer" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


@pytest.mark.skipif(find_spec("submitit") is not None, reason="submitit is installed here")
def test_an_absent_launcher_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"needs the package submitit, which is not installed: pip install submitit"):
        sweeping.launch([["study=smoke"]], runtime("submitit"), tmp_path)


def test_progress_bars_are_not_repeated() -> None:
    assert sweeping._settled("a \n ⠙ cells ━━━━ 1/2\n\nroot hash x\n") == "a\nroot hash x\n"


# ------------------------------------------------------------------------------------------------ places and provenance


def test_a_bucket_keeps_registrations_on_this_machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    far = places_here("s3://lab/runs/", None, cache=tmp_path)
    near = places_here("file:///data/runs", None, cache=tmp_path)
    assert (far.runs, far.private) == ("s3://lab/runs", tmp_path / "runs")
    assert (near.runs, near.private) == ("/data/runs", Path("/data/runs"))
    with pytest.raises(ConfigError, match="scheme 'gs' is not known"):
        places_here("gs://lab/runs", None, cache=tmp_path)


def test_latest_is_a_link_or_an_address(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "runs" / "smoke-1").mkdir(parents=True)
    latest = tmp_path / "runs" / "latest"
    latest.symlink_to("smoke-1")
    assert place("latest") == str(tmp_path / "runs" / "smoke-1")
    latest.unlink()
    latest.write_text("s3://lab/runs/smoke-2\n")
    assert place("latest") == "s3://lab/runs/smoke-2"
    assert place("s3://lab/runs/") == "s3://lab/runs"


def test_of_the_environment_only_what_is_allowed_is_recorded() -> None:
    secret = {"HF_TOKEN": "a", "AWS_SECRET_ACCESS_KEY": "b", "AWS_ACCESS_KEY_ID": "c", "HOME": "d", "USER": "e"}
    environment.recall({"OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1", **secret})
    try:
        found = provenance.engine(str(ROOT))
        assert found["environment"] == {"OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"}
        assert {"commit", "modified", "lock", "cpu", "processor", "gpus", "kernels", "torch", "python"} <= set(found)
        assert json.loads(json.dumps(found)) == found, "a marker is JSON"
        assert not [name for name in environment.ALLOWED if any(bad in name for bad in ("KEY", "TOKEN", "SECRET"))]
    finally:
        environment.recall({})


# ----------------------------------------------------------------------------------------- packs that mean nothing here


def test_a_pack_that_means_nothing_on_a_model_is_named_before_anything_is_run(llama: LoadedModel) -> None:
    effect = {"effect": "qk_score_scaling", "weight": 0.5, "direction": "up", "parameters": {"heads": "absent"}}
    text = {"name": "focus", "description": "one", "class": "nootropic", "version": 1, "effects": [effect]}
    with pytest.raises(MissingVector, match=r"Pack 'focus' cannot be given to tiny-llama: .* head set 'absent'"):
        refuse_unfit(parse_pack(json.dumps(text), "focus"), subject_of(llama))


def test_the_inert_placebo_can_be_given_to_a_model_without_induction_heads(llama: LoadedModel) -> None:
    subject = subject_of(llama)
    subject.head_sets["induction"].zero_()  # a tiny model with random weights has none
    placebo = parse_pack((ROOT / "packs" / f"{PLACEBO}.json").read_text("utf-8"), PLACEBO)
    refuse_unfit(placebo, subject)


def test_every_sweep_of_doses_is_a_list_of_studies(tmp_path: Path) -> None:
    names = {settings(["study=dose", f"dose={dose}"]).config().name for dose in (0.25, 0.5, 1)}
    assert names == {"dose-0.25", "dose-0.5", "dose-1"}
