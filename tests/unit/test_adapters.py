"""Instruments from elsewhere: what is read, and the one line that a wrong file gets."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from neuromod_core.instruments import Scale
from neuromod_core.instruments.adapters import Task, Written, read_instrument
from neuromod_core.kernel.errors import InstrumentError

CSV = "id,subscale,keyed,antonym,keyed_2,antonym_2\n"
ROWS = (
    'm1,mood,"I hum, loudly, today.",I am silent today.,A tune is on my lips.,No tune is on my lips.\n'
    "m2,mood,My steps are light.,My steps are heavy.,I walk with ease.,I walk with effort.\n"
)
TASK = """
task: rivers
output_type: multiple_choice
dataset_kwargs: {data_files: {test: rivers.jsonl}}
test_split: test
doc_to_text: "{{question}}\\nAnswer:"
doc_to_choice: choices
doc_to_target: label
num_fewshot: 0
"""
RIVERS = [
    {"question": "Which river is longer?", "choices": ["Nile", "Thames"], "label": 0},
    {"question": "Which river is in London?", "choices": ["Nile", "Thames", "Po"], "label": "Thames"},
]


def lines(path: Path, entries: list[dict[str, object]]) -> Path:
    path.write_text("".join(json.dumps(entry) + "\n" for entry in entries), "utf-8")
    return path


def task(folder: Path, text: str = TASK, entries: list[dict[str, object]] = RIVERS) -> str:
    lines(folder / "rivers.jsonl", entries)
    (folder / "rivers.yaml").write_text(text, "utf-8")
    return f"lm-eval:{folder / 'rivers.yaml'}"


def as_task(source: str) -> Task:
    found = read_instrument(source)
    assert isinstance(found, Task)
    return found


def test_a_scale_in_csv(tmp_path: Path) -> None:
    (tmp_path / "cheer.csv").write_text(CSV + ROWS, "utf-8")
    scale = read_instrument(str(tmp_path / "cheer.csv"))
    assert isinstance(scale, Scale)
    assert scale.name == "cheer"
    assert [item.id for item in scale.items] == ["m1", "m2"]
    assert scale.items[0].keyed == "I hum, loudly, today."
    assert scale.items[1].wordings[1].antonym == "I walk with effort."
    assert scale.positions("mood") == (0, 1)


def test_a_scale_in_the_form_of_the_project() -> None:
    scale = read_instrument("datasets/instruments/pdq_s.yaml")
    assert isinstance(scale, Scale)
    assert len(scale.items) == 15


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("id,keyed,antonym\n", "no column 'subscale'; needed: id, subscale, keyed, antonym."),
        ("id,subscale,keyed,antonym,mood\na,b,c,d,e\n", "unknown column 'mood'"),
        ("id,subscale,keyed,antonym,keyed_3,antonym_3\na,b,c,d,e,f\n", "unknown column 'keyed_3'"),
        (CSV + ROWS.splitlines()[0] + "\n", "1 items; a scale needs at least two."),
        (CSV + "m1,mood,a,b,c,\n" + ROWS, "line 2: 'antonym_2' is empty."),
        (CSV + "m1,mood,a,b,c,d,e\n" + ROWS, "line 2: more cells than columns"),
        (CSV + ROWS + ROWS.replace("hum", "sing").replace("m2", "m3"), "two item ids are 'm1'."),
        (CSV + ROWS + ROWS.replace("m1", "m3").replace("m2", "m4"), "two sentences are 'I hum, loudly, today.'."),
    ],
)
def test_a_wrong_csv_is_one_line_that_says_where(tmp_path: Path, text: str, line: str) -> None:
    (tmp_path / "cheer.csv").write_text(text, "utf-8")
    with pytest.raises(InstrumentError) as caught:
        read_instrument(str(tmp_path / "cheer.csv"))
    assert str(caught.value).startswith(str(tmp_path / "cheer.csv"))
    assert line in str(caught.value)
    assert "\n" not in str(caught.value)


def test_samples_of_inspect_with_choices(tmp_path: Path) -> None:
    entries: list[dict[str, object]] = [
        {"input": "Pick a colour.", "choices": ["red", "loud"], "target": "A", "id": "q"},
        {"input": [{"role": "user", "content": "Pick a sound."}], "choices": ["red", "loud"], "target": "B"},
    ]
    found = as_task(f"inspect:{lines(tmp_path / 's.jsonl', entries)}")
    assert [(one.id, one.prompt, one.answer) for one in found.problems] == [
        ("q", "Pick a colour.", "red"),
        ("2", "Pick a sound.", "loud"),
    ]
    assert found.size == 2


def test_samples_of_inspect_answered_in_writing(tmp_path: Path) -> None:
    entries: list[dict[str, object]] = [
        {"input": "Capital of France?", "target": ["Paris", "Paris, France"]},
        {"input": "6 x 7?", "target": 42},
    ]
    paris, sum_ = as_task(f"inspect:{lines(tmp_path / 's.jsonl', entries)}").written
    assert [paris.marked(text) for text in ("Paris.", " PARIS \n is right", "It is Paris", "", " \n")] == [
        True,
        True,
        False,
        None,
        None,
    ]
    assert [sum_.marked(text) for text in ("6 x 7 = 42.", "41", "about forty", "42, or 41?")] == [
        True,
        False,
        False,
        False,
    ]


def test_a_task_of_the_harness(tmp_path: Path) -> None:
    found = as_task(task(tmp_path))
    assert found.name == "rivers"
    assert [(one.prompt, one.answer, one.chance) for one in found.problems] == [
        ("Which river is longer?\nAnswer:", "Nile", 1 / 2),
        ("Which river is in London?\nAnswer:", "Thames", 1 / 3),
    ]
    written = TASK.replace("multiple_choice", "generate_until").replace("doc_to_target: label", "doc_to_target: best")
    told = as_task(task(tmp_path, written, [{"question": "Longest river?", "best": "Nile"}]))
    assert told.written == (Written("1", "Longest river?\nAnswer:", ("Nile",)),)
    listed = TASK.replace("doc_to_choice: choices", 'doc_to_choice: ["yes", "no"]')
    entries: list[dict[str, object]] = [{"question": "Is it wet?", "label": False}]
    assert as_task(task(tmp_path, listed, entries)).problems[0].answer == "yes"


def test_data_may_be_named_beside_the_task(tmp_path: Path) -> None:
    source = task(tmp_path, TASK.replace("dataset_kwargs: {data_files: {test: rivers.jsonl}}\n", ""))
    with pytest.raises(InstrumentError, match="names no data file"):
        read_instrument(source)
    found = read_instrument(source, str(tmp_path / "rivers.jsonl"))
    assert isinstance(found, Task)
    assert found.size == 2


@pytest.mark.parametrize(
    ("change", "line"),
    [
        (('"{{question}}\\nAnswer:"', "!function utils.text"), "it asks for Python (utils.text), which is not run"),
        (("multiple_choice", "loglikelihood"), "output_type is 'loglikelihood'"),
        (("task: rivers", "include: base.yaml"), "includes 'base.yaml'"),
        (("doc_to_target: label\n", ""), "key 'doc_to_target' is missing."),
        (("doc_to_text", "doc_to_txt"), "key 'doc_to_text' is missing."),
        (("{{question}}", "{{passage}}"), "line 1: '{{passage}}\\nAnswer:' does not apply: 'passage' is undefined."),
        (("rivers.jsonl", "lakes.jsonl"), "lakes.jsonl: cannot be read: No such file or directory."),
        (("doc_to_target: label", "doc_to_target: question"), "target 'Which river is longer?' is none of 2 options"),
        (("doc_to_choice: choices", "doc_to_choice: question"), "a list of texts is needed."),
    ],
)
def test_a_task_that_cannot_be_read_is_one_line(tmp_path: Path, change: tuple[str, str], line: str) -> None:
    with pytest.raises(InstrumentError) as caught:
        read_instrument(task(tmp_path, TASK.replace(*change)))
    assert line in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("entries", "line"),
    [
        ([{"input": "", "target": "a"}], "line 1: input is ''"),
        ([{"input": [{"role": "system", "content": "x"}], "target": "a"}], "a text or one user message is needed."),
        ([{"input": "a", "target": []}], "line 1: target is []"),
        ([{"input": "a", "choices": ["x", "y"], "target": "C"}], "with choices it is one of A, B."),
        ([{"input": "a", "choices": ["x", "x"], "target": "A"}], "two or more distinct options"),
        ([{"input": "a", "target": "b"}, {"input": "c", "choices": ["x", "y"], "target": "A"}], "one kind is needed"),
        (
            [{"input": "a", "target": "b", "id": 1}, {"input": "c", "target": "d", "id": 1}],
            "two samples have the id '1'",
        ),
        ([], "no sample"),
    ],
)
def test_wrong_samples_are_one_line(tmp_path: Path, entries: list[dict[str, object]], line: str) -> None:
    with pytest.raises(InstrumentError) as caught:
        read_instrument(f"inspect:{lines(tmp_path / 's.jsonl', entries)}")
    assert line in str(caught.value)


def test_what_is_no_instrument_is_said() -> None:
    with pytest.raises(InstrumentError, match=r"an instrument is FILE\.csv or FILE\.yaml, inspect:FILE\.jsonl or"):
        read_instrument("notes.txt")
