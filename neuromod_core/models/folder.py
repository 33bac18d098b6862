"""What the files of a model's folder say before any weight is read: which they are, what they hold, their digest."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from math import prod
from pathlib import Path

from neuromod_core.kernel.errors import ModelError
from neuromod_core.kernel.types import digest, file_digest

SINGLE, INDEX = "model.safetensors", "model.safetensors.index.json"
POINTER = b"version https://git-lfs"  # how a file begins that git-lfs did not fetch
LONGEST_HEADER = 100_000_000  # bytes, a limit of the format
FLOATS = frozenset({"BF16", "F16", "F32", "F64"})  # formats that loading converts; codes stay as they are


@dataclass(frozen=True)
class Stored:
    """A tensor as a file holds it: its number format in the words of safetensors, and its shape."""

    format: str
    shape: tuple[int, ...]

    @property
    def size(self) -> int:
        """Number of elements."""
        return prod(self.shape)

    @property
    def float(self) -> bool:
        """Whether its elements are numbers that loading converts, not the codes of quantised weights or positions."""
        return self.format in FLOATS


def named_files(folder: Path) -> tuple[str, ...]:
    """Return the names of the weight files of a folder, sorted: those its index names, or the single one."""
    index = folder / INDEX
    if not index.is_file():
        return (SINGLE,)
    names = _read_json(index).get("weight_map")
    if not names:
        raise ModelError(f"{index} names no weight files: it has no weight_map.")
    return tuple(sorted(set(names.values())))


def announced_bytes(folder: Path) -> int | None:
    """Return how many bytes of weights the index of a folder announces; None where it says nothing."""
    index = folder / INDEX
    size = _read_json(index).get("metadata", {}).get("total_size") if index.is_file() else None
    return None if size is None else int(size)


def weight_files(folder: Path) -> tuple[Path, ...]:
    """Return the weight files of a folder.

    Raises:
        ModelError: when one is missing, or there is none.
    """
    files = tuple(folder / name for name in named_files(folder))
    if missing := [file.name for file in files if not file.is_file()]:
        if missing == [SINGLE]:
            other = sorted(path.name for path in folder.glob("*") if path.suffix in (".bin", ".pt", ".pth", ".gguf"))
            found = f" (it holds {', '.join(other)})" if other else ""
            raise ModelError(f"{folder} holds no .safetensors weights{found}: {SINGLE} or {INDEX} is needed.")
        raise ModelError(f"{folder} lacks {', '.join(missing)}, named by its {INDEX}: {len(missing)} of {len(files)}.")
    return files


def tensors(folder: Path) -> Mapping[str, Stored]:
    """Return the tensors that a folder's weight files hold, from their headers.

    Raises:
        ModelError: when a file is missing, truncated, or no safetensors file.

    Source: the safetensors format: 8 bytes with the length of a JSON header, the header, the data.
    """
    return {name: tensor for file in weight_files(folder) for name, tensor in _header(file)}


def _header(file: Path) -> Iterator[tuple[str, Stored]]:
    with file.open("rb") as stream:
        length = stream.read(8)
        if POINTER.startswith(length) and length:
            raise ModelError(f"{file} is a pointer of git-lfs, not the weights: run `git lfs pull` in its folder.")
        count = int.from_bytes(length, "little")
        head = stream.read(count) if len(length) == 8 and count <= LONGEST_HEADER else b""
    try:
        entries = json.loads(head)
    except ValueError:
        raise ModelError(f"{file} is not a safetensors file, or is truncated within its header.") from None
    entries.pop("__metadata__", None)
    end = 8 + count + max((entry["data_offsets"][1] for entry in entries.values()), default=0)
    if (found := file.stat().st_size) != end:
        raise ModelError(f"{file} has {found} bytes and its header says {end}: it is truncated or damaged.")
    for name, entry in entries.items():
        yield name, Stored(entry["dtype"], tuple(entry["shape"]))


def _read_json(file: Path) -> Mapping[str, Mapping[str, str]]:
    try:
        found: Mapping[str, Mapping[str, str]] = json.loads(file.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ModelError(f"{file} is not JSON: {error}.") from None
    return found


def weights_digest(folder: Path, kept: Path) -> str:
    """Return the SHA-256 of a folder's weights: of its one file, or of the list of its files' digests.

    A file is read again only when its size or the times of its last change say that it is another: the digests of
    files already read are kept below `kept`. A model of 140 GB would otherwise be read twice at every start.
    """
    digests = [_kept_digest(file.resolve(), kept) for file in weight_files(folder)]
    return digests[0] if len(digests) == 1 else digest(digests)


def _kept_digest(file: Path, kept: Path) -> str:
    seen = file.stat()
    version = [file, seen.st_ino, seen.st_size, seen.st_mtime_ns, seen.st_ctime_ns]
    note = kept / f"{digest(version)[:32]}.sha256"
    with suppress(FileNotFoundError):
        if len(known := note.read_text(encoding="ascii")) == 64:
            return known
    found = file_digest(file)
    kept.mkdir(parents=True, exist_ok=True)
    note.write_text(found, encoding="ascii")  # 64 bytes: whole, or too short to be believed
    return found
