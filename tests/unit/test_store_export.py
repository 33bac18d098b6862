"""An exported dataset: the same bytes under another roof, a card that the hub reads, and CSV that comes back."""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from huggingface_hub import DatasetCard

from neuromod_core.kernel.errors import ConfigError, IntegrityError
from neuromod_core.kernel.types import digest
from neuromod_core.store import MemoryStore
from neuromod_core.store.compact import compact
from neuromod_core.store.export import About, as_csv, export_csv, export_hf
from neuromod_core.store.tables import SCHEMAS, table
from tests.unit.test_store_commits import gates, tampered

ABOUT = About("tiny", "A title: with a colon", "What is asked?", {"model": "m", "units": "6"})


@pytest.fixture
def store() -> MemoryStore:
    store = MemoryStore()
    compact(store, {"gates": gates(2, 1), "cells": table("cells", [])})
    return store


def test_the_exported_files_are_those_of_the_root(store: MemoryStore, tmp_path: Path) -> None:
    manifest = export_hf(store, tmp_path / "out", ABOUT)
    files = {path.relative_to(tmp_path / "out").as_posix() for path in (tmp_path / "out").rglob("*") if path.is_file()}
    assert files == {"README.md", "manifest.json", "data/cells.parquet", "data/gates.parquet"}
    for name, file in manifest.files.items():
        assert digest((tmp_path / "out" / "data" / f"{name}.parquet").read_bytes()) == file.sha256
    listed = json.loads((tmp_path / "out" / "manifest.json").read_text("utf-8"))
    assert digest(listed["files"]) == listed["root"] == manifest.root
    assert pq.read_table(tmp_path / "out" / "data" / "gates.parquet").column("code").to_pylist() == ["G1", "G2"]


def test_the_hub_reads_the_card(store: MemoryStore, tmp_path: Path) -> None:
    root = export_hf(store, tmp_path, ABOUT).root
    card = DatasetCard.load(tmp_path / "README.md")
    assert card.data.pretty_name == "A title: with a colon"
    assert card.data.size_categories == ["n<1K"]
    assert card.data.configs == [
        {"config_name": name, "data_files": [{"split": "train", "path": f"data/{name}.parquet"}]}
        for name in ("cells", "gates")
    ]
    assert root in card.text
    assert "What is asked?" in card.text
    for field in SCHEMAS["gates"]:
        assert f"| `{field.name}` | {field.type} | always given |" in card.text


def test_csv_comes_back_with_all_digits_and_tells_missing_from_empty() -> None:
    row = {
        "cell_code": "c", "prompt": 'say "a",\nb', "sample": 0, "token_ids": [1, 2], "text": "", "stop_reason": "é",
        "entropy": None, "logprob": [0.5, -0.25], "distinct_2": 0.1 + 0.2, "repeated_4gram_share": None,
        "unvalidated": False,
    }  # fmt: skip
    data = as_csv(table("generations", [row])).decode()
    (read,) = csv.DictReader(io.StringIO(data, newline=""))
    assert read["prompt"] == 'say "a",\nb'
    assert read["stop_reason"] == "é"
    assert float(read["distinct_2"]) == 0.1 + 0.2
    assert json.loads(read["token_ids"]) == [1, 2]
    assert json.loads(read["logprob"]) == [0.5, -0.25]
    assert (read["entropy"], read["repeated_4gram_share"]) == ("", "")
    assert '"[1, 2]","","é",,' in data, "an empty text is quoted, a missing value is not there"


def test_an_export_as_csv_has_a_file_for_each_table(store: MemoryStore, tmp_path: Path) -> None:
    export_csv(store, tmp_path / "out")
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["cells.csv", "gates.csv"]
    header, *rows = (tmp_path / "out" / "gates.csv").read_text("utf-8").splitlines()
    assert header == '"code","title","state","evidence"'
    assert rows == ['"G1","t","pass","e"', '"G2","t","pass","e"']


@pytest.mark.parametrize("form", [export_csv, lambda store, folder: export_hf(store, folder, ABOUT)])
def test_an_export_overwrites_nothing_and_checks_first(form, store: MemoryStore, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    (tmp_path / "there").write_text("mine", "utf-8")
    for taken in (tmp_path, tmp_path / "there"):
        with pytest.raises(ConfigError, match="exists and is not an empty folder; an export overwrites nothing"):
            form(store, taken)
    with pytest.raises(IntegrityError, match="Nothing is kept under 'dataset/manifest"):
        form(MemoryStore(), tmp_path / "out")
    with pytest.raises(IntegrityError, match="has the SHA-256"):
        form(tampered(store, "dataset/gates.parquet", b"other"), tmp_path / "out")
    assert [path.name for path in tmp_path.iterdir()] == ["there"]
