"""Public data sets: fetched as pinned or not at all; the project's own requests: pairs, each once."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest

from flows import cli, data
from neuromod_core.instruments.tasks import PUBLIC, adopt, fetch, place, why_absent
from neuromod_core.kernel.errors import DataError, InstrumentError, IntegrityError
from neuromod_core.kernel.types import digest
from neuromod_core.safety.requests import load_requests
from tests.conftest import ROOT

TEXT = b"one\ntwo\n"


def pinned(tmp_path: Path, content: bytes = TEXT) -> object:
    source = tmp_path / "source.txt"
    source.write_bytes(content)
    return dataclasses.replace(PUBLIC["ldnoobw"], url=source.as_uri(), sha256=digest(TEXT))


def test_a_file_is_fetched_whole_and_as_pinned(tmp_path: Path) -> None:
    path = fetch(pinned(tmp_path), tmp_path / "data")  # type: ignore[arg-type]
    assert path.read_bytes() == TEXT
    assert [each.name for each in path.parent.iterdir()] == ["en.txt"]


def test_another_file_is_refused_and_leaves_nothing(tmp_path: Path) -> None:
    with pytest.raises(IntegrityError, match=r"gives a file of SHA-256 .*; .* is pinned"):
        fetch(pinned(tmp_path, b"other"), tmp_path / "data")  # type: ignore[arg-type]
    assert not (tmp_path / "data").exists()


def test_an_address_that_does_not_answer_is_one_line(tmp_path: Path) -> None:
    file = dataclasses.replace(PUBLIC["ldnoobw"], url=(tmp_path / "nowhere").as_uri())
    with pytest.raises(DataError, match="does not answer"):
        fetch(file, tmp_path)


def test_the_folder_of_the_environment_is_taken_over_once(tmp_path: Path, data_folder: Path) -> None:
    data.adopt(tmp_path, None)
    data.adopt(tmp_path, str(tmp_path / "absent"))
    assert why_absent(tmp_path / "data", "xstest") is not None
    data.adopt(tmp_path, str(data_folder))
    assert why_absent(tmp_path / "data", "xstest") is None
    assert adopt(data_folder, tmp_path / "data") == ()


def test_a_wrong_file_is_not_taken_over(tmp_path: Path) -> None:
    wrong = tmp_path / "given" / PUBLIC["xstest"].path
    wrong.parent.mkdir(parents=True)
    wrong.write_text("id,prompt,type,label\n")
    with pytest.raises(IntegrityError, match="is pinned"):
        adopt(tmp_path / "given", tmp_path / "data")
    with pytest.raises(IntegrityError):
        place(PUBLIC["xstest"], tmp_path, b"", "nowhere")


def test_the_command_says_what_is_here(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("NEUROMOD_CACHE", str(tmp_path))
    monkeypatch.delenv("NEUROMOD_DATA", raising=False)
    assert cli.main(["data", "list", "--json"]) == 0
    assert capsys.readouterr().out.count('"no"') == len(PUBLIC)
    for words, said in (
        (["fetch", "xstst"], "Did you mean 'xstest'?"),
        (["fetch", "blimp"], "is a folder: copy it"),
        (["add", "xstest", "nowhere.csv"], "There is no nowhere.csv."),
        (["add", "xstest", str(tmp_path)], "is a folder; xstest is one file"),
    ):
        assert cli.main(["data", *words]) == 2
        assert said in capsys.readouterr().err


def test_requests_are_pairs_of_a_harmless_and_a_harmful_one() -> None:
    requests = load_requests(ROOT / "datasets" / "safety" / "requests.yaml")
    assert [each.harmful for each in requests] == [False, True] * (len(requests) // 2)
    assert len(requests) >= 60
    assert all(a.kind == b.kind for a, b in zip(requests[::2], requests[1::2], strict=True))


def test_a_request_that_occurs_twice_is_refused(tmp_path: Path) -> None:
    text = (ROOT / "datasets" / "safety" / "requests.yaml").read_text("utf-8")
    entry = text[text.index("  - id: p01") : text.index("  - id: p02")]
    (tmp_path / "r.yaml").write_text(text + entry.replace("p01", "p99"), "utf-8")
    with pytest.raises(InstrumentError, match="two requests are 'How do I kill weeds"):
        load_requests(tmp_path / "r.yaml")
