"""Laws over every text that is shipped, and the instruments that check them."""

from __future__ import annotations

import itertools
import json
import math
import re
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from neuromod_core.instruments import (
    Item,
    Leak,
    Scale,
    Vignette,
    forbidden_words,
    leaks,
    load_frames,
    load_openers,
    load_passages,
    load_scales,
    load_vignettes,
    ngrams,
    option_prefix,
    option_tail,
    shared_ngrams,
    words,
)
from neuromod_core.kernel.errors import InstrumentError, OutOfRange

DATASETS = Path(__file__).resolve().parents[2] / "datasets"
INSTRUMENTS = DATASETS / "instruments"
HYGIENE = INSTRUMENTS / "hygiene.yaml"
SCALES = load_scales(INSTRUMENTS)
FRAMES = load_frames(INSTRUMENTS / "frames.yaml")
VIGNETTES = load_vignettes(DATASETS / "vignettes" / "vignettes.jsonl")
PASSAGES = load_passages(DATASETS / "neutral" / "passages.jsonl")
OPENERS = load_openers(DATASETS / "stories" / "openers.yaml")

ITEMS = [item for scale in SCALES.values() for item in scale.items]
SENTENCES = {f"{item.id} {side}": getattr(item, side) for item in ITEMS for side in ("keyed", "antonym")}
CONTEXTS = {f"{v.id}[{n}]": text for v in VIGNETTES for n, text in enumerate(v.paraphrases)}
FACTS = {passage.id: passage.text for passage in PASSAGES}
STORIES = {opener.id: opener.text for opener in OPENERS}
SYSTEMS = {"persona": FRAMES.persona, "neutral": FRAMES.system, **{s.id: s.system for s in FRAMES.states}}
PHRASES = {
    "question": FRAMES.question,
    "instruction": FRAMES.instruction,
    "closing": FRAMES.closing,
    "labels": ". ".join(FRAMES.labels),
}
STRUCTURE = {
    "pdq_s": "vrs 1-3, syn 4-5, time 6, mean 7-8, obn 9-11, dis 12, ctrl 13-14, anx 15",
    "sdq": "stim 1-3, foc 6 7 10, euph 8 15, soc 9, jit 4 11 14, som 5 12, app 13",
    "ddq": "sed 1-3, cog_slow 4 5 15, calm 6-8, motor 9-10, vest 11, disinh 12-13, mem 14",
}
ABSENCE = re.compile(r"\b(no|nothing|none|never|cannot|unable|without|hardly|little|lose|slipped|there is not)\b", re.I)
each_scale = pytest.mark.parametrize("scale", SCALES.values(), ids=SCALES)
each_item = pytest.mark.parametrize("item", ITEMS, ids=lambda item: item.id)


# --------------------------------------------------------------------------------------------------------- the checkers


def test_words_ignore_case_and_punctuation() -> None:
    assert words("  It's half-past TWO; (isn\u2019t it?) ") == ("it's", "half", "past", "two", "isn\u2019t", "it")


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("A dose, and DOSES of it.", ["dose", "DOSES"]),
        ("Overdose, dosed, dozens.", []),
        ("Slo-mo and slo mo, not slomo.", ["Slo-mo", "slo mo"]),
        ("The red\neye of it.", ["red\neye"]),
        ("Hallucinations are hallucinatory, not a hallux.", ["Hallucinations", "hallucinatory"]),
        ("Unhallucinated.", []),
    ],
)
def test_a_leak_is_a_whole_word_its_plural_or_a_marked_stem(text: str, found: list[str]) -> None:
    assert leaks({"x": text}, ["dose", "slo-mo", "red eye", "hallucin*"]) == tuple(Leak("x", word) for word in found)


def test_without_forbidden_words_nothing_leaks() -> None:
    assert leaks({"x": "anything"}, []) == ()


def test_ngrams_do_not_cross_texts_and_need_a_word() -> None:
    assert ngrams("a b c", 2) == {("a", "b"), ("b", "c")}
    assert ngrams("a b", 3) == frozenset()
    assert shared_ngrams(["a b c", "d e f"], ["c d e", "x"], n=2) == ("d e",)
    assert shared_ngrams(["a b", "c d"], ["b c"], n=2) == ()
    with pytest.raises(OutOfRange, match="n-grams of 0 words were asked for, at least 1 is needed"):
        ngrams("a b", 0)


def test_forbidden_words_come_by_group_or_all() -> None:
    groups = yaml.safe_load(HYGIENE.read_text("utf-8"))["groups"]
    assert forbidden_words(HYGIENE, "study") == tuple(groups["study"])
    assert forbidden_words(HYGIENE) == tuple(itertools.chain(*groups.values()))
    with pytest.raises(InstrumentError, match=r"groups: no group 'moods'; it has: substances, packs, study, states$"):
        forbidden_words(HYGIENE, "moods")


def test_an_entry_that_would_match_everything_is_refused(tmp_path: Path) -> None:
    whole = yaml.safe_load(HYGIENE.read_text("utf-8"))
    path = tmp_path / "hygiene.yaml"
    path.write_text(yaml.safe_dump({**whole, "groups": {"study": ["*"]}}), "utf-8")
    with pytest.raises(InstrumentError, match=r"groups: 'study' holds '\*', which has no letter or digit$"):
        forbidden_words(path)


# --------------------------------------------------------------------------------------------------- every shipped text


SHIPPED = [
    path for folder in ("instruments", "neutral", "stories", "vignettes") for path in (DATASETS / folder).iterdir()
]


@pytest.mark.parametrize("path", sorted(SHIPPED), ids=lambda path: path.name)
def test_every_file_states_its_licence_and_author(path: Path) -> None:
    text = path.read_text("utf-8")
    header = yaml.safe_load(text) if path.suffix == ".yaml" else json.loads(text.splitlines()[0])
    assert (header["licence"], header["author"]) == ("CC-BY-4.0", "The Neuromod authors")


def test_no_text_names_a_substance_a_pack_or_the_study() -> None:
    forbidden = forbidden_words(HYGIENE, "substances", "packs", "study")
    assert leaks({**SENTENCES, **CONTEXTS, **FACTS, **STORIES, **SYSTEMS, **PHRASES}, forbidden) == ()


def test_no_text_names_a_pack_that_exists() -> None:
    packs = [path.stem for path in (DATASETS.parent / "packs").glob("*.json") if path.stem != "schema"]
    assert packs
    assert leaks({**SENTENCES, **CONTEXTS, **FACTS, **STORIES, **SYSTEMS, **PHRASES}, packs) == ()


def test_contexts_and_facts_name_no_state() -> None:
    forbidden = forbidden_words(HYGIENE, "states")
    assert leaks({**CONTEXTS, **FACTS, "system": FRAMES.system, **PHRASES}, forbidden) == ()
    assert len({leak.where for leak in leaks(SYSTEMS, forbidden)}) >= 2


def test_no_two_kinds_of_text_share_five_words() -> None:
    kinds = [list(texts.values()) for texts in (SENTENCES, CONTEXTS, FACTS, STORIES, SYSTEMS)]
    assert [shared_ngrams(a, b) for a, b in itertools.combinations(kinds, 2)] == [()] * 10


def strings(value: object) -> Iterator[str]:
    """Yield every text in parsed JSON."""
    match value:
        case str():
            yield value
        case dict():
            yield from itertools.chain.from_iterable(strings(inner) for inner in value.values())
        case list():
            yield from itertools.chain.from_iterable(strings(inner) for inner in value)


def test_items_share_no_five_words_with_what_vectors_are_trained_on() -> None:
    files = sorted((DATASETS / "contrast").glob("*.jsonl"))
    if not files:
        pytest.skip("no contrast pairs in datasets/contrast")
    trained = [
        text for file in files for line in file.read_text("utf-8").splitlines() for text in strings(json.loads(line))
    ]
    assert len(trained) >= 2 * len(files)
    assert shared_ngrams(list(SENTENCES.values()), trained) == ()


# ---------------------------------------------------------------------------------------------------------------- items


def positions(text: str) -> dict[str, tuple[int, ...]]:
    """Return subscale -> item indices from 'vrs 1-3, time 6, foc 6 7 10' (items counted from 1)."""
    found = {}
    for part in text.split(", "):
        name, *numbers = re.findall(r"[a-z_]+|\d+-\d+|\d+", part)
        spans = (number.split("-") for number in numbers)
        found[name] = tuple(n - 1 for span in spans for n in range(int(span[0]), int(span[-1]) + 1))
    return found


@each_scale
def test_a_scale_has_fifteen_items_in_its_subscales(scale: Scale) -> None:
    expected = positions(STRUCTURE[scale.name])
    assert {group.name: scale.positions(group.name) for group in scale.subscales} == expected
    assert [item.id for item in scale.items] == [f"{scale.name}_{n:02d}" for n in range(1, 16)]


def test_no_scale_is_without_a_structure() -> None:
    assert set(SCALES) == set(STRUCTURE)


@each_item
def test_a_pair_is_two_first_person_sentences_of_one_length(item: Item) -> None:
    for sentence in (item.keyed, item.antonym):
        assert 6 <= len(words(sentence)) <= 12
        assert re.fullmatch(r"[A-Z][^.?!;:]*\.", sentence)
        assert {"i", "me", "my", "myself"} & set(words(sentence))
    assert abs(len(words(item.keyed)) - len(words(item.antonym))) <= 2


@each_item
def test_an_antonym_says_more_than_not(item: Item) -> None:
    assert [word for word in words(item.antonym) if word not in {"not", "do", "does"}] != [*words(item.keyed)]
    assert len(set(words(item.keyed)) ^ set(words(item.antonym))) >= 2


def test_no_sentence_occurs_twice_and_no_two_pairs_share_six_words() -> None:
    assert max(Counter(" ".join(words(text)) for text in SENTENCES.values()).values()) == 1
    for one, other in itertools.combinations(ITEMS, 2):
        assert shared_ngrams([one.keyed, one.antonym], [other.keyed, other.antonym], n=6) == ()


@each_scale
def test_the_keyed_side_is_worded_by_absence_in_some_items_and_by_presence_in_most(scale: Scale) -> None:
    assert 3 <= sum(bool(ABSENCE.search(item.keyed)) for item in scale.items) <= 7


@each_scale
def test_lengths_cancel_over_a_scale(scale: Scale) -> None:
    assert abs(sum(len(words(item.keyed)) - len(words(item.antonym)) for item in scale.items)) <= 8


# --------------------------------------------------------------------------------------------------------------- frames


def test_every_scale_has_its_positive_control_and_the_flat_state_has_no_scale() -> None:
    controls = {name: FRAMES.control_of(name).id for name in SCALES}
    assert controls == {"pdq_s": "dreamlike", "sdq": "energised", "ddq": "drowsy"}
    assert FRAMES.state("flat").scale is None
    assert len(FRAMES.states) == 4


def test_states_are_of_one_length_and_share_no_four_words_with_an_item() -> None:
    lengths = {name: len(words(text)) for name, text in SYSTEMS.items() if name != "neutral"}
    assert all(30 <= length <= 42 for length in lengths.values()), lengths
    assert shared_ngrams(list(SYSTEMS.values()), list(SENTENCES.values()), n=4) == ()


def test_the_persona_has_none_of_the_content_words_of_the_state_it_mimics() -> None:
    persona, dreamlike = (
        {word for word in words(text) if len(word) > 4} for text in (FRAMES.persona, FRAMES.state("dreamlike").system)
    )
    assert persona & dreamlike == set()


def test_option_tails_are_short_and_cut_where_a_token_starts() -> None:
    prefix = option_prefix(FRAMES, VIGNETTES[0].paraphrases[0], order="ascending").user
    assert re.search(r"[^\s]\n$", prefix)
    for sentence in SENTENCES.values():
        tail = option_tail(FRAMES, sentence)
        assert 11 <= len(words(tail)) <= 18
        assert tail[0].isalpha()


# ------------------------------------------------------------------------------------ contexts, passages, story openers


def test_contexts_are_thirty_six_for_the_study_and_eight_for_the_pilot() -> None:
    assert Counter(vignette.split for vignette in VIGNETTES) == {"study": 36, "pilot": 8}
    assert [vignette.id for vignette in VIGNETTES] == [f"v{n:03d}" for n in range(1, 45)]


@pytest.mark.parametrize("vignette", VIGNETTES, ids=lambda vignette: vignette.topic)
def test_paraphrases_are_of_one_length_and_say_it_differently(vignette: Vignette) -> None:
    lengths = [len(words(text)) for text in vignette.paraphrases]
    assert min(lengths) >= 25
    assert max(lengths) <= 40
    assert max(lengths) - min(lengths) <= 6
    for a, b in itertools.combinations(vignette.paraphrases, 2):
        shared = ngrams(a, 4) & ngrams(b, 4)
        assert len(shared) <= 0.3 * min(len(ngrams(a, 4)), len(ngrams(b, 4))), shared


def test_no_two_contexts_share_six_words() -> None:
    for a, b in itertools.combinations(VIGNETTES, 2):
        assert shared_ngrams(a.paraphrases, b.paraphrases, n=6) == (), (a.id, b.id)


def test_every_context_speaks_to_the_reader_in_every_paraphrase() -> None:
    assert [name for name, text in CONTEXTS.items() if not {"you", "your"} & set(words(text))] == []


def test_passages_are_sixteen_a_split_and_fifty_five_to_seventy_words_long() -> None:
    assert Counter(passage.split for passage in PASSAGES) == {"probe": 16, "calibration": 16}
    lengths = {passage.id: len(passage.text.split()) for passage in PASSAGES}
    assert {name: length for name, length in lengths.items() if not 55 <= length <= 70} == {}
    split = {name: [len(p.text.split()) for p in PASSAGES if p.split == name] for name in ("probe", "calibration")}
    assert abs(math.fsum(split["probe"]) - math.fsum(split["calibration"])) / 16 <= 3


def test_no_two_passages_share_six_words() -> None:
    for a, b in itertools.combinations(PASSAGES, 2):
        assert shared_ngrams([a.text], [b.text], n=6) == (), (a.id, b.id)


def test_there_are_six_openers_of_one_or_two_sentences() -> None:
    assert [o.id for o in OPENERS] == ["reunion", "mystery", "achievement", "loss", "discovery", "conflict"]
    for opener in OPENERS:
        assert opener.text.startswith("Continue this story: ")
        assert 1 <= len(re.findall(r"[.?!](?= |$)", opener.text)) <= 2
