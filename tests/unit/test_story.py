"""The story emotion test: paired stories, signed predictions, and what cannot be tested said so."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from neuromod_core.affect.signatures import INTENSITY, load_controls, load_signatures
from neuromod_core.engine import dosed
from neuromod_core.kernel.errors import OutOfRange
from neuromod_core.models import LoadedModel
from neuromod_core.report import story as pages
from neuromod_core.report.canvas import svg
from neuromod_core.trial.control import UNDOSED
from neuromod_core.trial.library import load_library
from neuromod_core.trial.prompts import Prompter
from neuromod_core.trial.story_test import PLAIN as STORY_PLAIN
from neuromod_core.trial.story_test import (
    SAME,
    Readings,
    Shift,
    Teller,
    Told,
    read_stories,
    shifts,
    tell,
    told_packs,
    told_shifts,
)
from tests.conftest import ROOT, subject_of

PLAIN = replace(UNDOSED, name="plain")
SIGNS = {"bright": {"joy": 1, "fear": -1, "trust": -1}, "dark": {"joy": -1}}
GATED = {"trust": "no label means trust"}


class Counter:
    """A reader of two emotions that counts letters."""

    name = "letters"
    dimensions = ("joy", "fear")

    def read(self, texts: Sequence[str]) -> np.ndarray:
        return np.array([[text.count("j"), text.count("f")] for text in texts], dtype=np.float64)


@pytest.fixture(scope="module")
def teller(llama: LoadedModel) -> Iterator[Teller]:
    with dosed(llama) as session:
        yield Teller(session, subject_of(llama), Prompter(llama, load_library(ROOT)))


def test_stories_of_one_place_share_their_randomness(teller: Teller) -> None:
    openers = teller.prompter.library.openers[:2]
    hot = load_library(ROOT).pack("entropy_temperature").matched(1.0)
    packs = {"undosed": (UNDOSED,), "plain": (PLAIN,), "hot": (hot,)}
    told = tell(teller, packs, openers, samples=2, tokens=6, seed=1)
    by_pack = {name: [story.text for story in told if story.pack == name] for name in packs}
    assert by_pack["undosed"] == by_pack["plain"] != by_pack["hot"]
    assert len(set(by_pack["undosed"])) == 4
    alone = tell(teller, {"hot": (hot,)}, openers[1:], samples=2, tokens=6, seed=1)
    assert [story.text for story in alone] == by_pack["hot"][2:]
    other = tell(teller, {"undosed": (UNDOSED,)}, openers, samples=2, tokens=6, seed=2)
    assert [story.text for story in other] != by_pack["undosed"]
    with pytest.raises(OutOfRange, match="samples is 0"):
        tell(teller, packs, openers, samples=0, tokens=6, seed=1)


def told(pack: str, joy: Sequence[int], fear: Sequence[int]) -> list[Told]:
    texts = [f"a{'j' * more}. b{'f' * less}." for more, less in zip(joy, fear, strict=True)]
    return [Told(pack, f"o{number % 3}", number, text, 9) for number, text in enumerate(texts)]


@pytest.fixture(scope="module")
def readings() -> Readings:
    draw = np.random.default_rng(0)
    joy, fear = draw.integers(2, 6, size=12), draw.integers(2, 6, size=12)
    up, down = draw.integers(1, 4, size=12), draw.integers(1, 3, size=12)
    stories = [
        *told("placebo", joy.tolist(), fear.tolist()),
        *told("bright", (joy + up).tolist(), (fear - down + 1).tolist()),
        *told("dark", (joy + up).tolist(), fear.tolist()),
    ]
    return read_stories(Counter(), ("joy", "fear"), stories)


@pytest.fixture(scope="module")
def found(readings: Readings) -> tuple[Shift, ...]:
    return shifts(readings, ["bright", "dark"], "placebo", SIGNS, GATED)


def test_predictions_are_tested_in_their_direction(found: tuple[Shift, ...]) -> None:
    by = {(one.pack, one.emotion): one for one in found}
    assert by["bright", "joy"].state == "as predicted"
    assert by["dark", "joy"].state == "not shown"  # it rises, and it was predicted to fall
    joy, wrong = by["bright", "joy"].found, by["dark", "joy"].found
    assert joy is not None
    assert wrong is not None
    assert joy.estimate > 0
    assert joy.pvalue == pytest.approx(2**-12)
    assert wrong.pvalue == 1.0


def test_what_cannot_be_tested_says_why(found: tuple[Shift, ...]) -> None:
    by = {(one.pack, one.emotion): one for one in found}
    assert (by["bright", "trust"].state, by["bright", "trust"].reason) == ("not testable", "no label means trust")
    assert by["dark", "fear"].reason == SAME
    assert by["dark", INTENSITY].found is not None


def test_families_are_adjusted_apart(found: tuple[Shift, ...]) -> None:
    predicted = [one for one in found if one.predicted is not None and one.found is not None]
    others = [one for one in found if one.predicted is None and one.found is not None]
    for family in (predicted, others):
        assert family
        for one in family:
            assert one.found is not None
            assert one.p_adj is not None
            assert one.found.pvalue <= one.p_adj <= min(1.0, one.found.pvalue * len(family)) + 1e-12


def test_a_story_without_a_word_is_missing_in_its_pair_alone(readings: Readings) -> None:
    stories = [
        replace(story, text="...") if (story.pack, story.sample) == ("bright", 3) else story
        for story in readings.stories
    ]
    again = shifts(read_stories(Counter(), ("joy", "fear"), stories), ["bright"], "placebo", SIGNS, GATED)
    joy = next(one for one in again if one.emotion == "joy")
    assert joy.found is not None
    assert joy.found.n == 11


def test_equal_stories_are_said_to_be_equal() -> None:
    same = [1, 2, 3, 4, 5, 6]
    both = read_stories(Counter(), ("joy",), [*told("placebo", same, same), *told("p", same, same)])
    assert {one.reason for one in shifts(both, ["p"], "placebo", {}, {})} == {SAME}


def test_pictures_and_json_hold_every_story(readings: Readings, found: tuple[Shift, ...]) -> None:
    body = json.loads(json.dumps(pages.as_json(readings, readings, found, {}, {})))
    assert len(body["stories"]) == 36
    assert body["agreement"] == {"joy": pytest.approx(1.0), "fear": pytest.approx(1.0)}
    assert all((line["estimate"] is None) == (line["reason"] is not None) for line in body["tests"])
    for plot in (pages.courses(readings, ["bright", "dark"], "placebo"), pages.shift_plot(found)):
        assert "<svg" in svg(plot)


def test_a_page_says_how_well_the_reader_reads() -> None:
    page = (ROOT / "docs" / "story.md").read_text("utf-8")
    assert "no: no label of GoEmotions means trust" in page
    assert Path(ROOT / "docs" / "pictures" / "story.png").is_file()


def test_a_told_emotion_is_predicted_to_rise_and_judged_against_the_plain_writer() -> None:
    controls = load_controls(ROOT / "datasets" / "stories" / "controls.yaml")
    packs = told_packs(controls, ("joy", "fear"))
    assert list(packs) == [STORY_PLAIN, "told joy", "told fear"]
    assert all(pack.system and not pack.effects for (pack,) in packs.values())
    none, much = [0] * 6, [1, 2, 3, 4, 5, 6]
    stories = [*told(STORY_PLAIN, none, none), *told("told joy", much, none), *told("told fear", none, none)]
    found = told_shifts(read_stories(Counter(), ("joy", "fear"), stories), ("joy", "fear"))
    states = {(one.pack, one.emotion): one.state for one in found}
    assert states["told joy", "joy"] == "as predicted"
    assert states["told fear", "fear"] == "not testable"
    assert pages.told_plot(found).alt.endswith("own reading: joy")


def test_every_file_of_signs_names_emotions_alone() -> None:
    folder = ROOT / "datasets" / "stories"
    assert set(load_controls(folder / "controls.yaml").emotions) >= {
        emotion for signs in load_signatures(folder / "signatures.yaml").values() for emotion in signs
    } - {INTENSITY}
