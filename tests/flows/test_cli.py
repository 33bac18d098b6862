"""The command line as a user meets it: bad input is one clear line and exit code 2, and nothing is half-written."""

from __future__ import annotations

import json
import resource
import subprocess
import sys
from pathlib import Path

import pytest

from flows import cli
from flows.settings import settings, sweep
from neuromod_core.effects import EFFECTS
from tests.conftest import ROOT

STUDIES = sorted(path.stem for path in (ROOT / "conf" / "study").glob("*.yaml"))
BAD = [
    (["run", "model=nope"], "No model is called 'nope' (conf/model)"),
    (["run", "model=smollm2-135n"], "Did you mean 'smollm2-135m'?"),
    (["run", "study=nope"], "No study is called 'nope'"),
    (["run", "nope=1"], "nope"),
    (["run", "design.units=many"], "design.units: input should be a valid integer"),
    (["run", "design.units=7"], "units is 7; 4 arms need a multiple of 4"),
    (["run", "dose=99"], "dose is 99; allowed is -4 to 4"),
    (["run", "dose=nan"], "dose"),
    (["run", "packs.arms=[placebo,lsdd]"], "No pack is called 'lsdd'. Did you mean 'lsd'?"),
    (["run", "registration=absent.json"], "There is no registration file absent.json"),
    (["register", "study=smoke"], "needs one out=FILE"),
    (["run", "design.order=latin"], "design.order: input should be 'williams' or 'cyclic', given 'latin'"),
    (["unblind", "nowhere"], "nowhere is not a run"),
    (["amend", "nowhere", "--reason", "a typing error", "alpha=0.01"], "nowhere is not a run"),
    (["verify", "nowhere"], "nowhere is not a run"),
    (["packs", "show", "lsdd"], "Did you mean 'lsd'?"),
    (["packs", "validate", "absent.json"], "cannot be read as a pack file"),
]


@pytest.mark.parametrize(("arguments", "message"), BAD)
def test_bad_input_is_one_clear_line_and_exit_code_2(
    arguments: list[str],
    message: str,
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    assert cli.main(arguments) == 2
    told = capsys.readouterr().err.strip().splitlines()
    line = told[-1]
    assert line.startswith("neuromod: ")
    assert message in line
    assert not [path for path in tmp_path.rglob("*") if path.is_file()]


def test_a_file_size_limit_is_one_clear_line_and_leaves_nothing(tmp_path: Path) -> None:
    """A real limit of the operating system, in a process of its own."""
    done = subprocess.run(
        [
            sys.executable,
            "-m",
            "flows.cli",
            "register",
            "study=smoke",
            "model=tiny-llama",
            f"out={tmp_path / 'r.json'}",
        ],
        cwd=ROOT,
        capture_output=True,
        text=True,
        env={"PATH": "", "HOME": str(tmp_path), "NEUROMOD_CACHE": str(tmp_path / "cache")},
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (10, 10)),
        check=False,
    )
    assert done.returncode == 2, done.stderr
    assert len(done.stderr.strip().splitlines()[-1]) < 400
    assert "neuromod: " in done.stderr.strip().splitlines()[-1]
    assert not (tmp_path / "r.json").exists()
    assert not list((tmp_path / "cache").rglob("*.calibration"))


@pytest.mark.parametrize("study", STUDIES)
def test_every_study_composes_and_checks(study: str) -> None:
    from neuromod_core.trial.library import load_library

    chosen = settings([f"study={study}", "model=tiny-llama"])
    chosen.config().check(load_library(ROOT))
    assert chosen.config().units % len(chosen.config().arms) == 0


def test_a_sweep_is_the_product_of_its_lists() -> None:
    jobs = sweep(["study=dose", "dose=0.25,0.5,1", "model=tiny-llama,tiny-gpt2"])
    assert len(jobs) == 6
    assert ["study=dose", "dose=0.5", "model=tiny-gpt2"] in jobs


def test_listings_take_json(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["effects", "--json"]) == 0
    rows = json.loads(capsys.readouterr().out)
    assert sorted(row["effect"] for row in rows) == list(EFFECTS)
    assert cli.main(["packs", "list", "--json"]) == 0
    assert "lsd" in {row["pack"] for row in json.loads(capsys.readouterr().out)}


def test_plan_says_what_a_study_costs(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert cli.main(["plan", "--json", "study=reproduce"]) == 0
    told = {row["what"]: row["value"] for row in json.loads(capsys.readouterr().out)}
    assert told["arms"] >= 8
    assert told["units"] == 24
    assert told["shards done"] == 0
