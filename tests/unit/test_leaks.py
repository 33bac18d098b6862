"""No instrument is in the training set: what is shared is found, and nothing that ships shares anything."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from neuromod_core.calibrate.contrast import Pair, load_contrast
from neuromod_core.calibrate.leaks import items_of, leaks, phrases, places, shared_phrases, texts_of
from neuromod_core.instruments import load_scales
from neuromod_core.kernel.errors import CalibrationError
from neuromod_core.kernel.rng import rng
from tasks.calibrating import read_leaks
from tests.conftest import ROOT

ITEMS = {"a": ["the walls ripple while I am looking at them", "what encloses me moves in waves"]}
FAR = (Pair("t", "she bought four pounds of apples", "he sold the last of his pears"),)


def embedded(near: str) -> object:
    """Places of texts: an item less one word lies close to it, `near` lies on top of it, all else is scattered."""

    def embed(texts: Sequence[str]) -> np.ndarray:
        rows = []
        for at, text in enumerate(texts):
            row = rng(at, "place").standard_normal(64)
            for number, item in enumerate(ITEMS["a"]):
                if set(text.split()) <= set(item.split()):
                    row = 20 * rng(number, "item").standard_normal(64) + row
            if text == near:
                row = 20 * rng(0, "item").standard_normal(64)
            rows.append(row)
        return np.stack(rows)

    return embed


def test_runs_of_five_words_are_found_wherever_they_stand() -> None:
    assert phrases("One two, three: four five six.") == {"one two three four five", "two three four five six"}
    pairs = (Pair("t", "He said the walls ripple while I slept.", "He said the walls stayed while I slept."),)
    assert shared_phrases({"c": pairs}, ITEMS) == (("c", "a", "the walls ripple while i"),)
    assert shared_phrases({"c": FAR}, ITEMS) == ()


def test_a_sentence_as_near_as_a_copy_is_a_leak(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("neuromod_core.calibrate.leaks.COMMON", 0)
    others = tuple(Pair("t", f"sentence number {at} of many", f"line number {at} of many") for at in range(40))
    clean = leaks({"c": FAR + others}, ITEMS, embedded("nothing"))  # type: ignore[arg-type]
    assert clean.found == []
    stolen = leaks({"c": FAR + others, "d": FAR}, ITEMS, embedded(FAR[0].positive))  # type: ignore[arg-type]
    assert [one.concept for one in stolen.nearest] == ["c", "d"]
    assert any("is as near to a" in clause for clause in stolen.found)


def test_places_have_no_common_component() -> None:
    states = rng(0, "states").standard_normal((50, 20)) + 30
    found = places(states)
    assert np.linalg.norm(found, axis=1) == pytest.approx(np.ones(50))
    assert np.linalg.norm(found.mean(0)) < 0.2


def test_an_item_without_a_paraphrase_cannot_be_judged() -> None:
    with pytest.raises(CalibrationError, match="Item a has one wording; at least two are compared"):
        leaks({"c": FAR}, {"a": ["one"]}, embedded("x"))  # type: ignore[arg-type]


def test_the_shipped_report_is_of_the_shipped_texts_and_finds_nothing() -> None:
    report = read_leaks(ROOT / "datasets" / "calibration" / "leaks.json")
    assert report is not None
    folder: Path = ROOT / "datasets" / "contrast"
    contrast = {path.stem: load_contrast(folder, path.stem) for path in sorted(folder.glob("*.jsonl"))}
    items = items_of(load_scales(ROOT / "datasets" / "instruments").values())
    assert len(items) > 250
    assert report.texts == texts_of(contrast, items), "written for other texts: neuromod calibrate --document docs"
    assert report.found == []
