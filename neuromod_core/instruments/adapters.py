"""Instruments from elsewhere: a user's scale in CSV or YAML, samples of inspect_ai, tasks of the lm-evaluation-harness.

Files are read as data. No code of theirs is run and neither package is needed: a task whose prompts are made by Python
is refused with a line that says so.
"""

from __future__ import annotations

import csv
import io
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

import yaml
from jinja2 import StrictUndefined, TemplateError
from jinja2.sandbox import SandboxedEnvironment

from neuromod_core.instruments.load import load_scale
from neuromod_core.instruments.records import first_repeat
from neuromod_core.instruments.tasks.problem import Problem
from neuromod_core.instruments.texts import Item, Scale, Subscale, Text, Wording
from neuromod_core.kernel.errors import InstrumentError

COLUMNS = ("id", "subscale", "keyed", "antonym")
INSPECT, HARNESS = "inspect:", "lm-eval:"
CHOICES, WRITTEN = "multiple_choice", "generate_until"
_NUMBER = re.compile(r"-?\d[\d,]*(?:\.\d+)?")
Entry: TypeAlias = Mapping[str, object]


@dataclass(frozen=True)
class Written(Text):
    """A question that is answered in writing; any of `accepted` is right."""

    id: str
    prompt: str
    accepted: tuple[str, ...]

    def marked(self, reply: str) -> bool | None:
        """Return whether a reply is right; None for an empty one, which is missing and not wrong.

        Exact match of the first line that says something, without case and the marks around it; where what is accepted
        is a number, of the last number of the reply.
        """
        lines = [_bare(line) for line in reply.splitlines() if _bare(line)]
        if not lines:
            return None
        if all(_NUMBER.fullmatch(each) for each in self.accepted):
            found = _NUMBER.findall(reply)
            return bool(found) and _value(found[-1]) in {_value(each) for each in self.accepted}
        return lines[0] in {_bare(each) for each in self.accepted}


@dataclass(frozen=True)
class Task(Text):
    """An imported task: problems with options, or questions answered in writing; one of the two."""

    name: str
    source: str
    problems: tuple[Problem, ...]
    written: tuple[Written, ...]

    @property
    def size(self) -> int:
        """Return the number of items."""
        return len(self.problems) + len(self.written)


def read_instrument(source: str, data: str | None = None) -> Scale | Task:
    """Return the instrument that a source names: FILE.csv or FILE.yaml, inspect:FILE.jsonl, lm-eval:TASK.yaml.

    data: the JSON-lines file of an lm-eval task, where the task itself does not name one.

    Raises:
        InstrumentError: for a file that cannot be read as that, naming the place.
    """
    if source.startswith(INSPECT):
        return inspect_task(Path(source.removeprefix(INSPECT)))
    if source.startswith(HARNESS):
        return harness_task(Path(source.removeprefix(HARNESS)), None if data is None else Path(data))
    path = Path(source)
    if path.suffix == ".csv":
        return scale_of_csv(path)
    if path.suffix in (".yaml", ".yml"):
        return load_scale(path)
    raise InstrumentError(
        f"{source}: an instrument is FILE.csv or FILE.yaml, {INSPECT}FILE.jsonl or {HARNESS}TASK.yaml."
    )


# -------------------------------------------------------------------------------------------------------------- scales


def scale_of_csv(path: Path) -> Scale:
    """Return the scale in a CSV file with the columns id, subscale, keyed, antonym (keyed_2, antonym_2, ...).

    The scale is named after the file. Every item is keyed: `keyed` states what the scale is about, `antonym` the
    opposite at about the same length.

    Raises:
        InstrumentError: for a missing or unknown column, an empty cell, an id or a sentence that occurs twice, or fewer
            than two items, naming the line.
    """
    reader = csv.DictReader(io.StringIO(_read(path)))
    extra, rows = _wording_columns(path, reader.fieldnames or ()), list(reader)
    if len(rows) < 2:
        raise InstrumentError(f"{path.as_posix()}: {len(rows)} items; a scale needs at least two.")
    items = tuple(_csv_item(path, number, row, extra) for number, row in enumerate(rows, start=2))
    for what, values in (
        ("item ids", [item.id for item in items]),
        ("sentences", [text for item in items for each in item.wordings for text in (each.keyed, each.antonym)]),
    ):
        if (twice := first_repeat(values)) is not None:
            raise InstrumentError(f"{path.as_posix()}: two {what} are {twice!r}.")
    names = dict.fromkeys(item.subscale for item in items)
    return Scale(path.stem, path.stem, "imported", tuple(Subscale(name, name) for name in names), items)


def _wording_columns(path: Path, header: Sequence[str]) -> list[tuple[str, str]]:
    """Return the pairs of columns that hold further wordings."""
    for name in COLUMNS:
        if name not in header:
            raise InstrumentError(f"{path.as_posix()}: no column {name!r}; needed: {', '.join(COLUMNS)}.")
    further = [name for name in header if name not in COLUMNS]
    pairs = [(f"keyed_{number}", f"antonym_{number}") for number in range(2, 2 + len(further) // 2)]
    for other in further:
        if other not in {column for pair in pairs for column in pair}:
            raise InstrumentError(
                f"{path.as_posix()}: unknown column {other!r}; allowed: {', '.join(COLUMNS)}, keyed_2, antonym_2, ..."
            )
    return pairs


def _csv_item(path: Path, line: int, row: Mapping[str, str | None], extra: Sequence[tuple[str, str]]) -> Item:
    where = f"{path.as_posix()}: line {line}"
    if any(key is None for key in row):
        raise InstrumentError(f"{where}: more cells than columns; a text with a comma stands in quotation marks.")
    cells = {key: " ".join((value or "").split()) for key, value in row.items()}
    for key, cell in cells.items():
        if not cell:
            raise InstrumentError(f"{where}: {key!r} is empty.")
    return Item(
        id=cells["id"],
        subscale=cells["subscale"],
        keyed=cells["keyed"],
        antonym=cells["antonym"],
        paraphrases=tuple(Wording(cells[keyed], cells[antonym]) for keyed, antonym in extra),
    )


# ---------------------------------------------------------------------------------------------------------- inspect_ai


def inspect_task(path: Path) -> Task:
    """Return the task in the samples of an inspect_ai dataset: JSON lines with input, target and perhaps choices.

    With choices, target is a letter (A is the first); without, a text or a list of texts that count as right.
    An input that is a conversation must be one user message: replies in between belong to a model.

    Raises:
        InstrumentError: for a sample that is not as it must be, naming the line.
    """
    problems, written = [], []
    for number, entry in _lines(path):
        where = f"{path.as_posix()}: line {number}"
        name, prompt = str(entry.get("id", number)), _input(where, entry)
        target = entry.get("target")
        if entry.get("choices") is None:
            written.append(Written(name, prompt, _accepted(where, target)))
        else:
            options = _texts(where, "choices", entry["choices"])
            letters = [chr(ord("A") + place) for place in range(len(options))]
            if target not in letters:
                raise InstrumentError(f"{where}: target is {target!r}; with choices it is one of {', '.join(letters)}.")
            problems.append(_problem(where, path.stem, name, prompt, options, letters.index(str(target))))
    return _task(path, f"{INSPECT}{path.name}", problems, written)


def _input(where: str, entry: Entry) -> str:
    value = entry.get("input")
    if isinstance(value, list) and len(value) == 1 and isinstance(value[0], dict) and value[0].get("role") == "user":
        value = value[0].get("content")
    if not isinstance(value, str) or not value.strip():
        raise InstrumentError(f"{where}: input is {value!r:.60}; a text or one user message is needed.")
    return value.strip()


# ----------------------------------------------------------------------------------------------------- lm-eval harness


class _HarnessLoader(yaml.SafeLoader):
    """A safe YAML loader that names what a task asks Python for."""


def _no_code(loader: yaml.SafeLoader, node: yaml.Node) -> object:
    value = node.value if isinstance(node, yaml.ScalarNode) else "code"
    raise yaml.constructor.ConstructorError(None, None, f"it asks for Python ({value}), which is not run", None)


_HarnessLoader.add_constructor("!function", _no_code)


def harness_task(path: Path, data: Path | None = None) -> Task:
    """Return the task that a YAML file of the lm-evaluation-harness describes, with its data in JSON lines.

    Read are task, output_type (multiple_choice or generate_until), doc_to_text, doc_to_choice, doc_to_target, and the
    data file under dataset_kwargs (data_files), beside the task. Fields are names of columns or Jinja templates.
    Examples (num_fewshot), filters and metrics are not taken over: items are ranked, or matched exactly.

    Raises:
        InstrumentError: for a task that needs code or another output type, a missing key or file, or a document to
            which a template does not apply, naming the line.
    """
    task = _harness_settings(path)
    kind = task.get("output_type", CHOICES)
    if kind not in (CHOICES, WRITTEN):
        raise InstrumentError(f"{path.as_posix()}: output_type is {kind!r}; {CHOICES} and {WRITTEN} can be read.")
    file = data or _data_file(path, task)
    problems, written = [], []
    for number, entry in _lines(file):
        where = f"{file.as_posix()}: line {number}"
        prompt = _rendered(where, task["doc_to_text"], entry)
        target = _target(where, task["doc_to_target"], entry)
        if kind == WRITTEN:
            written.append(Written(str(number), prompt.strip(), _accepted(where, target)))
            continue
        options = _choices(where, task.get("doc_to_choice"), entry)
        place = _place(where, target, options)
        problems.append(_problem(where, str(task["task"]), str(number), prompt.strip(), options, place))
    return _task(path, f"{HARNESS}{path.name}", problems, written, str(task["task"]))


def _harness_settings(path: Path) -> Entry:
    try:
        task = yaml.load(_read(path), Loader=_HarnessLoader)
    except yaml.YAMLError as cause:
        raise InstrumentError(f"{path.as_posix()}: not a task that can be read: {_line_of(cause)}") from None
    if not isinstance(task, dict):
        raise InstrumentError(f"{path.as_posix()}: not a task: a mapping of keys to values is needed.")
    if "include" in task:
        raise InstrumentError(f"{path.as_posix()}: includes {task['include']!r}; write its keys into this file.")
    for key in ("task", "doc_to_text", "doc_to_target"):
        if key not in task:
            raise InstrumentError(f"{path.as_posix()}: key {key!r} is missing.")
    return task


def _data_file(path: Path, task: Entry) -> Path:
    """Return the data file that a task names, beside it."""
    given = task.get("dataset_kwargs")
    files = given.get("data_files") if isinstance(given, dict) else None
    if isinstance(files, dict):
        split = task.get("test_split") or task.get("validation_split")
        files = files.get(split)
    if not isinstance(files, str):
        raise InstrumentError(
            f"{path.as_posix()}: names no data file (dataset_kwargs: data_files: ...); give it with --data FILE."
        )
    return path.parent / files


def _rendered(where: str, template: object, entry: Entry) -> str:
    """Return what a field says of a document: the column it names, or its Jinja template filled in."""
    if isinstance(template, int):
        return str(template)
    if not isinstance(template, str):
        raise InstrumentError(f"{where}: {template!r} is no name of a column and no template.")
    if template in entry:
        return str(entry[template])
    try:
        text: str = SandboxedEnvironment(undefined=StrictUndefined).from_string(template).render(**entry)
    except TemplateError as cause:
        raise InstrumentError(f"{where}: {template!r:.60} does not apply: {cause}.") from None
    return text


def _target(where: str, template: object, entry: Entry) -> object:
    if isinstance(template, str) and template in entry:
        return entry[template]
    return template if isinstance(template, list) else _rendered(where, template, entry)


def _choices(where: str, field: object, entry: Entry) -> tuple[str, ...]:
    if isinstance(field, list):
        return tuple(_rendered(where, each, entry) if "{{" in str(each) else str(each) for each in field)
    if isinstance(field, str):
        value = entry[field] if field in entry else _listed(_rendered(where, field, entry))
        return _texts(where, "doc_to_choice", value)
    raise InstrumentError(f"{where}: doc_to_choice is {field!r}; a list, a column or a template is needed.")


def _listed(text: str) -> object:
    """Return the list that a template printed."""
    try:
        return yaml.safe_load(text)
    except yaml.YAMLError:
        return text


def _place(where: str, target: object, options: Sequence[str]) -> int:
    """Return the index of the right option: a number, or the option itself."""
    if isinstance(target, bool):
        return int(target)
    text = str(target).strip()
    if text in options:
        return options.index(text)
    if re.fullmatch(r"\d+", text) and int(text) < len(options):
        return int(text)
    raise InstrumentError(f"{where}: target {target!r} is none of {len(options)} options, nor the place of one.")


# -------------------------------------------------------------------------------------------------------------- common


def _task(path: Path, source: str, problems: list[Problem], written: list[Written], name: str | None = None) -> Task:
    if bool(problems) == bool(written):
        what = "no sample" if not problems else "samples with choices and samples without; one kind is needed"
        raise InstrumentError(f"{path.as_posix()}: {what}.")
    if (twice := first_repeat([*(each.id for each in problems), *(each.id for each in written)])) is not None:
        raise InstrumentError(f"{path.as_posix()}: two samples have the id {twice!r}.")
    return Task(name or path.stem, source, tuple(problems), tuple(written))


def _problem(where: str, task: str, name: str, prompt: str, options: tuple[str, ...], truth: int) -> Problem:
    try:
        return Problem(name, task, 1, prompt, options, truth)
    except InstrumentError as error:
        raise InstrumentError(f"{where}: {error}") from None


def _accepted(where: str, target: object) -> tuple[str, ...]:
    values = target if isinstance(target, list) else [target]
    accepted = tuple(str(value).strip() for value in values if isinstance(value, str | int | float))
    if not accepted or not all(_bare(each) for each in accepted):
        raise InstrumentError(f"{where}: target is {target!r:.60}; a text or a list of texts is needed.")
    return accepted


def _texts(where: str, key: str, value: object) -> tuple[str, ...]:
    if not isinstance(value, list) or not all(isinstance(each, str) and each.strip() for each in value):
        raise InstrumentError(f"{where}: {key} is {value!r:.60}; a list of texts is needed.")
    return tuple(each.strip() for each in value)


def _bare(text: str) -> str:
    """Return a text in lower case, without white space and marks at its ends."""
    return re.sub(r"^\W+|\W+$", "", " ".join(text.casefold().split()))


def _value(number: str) -> float:
    return float(number.replace(",", ""))


def _lines(path: Path) -> Iterator[tuple[int, Entry]]:
    """Yield the numbered mappings of a JSON-lines file."""
    for number, line in enumerate(_read(path).splitlines(), start=1):
        if not line.strip():
            continue
        try:
            entry = json.loads(line)
        except ValueError as cause:
            raise InstrumentError(f"{path.as_posix()}: line {number}: not JSON: {cause}.") from None
        if not isinstance(entry, dict):
            raise InstrumentError(f"{path.as_posix()}: line {number}: {line!r:.40} is not a mapping.")
        yield number, entry


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8-sig")
    except OSError as cause:
        raise InstrumentError(f"{path.as_posix()}: cannot be read: {cause.strerror}.") from None
    except UnicodeDecodeError as cause:
        raise InstrumentError(f"{path.as_posix()}: not UTF-8 text (byte {cause.start}).") from None


def _line_of(cause: yaml.YAMLError) -> str:
    return " ".join(str(cause).split())
