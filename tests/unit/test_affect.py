"""Readers of emotion: laws on a corpus of our own, and how well they read where public data are here."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from neuromod_core.affect import (
    DIMENSIONS,
    LABELS,
    UNSUPPORTED,
    Trained,
    course,
    reliability,
    sentences,
    sources,
    train,
)
from neuromod_core.affect.lexicon import Lexicon, parse_empath
from neuromod_core.affect.reliability import average_precision, calibration_error, told
from neuromod_core.affect.signatures import load_signatures
from neuromod_core.affect.sources import Corpus, Labelled, load_sentences
from neuromod_core.instruments.tasks import read_public
from neuromod_core.kernel.errors import DataError, InstrumentError
from tests.conftest import ROOT

WORDS = {
    "joy": "glad merry",
    "sadness": "weep grief",
    "anger": "rage fury",
    "fear": "dread fright",
    "surprise": "gasp wow",
    "disgust": "filth rot",
}


def corpus(count: int, seed: int) -> Corpus:
    """Texts that show an emotion by one of two words of its own, among words that mean nothing."""
    draw, filler = np.random.default_rng(seed), ["table", "window", "river", "paper", "stone", "cloud"]
    texts = []
    for number in range(count):
        emotion = [*WORDS, None][number % 7]
        found = list(draw.choice(filler, 5)) + ([str(draw.choice(WORDS[emotion].split()))] if emotion else [])
        texts.append(Labelled(" ".join(draw.permutation(found)), frozenset({emotion} if emotion else ())))
    return Corpus(("goemotions-dev",), tuple(texts))


@pytest.fixture(scope="module")
def reader() -> Trained:
    return train(corpus(420, 0))


def test_it_reads_what_it_was_trained_on_and_says_what_it_cannot(reader: Trained) -> None:
    found = reliability(reader, corpus(140, 1), probabilities=True)
    assert told(found) == tuple(name for name in DIMENSIONS if name in LABELS)
    assert {one.dimension: one.reason for one in found if not one.told} == dict(UNSUPPORTED)
    assert all(one.area is not None and one.area.estimate > 0.95 for one in found if one.told)


def test_a_text_is_read_by_itself(reader: Trained) -> None:
    texts = ["glad river", "grief table stone", "paper", ""]
    together = reader.read(texts)
    assert np.array_equal(together[::-1], reader.read(texts[::-1]))
    assert np.allclose(together, np.concatenate([reader.read([text]) for text in texts]), rtol=0, atol=1e-12)


def test_the_same_corpus_gives_the_same_reader_and_labels_never_enter_a_reading(reader: Trained) -> None:
    assert train(corpus(420, 0)).fingerprint == reader.fingerprint
    other = corpus(420, 0)
    moved = [
        Labelled(one.text, two.emotions)
        for one, two in zip(other.texts, other.texts[1:] + other.texts[:1], strict=True)
    ]
    assert train(Corpus(other.splits, tuple(moved))).fingerprint != reader.fingerprint


def test_labels_that_mean_nothing_teach_nothing() -> None:
    """Labels rearranged over texts: no emotion may be reported."""
    known, draw = corpus(420, 0), np.random.default_rng(5)
    order = draw.permutation(len(known.texts))
    shuffled = tuple(
        Labelled(one.text, known.texts[place].emotions) for one, place in zip(known.texts, order, strict=True)
    )
    found = reliability(train(Corpus(known.splits, shuffled)), corpus(140, 1), probabilities=True)
    assert told(found) == ()


def test_a_reader_survives_being_kept(reader: Trained) -> None:
    arrays, facts = reader.parts()
    again = Trained.of(arrays, facts)
    assert again.fingerprint == reader.fingerprint
    assert np.array_equal(again.read(["glad"]), reader.read(["glad"]))
    assert again.known("glad") == 1.0
    assert again.known("\u4e16\u754c") < 0.5
    assert any("glad" in gram or "merr" in gram for gram in again.heaviest("joy", 8))


def test_every_emotion_is_mapped_or_gated_and_no_label_counts_twice() -> None:
    assert set(LABELS) | set(UNSUPPORTED) == set(DIMENSIONS)
    assert not set(LABELS) & set(UNSUPPORTED)
    labels = [label for found in LABELS.values() for label in found]
    assert len(set(labels)) == len(labels)


def test_the_lexicon_counts_words() -> None:
    lexicon = parse_empath("joy\tglad\tmerry\nfear\tdread\nships\tsail\n")
    assert lexicon.dimensions == ("joy", "fear")
    assert lexicon.read(["Glad, glad and full of dread!", "", "sail"]).tolist() == [[2 / 6, 1 / 6], [0, 0], [0, 0]]
    found = {one.dimension: one.reason for one in reliability(Lexicon({}), corpus(70, 2), probabilities=False)}
    assert found["joy"] == "empath has no words"


def test_average_precision_and_calibration_of_known_cases() -> None:
    values, labels = np.array([0.9, 0.8, 0.7, 0.1]), np.array([1.0, 0.0, 1.0, 0.0])
    assert average_precision(values, labels) == pytest.approx((1 + 2 / 3) / 2)
    assert average_precision(np.ones(4), labels) == pytest.approx(0.5)
    assert calibration_error(np.full(4, 0.5), labels, bins=1) == pytest.approx(0)
    assert calibration_error(np.full(4, 0.9), labels, bins=1) == pytest.approx(0.4)


def test_a_story_has_a_course(reader: Trained) -> None:
    found = course(reader, 'River and stone. Paper, paper! "Cloud?" He is glad.\nMerry and glad all day')
    assert found is not None
    assert len(found.sentences) == 5
    joy = found.dimensions.index("joy")
    assert found.change[joy] > 0.2
    assert found.path.shape == (5, 6)
    assert np.allclose(found.path, found.readings)
    assert course(reader, " ... !") is None
    alone = course(reader, "Glad")
    assert alone is not None
    assert np.isnan(alone.change).all()
    assert np.allclose(alone.path, alone.readings[0])


def test_sentences_end_where_they_end() -> None:
    assert sentences('"Go!" she said. He went ...\n\nThen night') == ('"Go!', "she said.", "He went ...", "Then night")


def test_expected_signatures_name_packs_and_emotions() -> None:
    found = load_signatures(ROOT / "datasets" / "stories" / "signatures.yaml")
    assert found["lsd"] == {"surprise": 1, "fear": 1, "joy": 1, "trust": -1}
    assert all((ROOT / "packs" / f"{pack}.json").is_file() for pack in found)


@pytest.mark.parametrize(
    ("signs", "line"),
    [("{glee: rises}", "'glee' is no emotion"), ("{joy: soars}", "'joy' is 'soars', allowed: rises, falls")],
)
def test_a_wrong_signature_is_one_line(tmp_path: Path, signs: str, line: str) -> None:
    header = "kind: signatures\ntitle: t\nversion: '1'\nlicence: l\nauthor: a\n"
    (tmp_path / "s.yaml").write_text(f"{header}signatures:\n  - pack: p\n    signs: {signs}\n", "utf-8")
    with pytest.raises(InstrumentError, match=line):
        load_signatures(tmp_path / "s.yaml")


def test_story_sentences_show_each_emotion_equally_often() -> None:
    found = load_sentences(ROOT / "datasets" / "stories" / "sentences.jsonl")
    counts = {name: sum(name in one.emotions for one in found.texts) for name in DIMENSIONS}
    assert set(counts.values()) == {8}
    assert len({one.text for one in found.texts}) == len(found.texts)


def test_absent_data_are_said(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="goemotions-labels"):
        sources.training(tmp_path)


LEAST = {"joy": 0.9, "sadness": 0.8, "anger": 0.77, "fear": 0.88, "surprise": 0.82, "disgust": 0.82}


def test_it_reads_comments_that_it_has_not_seen_and_the_lexicon_reads_them_worse(data_folder: Path) -> None:
    comments = sources.held_out(data_folder)
    found = reliability(train(sources.training(data_folder)), comments, probabilities=True)
    lexicon = reliability(parse_empath(read_public(data_folder, "empath")), comments, probabilities=False)
    assert told(found) == tuple(LEAST)
    for trained, counted in zip(found, lexicon, strict=True):
        if trained.area is None or trained.precision is None or trained.error is None or counted.area is None:
            assert trained.dimension in UNSUPPORTED
            continue
        assert trained.area.estimate > LEAST[trained.dimension]
        assert trained.precision > 4 * trained.base
        assert trained.error < 0.05
        assert counted.area.estimate < trained.area.estimate - 0.1
