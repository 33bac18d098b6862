from __future__ import annotations

import copy
import dataclasses
import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from neuromod_core.instruments import (
    load_frames,
    load_openers,
    load_passages,
    load_scale,
    load_scales,
    load_vignettes,
)
from neuromod_core.instruments.load import load_validity
from neuromod_core.instruments.texts import Wording
from neuromod_core.kernel.errors import InstrumentError, UnknownName

HEADER = {"title": "A title", "version": "1.0", "licence": "CC-BY-4.0", "author": "Somebody"}
SCALE: dict[str, Any] = {
    "kind": "scale",
    "scale": "mini",
    **HEADER,
    "consistency": "m2",
    "subscales": {"wet": "wetness", "dry": "dryness"},
    "items": [
        {
            "id": "m1",
            "subscale": "wet",
            "keyed": "It rains.",
            "antonym": "It shines.",
            "paraphrases": [
                {"keyed": "Drops fall.", "antonym": "Rays fall."},
                {"keyed": "I get wet.", "antonym": "I get warm."},
            ],
        },
        {
            "id": "m2",
            "subscale": "dry",
            "keyed": "The well is empty.",
            "antonym": "The well is full.",
            "paraphrases": [
                {"keyed": "No water is left.", "antonym": "Much water is left."},
                {"keyed": "My bucket comes up dry.", "antonym": "My bucket comes up wet."},
            ],
        },
    ],
}
ADOPTED: dict[str, Any] = {
    **{key: value for key, value in SCALE.items() if key != "consistency"},
    "paraphrases": "none",
    "source": {"text": "A pool, public domain", "citation": "Somebody 2001", "own": ["m1 keyed", "m2 antonym"]},
    "items": [{key: item[key] for key in ("id", "subscale", "keyed", "antonym")} for item in SCALE["items"]],
}
VALIDITY: dict[str, Any] = {
    "kind": "validity",
    **HEADER,
    "infrequency": [{"id": "c1", "text": "I am a cloud.", "expected": ["a", "b"]}],
    "instructed": [{"id": "c2", "text": "Say e to me.", "expected": ["e"]}],
}
FRAMES: dict[str, Any] = {
    "kind": "frames",
    **HEADER,
    "system": "You answer.",
    "question": "How is it?",
    "options": {"labels": ["a", "b", "c", "d", "e"], "lead_in": "S:", "content_free": ["N/A"]}
    | {name: {"instruction": "Rate.", "closing": "Go."} for name in ("digits", "letters", "words")},
    "states": [{"id": "wet", "scale": "mini", "system": "Be wet."}, {"id": "flat", "scale": None, "system": "Be."}],
    "persona": "Speak as rain.",
}
OPENERS: dict[str, Any] = {"kind": "openers", **HEADER, "openers": [{"id": "a", "text": "Go on: rain."}]}
VIGNETTES: list[dict[str, Any]] = [
    {"kind": "vignettes", **HEADER},
    {"id": "v1", "topic": "rain", "split": "study", "paraphrases": ["One.", "Two.", "Three."]},
    {"id": "v2", "topic": "sun", "split": "pilot", "paraphrases": ["Four.", "Five.", "Six."]},
]
PASSAGES: list[dict[str, Any]] = [
    {"kind": "passages", **HEADER},
    {"id": "n1", "topic": "rain", "split": "probe", "text": "Rain is water."},
    {"id": "n2", "topic": "sun", "split": "calibration", "text": "The sun is a star."},
]


@pytest.fixture(autouse=True)
def _in_an_empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def as_yaml(value: object, name: str = "mini.yaml") -> Path:
    path = Path(name)
    path.write_text(yaml.safe_dump(value, sort_keys=False), "utf-8")
    return path


def as_lines(values: list[dict[str, Any]], name: str = "mini.jsonl") -> Path:
    path = Path(name)
    path.write_text("".join(json.dumps(value) + "\n" for value in values), "utf-8")
    return path


def changed(value: Any, place: tuple[str | int, ...], new: object) -> Any:
    """Return a copy of `value` with what stands at `place` replaced; DELETED takes the key away."""
    whole = copy.deepcopy(value)
    inner = whole
    for key in place[:-1]:
        inner = inner[key]
    if new is DELETED:
        del inner[place[-1]]
    else:
        inner[place[-1]] = new
    return whole


DELETED = object()
Place = tuple[str | int, ...]


def expect(load: Callable[[Path], object], path: Path, message: str) -> None:
    with pytest.raises(InstrumentError, match=f"^{re.escape(message)}$"):
        load(path)


def test_a_scale_keeps_every_word_and_the_order_of_its_items() -> None:
    scale = load_scale(as_yaml(SCALE))
    assert (scale.name, scale.title, scale.version) == ("mini", "A title", "1.0")
    assert [
        {**dataclasses.asdict(i), "paraphrases": [*map(dataclasses.asdict, i.paraphrases)]} for i in scale.items
    ] == (SCALE["items"])
    assert [pair.keyed for pair in scale.items[0].wordings] == ["It rains.", "Drops fall.", "I get wet."]
    assert scale.items[0].wordings[0] == Wording("It rains.", "It shines.")
    assert {group.name: group.label for group in scale.subscales} == SCALE["subscales"]
    assert (scale.positions("wet"), scale.positions("dry")) == ((0,), (1,))
    with pytest.raises(UnknownName, match=re.escape("No subscale is called 'wett' (mini). Did you mean 'wet'?")):
        scale.positions("wett")


@pytest.mark.parametrize(
    ("place", "new", "message"),
    [
        (("items", 0, "keyd"), "It pours.", "items[0]: unknown key 'keyd'; did you mean 'keyed'?"),
        (("items", 0, "zzz"), "x", "items[0]: unknown key 'zzz'; allowed: id, subscale, keyed, antonym, paraphrases"),
        (
            ("items", 1, "antonym"),
            DELETED,
            "items[1]: key 'antonym' is missing; needed: id, subscale, keyed, antonym, paraphrases",
        ),
        (
            ("items", 1, "paraphrases"),
            DELETED,
            "items[1]: key 'paraphrases' is missing; needed: id, subscale, keyed, antonym, paraphrases",
        ),
        (
            ("items", 1, "paraphrases"),
            SCALE["items"][1]["paraphrases"][:1],
            "items[1]: m2: 'paraphrases' has 1 entries, expected 2",
        ),
        (
            ("items", 1, "paraphrases", 1),
            {"keyed": "Dust."},
            "items[1]: m2: paraphrases[1]: key 'antonym' is missing; needed: keyed, antonym",
        ),
        (("items", 1, "paraphrases", 0, "keyed"), "", "items[1]: m2: paraphrases[0]: 'keyed' is empty"),
        (("items", 1, "paraphrases", 0, "keyed"), "drops FALL.", "two sentences are 'drops FALL.'"),
        (("consistency",), "m3", "'consistency' is 'm3', which is no item of this scale"),
        (("items", 0, "keyed"), " ", "items[0]: m1: 'keyed' is empty"),
        (("items", 0, "keyed"), 3, "items[0]: m1: 'keyed' is 3, expected a text"),
        (("items", 0, "keyed"), None, "items[0]: m1: 'keyed' is None, expected a text"),
        (
            ("items", 0, "keyed"),
            "It  rains.",
            "items[0]: m1: 'keyed' has extra white space or a line break: 'It  rains.'",
        ),
        (("items", 0, "subscale"), "wett", "items[0]: m1: 'subscale' is 'wett', allowed: wet, dry"),
        (("items", 1, "subscale"), "wet", "subscales: subscale 'dry' has no item"),
        (("items", 1, "id"), "m1", "two item ids are 'm1'"),
        (("items", 1, "antonym"), "it RAINS.", "two sentences are 'it RAINS.'"),
        (("items",), [], "'items' is [], expected a list with at least one entry"),
        (("items", 0), "It rains.", "items[0]: 'It rains.' is not a mapping of keys to values"),
        (("subscales", 7), "seven", "subscales: key 7 is not a text"),
        (("scale",), "maxi", "'scale' is 'maxi', allowed: mini"),
        (("kind",), "frames", "'kind' is 'frames', allowed: scale"),
        (("version",), 1.0, "'version' is 1.0, expected a text"),
        (
            ("author",),
            DELETED,
            f"key 'author' is missing; needed: kind, {', '.join(HEADER)}, scale, consistency, subscales, items",
        ),
    ],
)
def test_a_wrong_scale_is_refused_in_one_line(place: Place, new: object, message: str) -> None:
    expect(load_scale, as_yaml(changed(SCALE, place, new)), f"mini.yaml: {message}")


def test_a_scale_of_adopted_sentences_has_one_wording_and_says_which_are_its_own() -> None:
    scale = load_scale(as_yaml(ADOPTED))
    assert [item.wordings for item in scale.items] == [
        (Wording(item["keyed"], item["antonym"]),) for item in ADOPTED["items"]
    ]
    assert scale.source is not None
    assert scale.source.own == ("m1 keyed", "m2 antonym")
    assert (scale.consistency, scale.consistency_item) == (None, None)


@pytest.mark.parametrize(
    ("place", "new", "message"),
    [
        (("paraphrases",), "two", "'paraphrases' is 'two', allowed: none"),
        (("consistency",), "m1", "unknown key 'consistency'; allowed: {}, paraphrases, source, subscales, items"),
        (("source",), DELETED, "key 'source' is missing; needed: {}, paraphrases, source, subscales, items"),
        (("source", "own", 0), "m1", "source: 'own' holds 'm1', expected an item id and 'keyed' or 'antonym'"),
        (("source", "own", 0), "m2 antonym", "source: 'own' holds 'm2 antonym' twice"),
    ],
)
def test_a_wrong_scale_of_adopted_sentences_is_refused(place: Place, new: object, message: str) -> None:
    known = ", ".join(["kind", *HEADER, "scale"])
    expect(load_scale, as_yaml(changed(ADOPTED, place, new)), f"mini.yaml: {message.format(known)}")


def test_the_consistency_item_is_absent_from_a_short_form_without_it() -> None:
    scale = load_scale(as_yaml(SCALE))
    assert scale.consistency_item == scale.items[1]
    assert dataclasses.replace(scale, items=scale.items[:1]).consistency_item is None


def test_checks_keep_their_order_and_give_levels_by_label() -> None:
    checks = load_validity(as_yaml(VALIDITY))
    assert [(check.id, check.kind, check.expected) for check in checks] == [
        ("c1", "infrequency", ("a", "b")),
        ("c2", "instructed", ("e",)),
    ]
    assert [check.levels(("a", "b", "c", "d", "e")) for check in checks] == [(0, 1), (4,)]
    with pytest.raises(UnknownName, match=re.escape("No option label is called 'e' (c2). Known: a, b.")):
        checks[1].levels(("a", "b"))


@pytest.mark.parametrize(
    ("place", "new", "message"),
    [
        (
            ("instructed", 0, "expected"),
            [],
            "instructed[0]: c2: 'expected' is [], expected a list with at least one entry",
        ),
        (("instructed", 0, "id"), "c1", "two check ids are 'c1'"),
        (("instructed", 0, "text"), "I am a CLOUD.", "two texts are 'I am a CLOUD.'"),
        (("instructed", 0, "level"), 4, "instructed[0]: unknown key 'level'; allowed: id, text, expected"),
        (("kind",), "scale", "'kind' is 'scale', allowed: validity"),
    ],
)
def test_wrong_checks_are_refused_in_one_line(place: Place, new: object, message: str) -> None:
    expect(load_validity, as_yaml(changed(VALIDITY, place, new)), f"mini.yaml: {message}")


def test_a_key_written_twice_is_refused_in_yaml_and_in_json() -> None:
    path = as_yaml(SCALE)
    path.write_text(path.read_text("utf-8") + "title: Another\n", "utf-8")
    with pytest.raises(InstrumentError, match=r"^mini\.yaml: not readable as YAML: key 'title' is written twice in "):
        load_scale(path)
    lines = as_lines(VIGNETTES)
    lines.write_text(lines.read_text("utf-8").replace('"topic": "sun"', '"topic": "sun", "topic": "sun"'), "utf-8")
    expect(load_vignettes, lines, "mini.jsonl: line 3: not readable as JSON: key 'topic' is written twice")


def test_a_file_that_is_absent_or_not_text_is_refused() -> None:
    expect(load_scale, Path("none.yaml"), "none.yaml: cannot be read: No such file or directory")
    Path("mini.yaml").write_bytes(b"title: \xff")
    expect(load_scale, Path("mini.yaml"), "mini.yaml: not UTF-8 text (byte 7)")
    Path("mini.yaml").write_text("- a list", "utf-8")
    expect(load_scale, Path("mini.yaml"), "mini.yaml: ['a list'] is not a mapping of keys to values")
    Path("mini.yaml").write_text("title: [unclosed", "utf-8")
    with pytest.raises(InstrumentError, match=r"^mini\.yaml: not readable as YAML: [^\n]+$"):
        load_scale(Path("mini.yaml"))


def test_a_folder_gives_its_scales_by_name_and_leaves_other_kinds_out() -> None:
    other = changed(changed(changed(SCALE, ("scale",), "a"), ("items", 0, "id"), "a1"), ("items", 1, "id"), "a2")
    as_yaml({**other, "consistency": "a1"}, "a.yaml"), as_yaml(VALIDITY, "checks.yaml")
    as_yaml(SCALE), as_yaml(FRAMES, "frames.yaml")
    assert [(name, scale.name) for name, scale in load_scales(Path()).items()] == [("a", "a"), ("mini", "mini")]


def test_a_folder_is_refused_for_a_kind_nobody_knows_a_shared_id_or_no_scale() -> None:
    as_yaml(FRAMES, "frames.yaml")
    expect(load_scales, Path(), ".: no YAML file of kind 'scale' in this folder")
    as_yaml(SCALE), as_yaml(changed(SCALE, ("scale",), "b"), "b.yaml")
    expect(load_scales, Path(), ".: two item ids are 'm1'")
    as_yaml(changed(SCALE, ("kind",), "scales"), "b.yaml")
    expect(load_scales, Path(), "b.yaml: 'kind' is 'scales', allowed: scale, frames, hygiene, validity")


def test_frames_find_a_state_by_name_and_by_the_scale_it_controls() -> None:
    frames = load_frames(as_yaml(FRAMES))
    assert frames.state("flat").system == "Be."
    assert frames.control_of("mini") == frames.state("wet")
    assert frames.labels == ("a", "b", "c", "d", "e")
    with pytest.raises(UnknownName, match=re.escape("No state is called 'flatt'. Did you mean 'flat'?")):
        frames.state("flatt")
    with pytest.raises(UnknownName, match=re.escape("No scale with a positive control is called 'x'. Known: mini.")):
        frames.control_of("x")


@pytest.mark.parametrize(
    ("place", "new", "message"),
    [
        (("options", "labels"), ["a", "b"], "options: 'labels' has 2 entries, expected 5"),
        (("options", "labels", 4), "A", "options: 'labels' holds 'A' twice"),
        (("options", "labels", 4), False, "options: 'labels[4]' is False, expected a text"),
        (("options", "digit"), {}, "options: unknown key 'digit'; did you mean 'digits'?"),
        (
            ("options", "words"),
            DELETED,
            "options: key 'words' is missing; needed: labels, lead_in, content_free, digits, letters, words",
        ),
        (("options", "words", "close"), "x", "options: words: unknown key 'close'; did you mean 'closing'?"),
        (("states", 1, "id"), "wet", "two state ids are 'wet'"),
        (("states", 1, "scale"), "mini", "two states' scales are 'mini'"),
        (("states", 1, "scale"), DELETED, "states[1]: key 'scale' is missing; needed: id, scale, system"),
        (("question",), "How\nis it?", "'question' has extra white space or a line break: 'How\\nis it?'"),
    ],
)
def test_wrong_frames_are_refused_in_one_line(place: Place, new: object, message: str) -> None:
    expect(load_frames, as_yaml(changed(FRAMES, place, new)), f"mini.yaml: {message}")


@pytest.mark.parametrize(
    ("place", "new", "message"),
    [
        ((1, "paraphrases"), ["One.", "Two."], "line 2: v1: 'paraphrases' has 2 entries, expected 3"),
        ((1, "paraphrases", 2), "one.", "line 2: v1: 'paraphrases' holds 'one.' twice"),
        ((2, "paraphrases", 2), "One.", "two texts are 'One.'"),
        ((2, "paraphrases", 2), "", "line 3: v2: 'paraphrases[2]' is empty"),
        ((2, "paraphrases"), "Four.", "line 3: v2: 'paraphrases' is 'Four.', expected a list with at least one entry"),
        ((2, "split"), "main", "line 3: v2: 'split' is 'main', allowed: study, pilot"),
        ((2, "id"), "v1", "two vignette ids are 'v1'"),
        ((2, "topic"), "Rain", "two topics are 'Rain'"),
        ((2, "topics"), "x", "line 3: unknown key 'topics'; did you mean 'topic'?"),
        ((0, "kind"), "passages", "line 1: 'kind' is 'passages', allowed: vignettes"),
        ((0, "licence"), DELETED, "line 1: key 'licence' is missing; needed: kind, title, version, licence, author"),
    ],
)
def test_wrong_vignettes_are_refused_in_one_line(place: Place, new: object, message: str) -> None:
    expect(load_vignettes, as_lines(changed(VIGNETTES, place, new)), f"mini.jsonl: {message}")


@pytest.mark.parametrize(
    ("place", "new", "message"),
    [
        ((2, "split"), "pilot", "line 3: n2: 'split' is 'pilot', allowed: probe, calibration"),
        ((2, "text"), "Rain is water.", "two texts are 'Rain is water.'"),
        ((2, "text"), DELETED, "line 3: key 'text' is missing; needed: id, topic, split, text"),
        ((2, "id"), "n1", "two passage ids are 'n1'"),
    ],
)
def test_wrong_passages_are_refused_in_one_line(place: Place, new: object, message: str) -> None:
    expect(load_passages, as_lines(changed(PASSAGES, place, new)), f"mini.jsonl: {message}")


def test_a_broken_or_empty_file_of_lines_is_refused() -> None:
    expect(load_passages, as_lines(PASSAGES[:1]), "mini.jsonl: 1 lines, expected a header and at least one record")
    Path("mini.jsonl").write_text("[1]\n{}", "utf-8")
    expect(load_passages, Path("mini.jsonl"), "mini.jsonl: line 1: [1] is not a mapping of keys to values")
    as_lines(PASSAGES).write_text(json.dumps(PASSAGES[0]) + "\n\n" + json.dumps(PASSAGES[1]), "utf-8")
    expect(
        load_passages,
        Path("mini.jsonl"),
        "mini.jsonl: line 2: not readable as JSON: Expecting value: line 1 column 1 (char 0)",
    )


def test_lines_and_openers_keep_their_words_and_their_order() -> None:
    assert [dataclasses.asdict(passage) for passage in load_passages(as_lines(PASSAGES))] == PASSAGES[1:]
    loaded = [dataclasses.asdict(vignette) for vignette in load_vignettes(as_lines(VIGNETTES))]
    assert loaded == [{**line, "paraphrases": tuple(line["paraphrases"])} for line in VIGNETTES[1:]]
    assert [dataclasses.asdict(opener) for opener in load_openers(as_yaml(OPENERS))] == OPENERS["openers"]


def test_two_openers_of_one_id_are_refused() -> None:
    twice = changed(OPENERS, ("openers",), [OPENERS["openers"][0], {"id": "a", "text": "Other."}])
    expect(load_openers, as_yaml(twice), "mini.yaml: two opener ids are 'a'")


def test_a_fingerprint_follows_the_words_and_not_the_layout_of_the_file() -> None:
    scale = load_scale(as_yaml(SCALE))
    Path("mini.yaml").write_text(
        "# a comment\n" + yaml.safe_dump(dict(reversed(SCALE.items())), sort_keys=False, width=20), "utf-8"
    )
    assert load_scale(Path("mini.yaml")).fingerprint == scale.fingerprint
    assert re.fullmatch("[0-9a-f]{64}", scale.fingerprint)
    other = load_scale(as_yaml(changed(SCALE, ("items", 0, "paraphrases", 1, "keyed"), "I got wet.")))
    swapped = load_scale(as_yaml(changed(SCALE, ("items",), SCALE["items"][::-1])))
    assert len({scale.fingerprint, other.fingerprint, swapped.fingerprint}) == 3
