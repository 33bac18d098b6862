"""Strict reading of text files: every key is expected, every text says something, every error names its place.

This module knows mappings and lists, and no instrument. In YAML and JSON a later duplicate of a key wins in silence;
here it is an error.
"""

from __future__ import annotations

import difflib
import json
from collections.abc import Hashable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

import yaml

from neuromod_core.kernel.errors import InstrumentError

HEADER = ("kind", "title", "version", "licence", "author")


class _StrictLoader(yaml.CSafeLoader):
    """A safe YAML loader that refuses a key written twice."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, object]:
        """Return the mapping of `node`.

        Raises:
            yaml.constructor.ConstructorError: if two keys of the node are equal.
        """
        seen: set[str] = set()
        for key in (key for key, _ in node.value if isinstance(key, yaml.ScalarNode)):
            if key.value in seen:
                raise yaml.constructor.ConstructorError(
                    None, None, f"key {key.value!r} is written twice", key.start_mark
                )
            seen.add(key.value)
        return super().construct_mapping(node, deep=deep)


def _unique_pairs(pairs: list[tuple[str, object]]) -> dict[str, object]:
    """Return JSON pairs as a mapping; a key written twice is a ValueError."""
    seen: dict[str, object] = {}
    for key, value in pairs:
        if key in seen:
            raise ValueError(f"key {key!r} is written twice")
        seen[key] = value
    return seen


@dataclass(frozen=True)
class Record:
    """One mapping of a file, and the place that an error about it names."""

    where: str
    entries: Mapping[str, object]

    def wrong(self, message: str) -> InstrumentError:
        """Return the error that says `message` about this record."""
        return InstrumentError(f"{self.where}: {message}")

    def only(self, *keys: str) -> Record:
        """Return this record if its keys are exactly `keys`.

        Raises:
            InstrumentError: naming the first unknown or missing key.
        """
        for key in self.entries:
            if key not in keys:
                near = difflib.get_close_matches(key, keys, n=1)
                hint = f"did you mean {near[0]!r}?" if near else f"allowed: {', '.join(keys)}"
                raise self.wrong(f"unknown key {key!r}; {hint}")
        for key in keys:
            if key not in self.entries:
                raise self.wrong(f"key {key!r} is missing; needed: {', '.join(keys)}")
        return self

    def named(self, key: str = "id") -> Record:
        """Return this record with its own name (the text under `key`) added to the place."""
        return Record(f"{self.where}: {self.text(key)}", self.entries)

    def text(self, key: str) -> str:
        """Return the text under `key`: not empty, without space at either end, on one line."""
        value = self._present(key)
        if not isinstance(value, str):
            raise self.wrong(f"{key!r} is {value!r}, expected a text")
        if not value.strip():
            raise self.wrong(f"{key!r} is empty")
        if value != " ".join(value.split()):
            raise self.wrong(f"{key!r} has extra white space or a line break: {value!r}")
        return value

    def optional_text(self, key: str) -> str | None:
        """Return the text under `key`, or None where the file says null."""
        return None if self._present(key) is None else self.text(key)

    def choice(self, key: str, allowed: tuple[str, ...]) -> str:
        """Return the text under `key`, which is one of `allowed`."""
        value = self.text(key)
        if value not in allowed:
            raise self.wrong(f"{key!r} is {value!r}, allowed: {', '.join(allowed)}")
        return value

    def texts(self, key: str, count: int | None = None) -> tuple[str, ...]:
        """Return the distinct texts listed under `key`; exactly `count` of them if that is given."""
        values = self._list(key)
        if count is not None and len(values) != count:
            raise self.wrong(f"{key!r} has {len(values)} entries, expected {count}")
        each = Record(self.where, {f"{key}[{n}]": value for n, value in enumerate(values)})
        found = tuple(each.text(name) for name in each.entries)
        self._distinct(key, found)
        return found

    def record(self, key: str) -> Record:
        """Return the mapping under `key`."""
        return _record(f"{self.where}: {key}", self._present(key))

    def records(self, key: str) -> tuple[Record, ...]:
        """Return the mappings listed under `key`, each named by its place in the list."""
        return tuple(_record(f"{self.where}: {key}[{n}]", value) for n, value in enumerate(self._list(key)))

    def _present(self, key: str) -> object:
        if key not in self.entries:
            raise self.wrong(f"key {key!r} is missing")
        return self.entries[key]

    def _list(self, key: str) -> list[object]:
        value = self._present(key)
        if not isinstance(value, list) or not value:
            raise self.wrong(f"{key!r} is {value!r}, expected a list with at least one entry")
        return value

    def _distinct(self, key: str, values: Iterable[str]) -> None:
        twice = first_repeat(values)
        if twice is not None:
            raise self.wrong(f"{key!r} holds {twice!r} twice")


def _record(where: str, value: object) -> Record:
    if not isinstance(value, Mapping):
        raise InstrumentError(f"{where}: {value!r} is not a mapping of keys to values")
    for key in value:
        if not isinstance(key, str):
            raise InstrumentError(f"{where}: key {key!r} is not a text")
    return Record(where, value)


def first_repeat(values: Iterable[str]) -> str | None:
    """Return the first value that has occurred before, ignoring case, or None.

    >>> first_repeat(["a", "b", "A"])
    'A'
    """
    seen: set[str] = set()
    for value in values:
        if value.casefold() in seen:
            return value
        seen.add(value.casefold())
    return None


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except OSError as cause:
        raise InstrumentError(f"{path.as_posix()}: cannot be read: {cause.strerror}") from None
    except UnicodeDecodeError as cause:
        raise InstrumentError(f"{path.as_posix()}: not UTF-8 text (byte {cause.start})") from None


def _headed(record: Record, kind: str) -> Record:
    """Return `record` if its header is whole and says `kind`."""
    record.choice("kind", (kind,))
    for key in HEADER:
        record.text(key)
    return record


def read_yaml(path: Path) -> Record:
    """Return the mapping that a YAML file holds.

    Raises:
        InstrumentError: if the file is absent, not YAML, repeats a key, or is not a mapping.
    """
    try:
        value = yaml.load(_read(path), Loader=_StrictLoader)
    except yaml.YAMLError as cause:
        raise InstrumentError(f"{path.as_posix()}: not readable as YAML: {' '.join(str(cause).split())}") from None
    return _record(path.as_posix(), value)


def read_headed_yaml(path: Path, kind: str, *keys: str) -> Record:
    """Return a YAML file of `kind` whose keys are exactly those of the header and `keys`."""
    return _headed(read_yaml(path).only(*HEADER, *keys), kind)


def read_headed_jsonl(path: Path, kind: str, *keys: str) -> tuple[Record, ...]:
    """Return the records of a JSON-lines file of `kind`: line 1 is the header, every later line has exactly `keys`."""
    lines = [_line(path, number, line) for number, line in enumerate(_read(path).rstrip("\n").split("\n"), start=1)]
    if len(lines) < 2:
        raise InstrumentError(f"{path.as_posix()}: {len(lines)} lines, expected a header and at least one record")
    _headed(lines[0].only(*HEADER), kind)
    return tuple(line.only(*keys) for line in lines[1:])


def _line(path: Path, number: int, line: str) -> Record:
    where = f"{path.as_posix()}: line {number}"
    try:
        value = json.loads(line, object_pairs_hook=_unique_pairs)
    except ValueError as cause:
        raise InstrumentError(f"{where}: not readable as JSON: {cause}") from None
    return _record(where, value)
