"""Unblinding and what may be changed before it: each refusal is one clear line, and amendments are never silent."""

from __future__ import annotations

import hashlib
import json
import shutil
from pathlib import Path

import pytest
import yaml

from flows import cli
from neuromod_core.kernel.errors import IntegrityError, UnblindRefused
from neuromod_core.kernel.types import canonical
from neuromod_core.store import MemoryStore, open_store
from neuromod_core.trial.archive import Archive
from neuromod_core.trial.plan import Registration
from neuromod_core.trial.planfile import hash_of, parse_plan_yaml, plan_yaml
from tasks import looks, steps
from tests.conftest import ROOT
from tests.flows.blind import Blind, calibrated


def refused(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> str:
    capsys.readouterr()
    assert cli.main(arguments) == 2
    lines = capsys.readouterr().err.strip().splitlines()
    assert len(lines) == 1
    assert lines[0].startswith("neuromod: ")
    return lines[0]


@pytest.fixture
def folder(blind: Blind, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    at = blind.copy(tmp_path)
    calibrated(monkeypatch)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("NEUROMOD_CACHE", str(blind.root.parent / "cache"))
    return str(at)


def test_unblinding_is_refused_when_the_plan_differs(folder: str, capsys: pytest.CaptureFixture[str]) -> None:
    plan = Path(folder) / "plan.json"
    plan.write_bytes(plan.read_bytes().replace(b'"min_effect":0.5', b'"min_effect":0.1'))
    assert "The plan is not the registered one" in refused(["unblind", folder], capsys)
    assert not (Path(folder) / "opened").exists()


def test_unblinding_is_refused_when_the_code_differs(
    folder: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(looks, "code_commit", lambda _project: "0" * 40)
    assert (
        f"The code is not the one that registered the study: commit {steps.code_commit(str(ROOT))}, now 00"
        in refused(["unblind", folder], capsys)
    )
    assert not (Path(folder) / "opened").exists()


def test_unblinding_is_refused_when_the_data_differ(folder: str, capsys: pytest.CaptureFixture[str]) -> None:
    marker = next(iter(sorted((Path(folder) / "commits").glob("*.json"))))
    marker.write_bytes(marker.read_bytes().replace(b'"rows":', b'"rows":1', 1))
    assert "The data are not those recorded" in refused(["unblind", folder], capsys)
    marker.unlink()
    assert "The data are not those recorded" in refused(["unblind", folder], capsys)
    assert not (Path(folder) / "opened").exists()


def test_unblinding_is_refused_when_the_dry_run_differs(folder: str, capsys: pytest.CaptureFixture[str]) -> None:
    dry = Path(folder) / "analysis" / "dry_run.json"
    dry.write_bytes(dry.read_bytes() + b" ")
    assert "is not the dry run that was recorded" in refused(["unblind", folder], capsys)


def test_unblinding_needs_the_registration_file(folder: str, blind: Blind, capsys: pytest.CaptureFixture[str]) -> None:
    shutil.rmtree(Path(folder).parent / "registrations")
    assert "unblinding needs that file" in refused(["unblind", folder], capsys)
    assert "There is no registration file absent.json" in refused(
        ["unblind", folder, "--registration", "absent.json"], capsys
    )
    assert "is not unblinded yet" in refused(["verify", folder], capsys)
    assert cli.main(["unblind", folder, "--registration", str(blind.file)]) == 0
    assert "creative_plus" in capsys.readouterr().out
    assert cli.main(["unblind", folder]) == 0  # opened: the file is no longer needed


def test_another_registration_does_not_open_the_study(
    folder: str, tmp_path: Path, blind: Blind, capsys: pytest.CaptureFixture[str]
) -> None:
    body = json.loads(blind.file.read_bytes())
    one, two = (place for place, row in enumerate(body["sealed"]["table"]["allocation"][:2]))
    rows = body["sealed"]["table"]["allocation"]
    other = next(place for place, row in enumerate(rows) if row["arm"] != rows[one]["arm"])
    rows[one]["arm"], rows[other]["arm"] = rows[other]["arm"], rows[one]["arm"]
    forged = tmp_path / "forged.json"
    forged.write_bytes(canonical(body))
    assert "allocation table is not the one committed to" in refused(
        ["unblind", folder, "--registration", str(forged)], capsys
    )
    assert not (Path(folder) / "opened").exists()
    assert two == 1


# ----------------------------------------------------------------------------------------------------------- amendments

BAD_AMENDMENTS = [
    (["--reason", "", "alpha=0.01"], "An amendment needs a reason"),
    (["--reason", "why"], "changes at least one key, as KEY=VALUE"),
    (["--reason", "why", "alpha"], "'alpha' is not of the form KEY=VALUE"),
    (["--reason", "why", "units=9"], "No key of the analysis is called 'units'"),
    (["--reason", "why", "alfa=0.01"], "Did you mean 'alpha'?"),
    (["--reason", "why", "alpha=0.9"], "alpha is 0.9; allowed is 1e-06 to 0.5"),
    (["--reason", "why", "alpha=nan"], "alpha is nan; allowed is"),
    (["--reason", "why", "draws=1e4"], "draws is a whole number; given '1e4'"),
    (["--reason", "why", "alpha=0.01", "alpha=0.02"], "names alpha twice"),
    (["--reason", "why", "alpha=0.05"], "changes nothing"),
    (["--reason", "why", "--exploratory", "alpha=0.01"], "is not unblinded yet: amend its analysis itself"),
]


@pytest.mark.parametrize(("given", "message"), BAD_AMENDMENTS)
def test_a_bad_amendment_is_one_clear_line(
    folder: str, given: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    before = len(list((Path(folder) / "ledger").iterdir()))
    assert message in refused(["amend", folder, *given], capsys)
    assert len(list((Path(folder) / "ledger").iterdir())) == before


def test_an_amendment_is_chained_and_both_hashes_are_carried_to_the_end(
    folder: str, blind: Blind, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(["amend", folder, "--reason", "a stricter level", "alpha=0.01", "--json"]) == 0
    told = {row["what"]: row["value"] for row in json.loads(capsys.readouterr().out)}
    archive = Archive(open_store(folder))
    assert archive.amended() == told["amended plan"] != told["plan"] == archive.public().fingerprint
    assert "dry run of the plan as it stands" in refused(["unblind", folder], capsys)
    root = Path(folder).parent
    finish = ["run", f"registration={root / 'registrations' / blind.file.name}", f"storage.root={root}"]
    assert cli.main([*finish, "model=tiny-llama", "tracking=none"]) in (0, 3)
    closed = archive.entry("closed")
    assert (closed["plan"], closed["amended"]) == (told["plan"], told["amended plan"])
    (gate,) = (row for row in looks._table(archive, "gates").to_dict("records") if row["code"] == "G7")
    assert told["plan"][:12] in gate["evidence"]
    assert told["amended plan"][:12] in gate["evidence"]
    page = (Path(folder) / "consort.md").read_text("utf-8")
    assert told["plan"] in page
    assert told["amended plan"] in page
    assert (Path(folder) / "figures" / "consort.png").stat().st_size > 10_000
    assert cli.main(["verify", folder]) == 0
    _after_unblinding(folder, archive, capsys)


def _after_unblinding(folder: str, archive: Archive, capsys: pytest.CaptureFixture[str]) -> None:
    """Then the analysis is fixed; another one can be explored, and leaves the closed dataset as it is."""
    assert "only an exploratory amendment is possible" in refused(
        ["amend", folder, "--reason", "late", "alpha=0.2"], capsys
    )
    assert cli.main(["amend", folder, "--reason", "late", "--exploratory", "alpha=0.2", "--json"]) == 0
    told = {row["what"]: row["value"] for row in json.loads(capsys.readouterr().out)}
    body = json.loads(archive.store.get(f"exploratory/{told['amended plan']}.json"))
    assert body["label"] == "exploratory"
    assert body["verdicts"]
    assert (body["registered"], body["plan"]) == (told["plan"], told["amended plan"])
    assert cli.main(["verify", folder]) == 0
    assert archive.amended() != told["amended plan"]


# ------------------------------------------------------------------------------------------------------------ plan.yaml


def test_the_plan_hash_is_computed_from_the_yaml_as_well(blind: Blind) -> None:
    text = blind.file.with_suffix(".plan.yaml").read_text("utf-8")
    ledger = json.loads((blind.folder / "ledger" / "000000.json").read_text("utf-8"))
    assert hash_of(text) == ledger["payload"]["plan"] == blind.registration.public.fingerprint
    assert parse_plan_yaml(text, "plan.yaml") == blind.registration.public
    independent = json.dumps(yaml.safe_load(text), sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    assert hashlib.sha256(independent.encode()).hexdigest() == ledger["payload"]["plan"]
    assert f"# plan hash {ledger['payload']['plan']}" in text
    assert max(map(len, text.splitlines())) < 250


def test_a_changed_plan_yaml_has_another_hash_and_comments_do_not_count(registration: Registration) -> None:
    text = plan_yaml(registration.public)
    assert hash_of("# a note\n" + text) == registration.public.fingerprint
    assert hash_of(text.replace("min_effect: 0.5", "min_effect: 0.4")) != registration.public.fingerprint
    with pytest.raises(IntegrityError, match="is not YAML"):
        parse_plan_yaml("a: [", "plan.yaml")
    with pytest.raises(IntegrityError, match="is not a plan"):
        parse_plan_yaml("a: 1", "plan.yaml")


def test_before_unblinding_the_whole_plan_is_not_there(registration: Registration) -> None:
    archive = Archive(MemoryStore())
    archive.publish(registration)
    assert archive.public() == registration.public
    with pytest.raises(UnblindRefused, match="is not unblinded yet"):
        archive.plan()
