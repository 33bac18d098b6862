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
from neuromod_core.instruments.hygiene import is_negated
from neuromod_core.instruments.load import load_validity
from neuromod_core.instruments.texts import Wording
from neuromod_core.kernel.errors import InstrumentError, OutOfRange

DATASETS = Path(__file__).resolve().parents[2] / "datasets"
INSTRUMENTS = DATASETS / "instruments"
HYGIENE = INSTRUMENTS / "hygiene.yaml"
SCALES = load_scales(INSTRUMENTS)
FRAMES = load_frames(INSTRUMENTS / "frames.yaml")
CHECKS = load_validity(INSTRUMENTS / "validity.yaml")
VIGNETTES = load_vignettes(DATASETS / "vignettes" / "vignettes.jsonl")
PASSAGES = load_passages(DATASETS / "neutral" / "passages.jsonl")
OPENERS = load_openers(DATASETS / "stories" / "openers.yaml")

ADOPTED = {name: scale for name, scale in SCALES.items() if scale.source is not None}
OWN = {name: scale for name, scale in SCALES.items() if scale.source is None}
PAIRS = {
    f"{item.id}[{n}]": pair for scale in SCALES.values() for item in scale.items for n, pair in enumerate(item.wordings)
}
OWN_PAIRS = {name: pair for name, pair in PAIRS.items() if name[: -len("_00[0]")] in OWN}
QUESTIONS = {check.id: check.text for check in CHECKS}
SENTENCES = {f"{name} {side}": getattr(pair, side) for name, pair in PAIRS.items() for side in ("keyed", "antonym")}
CONTEXTS = {f"{v.id}[{n}]": text for v in VIGNETTES for n, text in enumerate(v.paraphrases)}
FACTS = {passage.id: passage.text for passage in PASSAGES}
STORIES = {opener.id: opener.text for opener in OPENERS}
SYSTEMS = {"persona": FRAMES.persona, "neutral": FRAMES.system, **{s.id: s.system for s in FRAMES.states}}
PHRASES = {
    "question": FRAMES.question,
    **{f"asked for {each.name}": f"{each.instruction} {each.closing}" for each in FRAMES.label_sets},
    "labels": ". ".join(FRAMES.labels),
}
STRUCTURE = {
    "pdq_s": "vrs 1-3, syn 4-5, time 6, mean 7-8, obn 9-11, dis 12, ctrl 13-14, anx 15",
    "sdq": "stim 1-3, foc 6 7 10, euph 8 15, soc 9, jit 4 11 14, som 5 12, app 13",
    "ddq": "sed 1-3, cog_slow 4 5 15, calm 6-8, motor 9-10, vest 11, disinh 12-13, mem 14",
    "cdq": "percep 2-4, time 1, cog_minus 5 6 7 15, relax 8, pos 9, anx 10, soma 11-13, app 14",
    "didq": "dis 1-2, der 3-5, time 6-7, motor 8-9, cog_slow 10-11, nmb 12-13, affect 14, vest 15",
    "edq": "aff 1 2 7 15, trust 3 4 9, comm 5, emp 6, pos 8, sens 10 11 13, jaw 12, vigil 14",
    "adq_20": "terse 1, struct 2 13, anticl 3 9, assoc 4 15, recency 5 19, long 6, decisive 7, riskav 8 17, "
    "persona 10 11, moeorder 12, onthread 14, determin 16, reroute 18, factgrav 20",
    "pcq_pop_20": "acu 3, pred 1-2, step 4, slow 5 6 20, bliss 8, rush 7 19, power 9-10, socmind 11, comm 12, "
    "disinh 13, sed 14, motor 15, mem 16, anxrel 17, clamp 18",
    "foils": "place 1-6, weather 7-12, task 13-18, habit 19-24",
    "personality": "extraversion 1-10, agreeableness 11-20, conscientiousness 21-30, neuroticism 31-40, openness 41-50",
}
each_scale = pytest.mark.parametrize("scale", SCALES.values(), ids=SCALES)
each_own_scale = pytest.mark.parametrize("scale", OWN.values(), ids=OWN)
each_pair = pytest.mark.parametrize("pair", PAIRS.values(), ids=PAIRS)


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
    assert leaks({**SENTENCES, **QUESTIONS, **CONTEXTS, **FACTS, **STORIES, **SYSTEMS, **PHRASES}, forbidden) == ()


def test_no_text_names_a_pack_that_exists() -> None:
    packs = [path.stem for path in (DATASETS.parent / "packs").glob("*.json") if path.stem != "schema"]
    assert packs
    assert leaks({**SENTENCES, **QUESTIONS, **CONTEXTS, **FACTS, **STORIES, **SYSTEMS, **PHRASES}, packs) == ()


def test_contexts_and_facts_name_no_state() -> None:
    forbidden = forbidden_words(HYGIENE, "states")
    assert leaks({**CONTEXTS, **FACTS, "system": FRAMES.system, **PHRASES}, forbidden) == ()
    assert len({leak.where for leak in leaks(SYSTEMS, forbidden)}) >= 2


def test_no_two_kinds_of_text_share_five_words() -> None:
    kinds = [list(texts.values()) for texts in (SENTENCES, QUESTIONS, CONTEXTS, FACTS, STORIES, SYSTEMS)]
    assert [shared_ngrams(a, b) for a, b in itertools.combinations(kinds, 2)] == [()] * 15


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
    assert shared_ngrams([*SENTENCES.values(), *QUESTIONS.values()], trained) == ()


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
def test_a_scale_has_its_items_in_its_subscales(scale: Scale) -> None:
    expected = positions(STRUCTURE[scale.name])
    assert {group.name: scale.positions(group.name) for group in scale.subscales} == expected
    assert [item.id for item in scale.items] == [
        f"{scale.name}_{n:02d}" for n in range(1, 1 + sum(map(len, expected.values())))
    ]


def test_no_scale_is_without_a_structure() -> None:
    assert (set(SCALES), set(ADOPTED)) == (set(STRUCTURE), {"personality"})


@each_scale
def test_an_item_has_three_wordings_unless_it_is_adopted(scale: Scale) -> None:
    assert {len(item.wordings) for item in scale.items} == {1 if scale.name in ADOPTED else 3}
    assert (scale.consistency_item is None) == (scale.name in ADOPTED)


def test_what_is_adopted_is_told_from_what_is_worded_here() -> None:
    for scale in ADOPTED.values():
        assert scale.source is not None
        assert scale.source.text == "International Personality Item Pool (ipip.ori.org), public domain"
        assert all(not {f"{i.id} keyed", f"{i.id} antonym"} <= set(scale.source.own) for i in scale.items)


@each_pair
def test_a_pair_is_two_first_person_sentences_of_one_length(pair: Wording) -> None:
    for sentence in (pair.keyed, pair.antonym):
        assert re.fullmatch(r"[A-Z][^.?!;:]*\.", sentence)
        assert {"i", "me", "my", "myself"} & set(words(sentence))
        assert len(words(sentence)) <= 12
    assert abs(len(words(pair.keyed)) - len(words(pair.antonym))) <= 2


@pytest.mark.parametrize("pair", OWN_PAIRS.values(), ids=OWN_PAIRS)
def test_a_sentence_worded_here_is_long_enough_to_be_read(pair: Wording) -> None:
    assert min(len(words(pair.keyed)), len(words(pair.antonym))) >= 6


@each_pair
def test_an_antonym_says_more_than_not(pair: Wording) -> None:
    keyed, antonym = (
        [word.rstrip("s") for word in words(text) if word not in {"not", "do", "does"}]
        for text in (pair.keyed, pair.antonym)
    )
    assert keyed != antonym
    assert len(set(words(pair.keyed)) ^ set(words(pair.antonym))) >= 2


@each_own_scale
def test_the_wordings_of_an_item_differ(scale: Scale) -> None:
    for item in scale.items:
        for a, b in itertools.combinations(item.wordings, 2):
            assert shared_ngrams([a.keyed], [b.keyed], n=4) == (), item.id
            assert shared_ngrams([a.antonym], [b.antonym], n=4) == (), item.id


def test_no_sentence_occurs_twice_and_no_two_items_share_six_words() -> None:
    every = [*SENTENCES.values(), *QUESTIONS.values()]
    assert max(Counter(" ".join(words(text)) for text in every).values()) == 1
    homes: dict[tuple[str, ...], set[str]] = {}
    for name, text in SENTENCES.items():
        for gram in ngrams(text, 6):
            homes.setdefault(gram, set()).add(name.partition("[")[0])
    assert [gram for gram, items in homes.items() if len(items) > 1] == []


def sides(pair: Wording) -> tuple[bool, bool]:
    """Return whether the keyed sentence and the antonym are negatively worded."""
    return is_negated(pair.keyed), is_negated(pair.antonym)


@each_own_scale
def test_every_second_item_is_negatively_worded_on_its_keyed_side_alone(scale: Scale) -> None:
    for item in scale.items[1::2]:
        assert (True, False) in [sides(pair) for pair in item.wordings], item.id


@each_own_scale
def test_affirmation_does_not_track_the_key(scale: Scale) -> None:
    counts = [Counter(map(sides, pairs)) for pairs in zip(*(item.wordings for item in scale.items), strict=True)]
    keyed, antonym = ([count[side] for count in counts] for side in ((True, False), (False, True)))
    assert abs(sum(keyed) - sum(antonym)) <= 3, counts
    assert max(abs(k - a) for k, a in zip(keyed, antonym, strict=True)) <= len(scale.items) / 3, counts
    assert 1 / 5 <= keyed[0] / len(scale.items) <= 1 / 2


@each_scale
def test_lengths_cancel_over_a_scale_in_every_wording(scale: Scale) -> None:
    for pairs in zip(*(item.wordings for item in scale.items), strict=True):
        assert abs(sum(len(words(pair.keyed)) - len(words(pair.antonym)) for pair in pairs)) <= 8


# ------------------------------------------------------------------------------------------------------------- validity


def test_checks_are_six_infrequency_statements_and_four_instructed_responses() -> None:
    assert [check.id for check in CHECKS] == [f"validity_{n:02d}" for n in range(1, 11)]
    answers = [(check.kind, check.levels(FRAMES.labels)) for check in CHECKS]
    assert Counter(answers[:6]) == {("infrequency", (3, 4)): 2, ("infrequency", (0, 1)): 4}
    assert sorted(answers[6:]) == [("instructed", (level,)) for level in (0, 1, 3, 4)]


def test_an_instructed_response_names_its_answer_and_no_other() -> None:
    for check in CHECKS:
        named = tuple(label for label in FRAMES.labels if label in check.text)
        assert named == (check.expected if check.kind == "instructed" else ()), check.id


def test_no_constant_answer_passes_the_checks() -> None:
    for level in range(len(FRAMES.labels)):
        assert sum(level in check.levels(FRAMES.labels) for check in CHECKS) <= 5


# --------------------------------------------------------------------------------------------------------------- frames


def test_every_scale_of_a_state_has_its_positive_control_and_the_flat_state_has_no_scale() -> None:
    controls = "pdq_s dreamlike, sdq energised, ddq drowsy, cdq mellow, didq detached, edq tender, adq_20 mannered"
    expected = dict(pair.split() for pair in f"{controls}, pcq_pop_20 legendary".split(", "))
    assert {state.scale: state.id for state in FRAMES.states} == expected | {None: "flat"}
    assert set(SCALES) - {state.scale for state in FRAMES.states} == {"foils", "personality"}


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
    for sentence in [*SENTENCES.values(), *QUESTIONS.values()]:
        for each in FRAMES.label_sets:
            tail = option_tail(FRAMES, sentence, each.name)  # type: ignore[arg-type]
            assert 8 <= len(words(tail)) <= 20
            assert tail[0].isalpha()


# ------------------------------------------------------------------------------------ contexts, passages, story openers


def test_contexts_are_a_hundred_and_thirty_for_the_study_and_twenty_for_the_pilot() -> None:
    assert Counter(vignette.split for vignette in VIGNETTES) == {"study": 130, "pilot": 20}
    assert [vignette.id for vignette in VIGNETTES] == [f"v{n:03d}" for n in range(1, 151)]


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
