"""Written tasks: counted constraints, facts that are said, nouns that diverge, banks, public data."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest

from neuromod_core.instruments.tasks import (
    CONSTRAINTS,
    PUBLIC,
    Account,
    Constraint,
    Fact,
    Instruction,
    MinimalPair,
    Passage,
    Problem,
    adherence,
    by_accident,
    by_level,
    certainty,
    coverage,
    divergence,
    exact,
    grammaticality,
    instructions,
    load_accounts,
    load_blimp,
    load_facts,
    load_figures,
    load_wikitext,
    perplexity,
    preference,
    probabilities,
    rank,
    read_public,
    shorten_blimp,
    tally,
    unmet,
    why_absent,
)
from neuromod_core.instruments.tasks.constraints import (
    Avoids,
    Bullets,
    EndsWith,
    Includes,
    JsonObject,
    LetterCase,
    Sentences,
    Words,
    sentences,
    words,
)
from neuromod_core.instruments.tasks.instructions import clash
from neuromod_core.instruments.tasks.reading import unread
from neuromod_core.kernel.errors import DataError, InstrumentError, IntegrityError, OutOfRange, UnknownName

TASKS = Path(__file__).resolve().parents[2] / "datasets" / "tasks"
ACCOUNTS = load_accounts(TASKS / "accounts.yaml")
FIGURES = load_figures(TASKS / "figures.jsonl")
FACTS = load_facts(TASKS / "facts.jsonl")
ASKED = instructions(root=4, per_level=40)

# ---------------------------------------------------------------------------------------------------------- constraints

CASES: list[tuple[Constraint, str, str]] = [
    (Sentences(2), "One here. Two there!", "One here."),
    (Sentences(1), "It costs 3.50 e.g. at noon.", "It costs 3. 50"),
    (Words(3, "at most"), "one - two three", "one two three four"),
    (Words(3, "at least"), "one two three", "one - two"),
    (Words(2, "exactly"), "well-known bridge", "a well known bridge"),
    (Bullets(2), "- a\n\n- b\n", "- a\n- b\n- c"),
    (Bullets(2), "* a\n* b", "Here:\n- a\n- b"),
    (JsonObject(("a", "b")), '{"b": 1, "a": []}', '{"a": 1}'),
    (JsonObject(("a",)), '```json\n{"a": 1}\n```', 'Sure: {"a": 1}'),
    (JsonObject(("a",)), '{"a": {"b": 2}}', "[1]"),
    (Includes("often"), "Often, it rains", "It softens"),
    (Avoids("it"), "The kite sits still.", "So is IT."),
    (EndsWith("That is all."), "A bridge. That is all. \n", "That is all. Or not."),
    (LetterCase("small"), "a bridge, 1894", "A bridge"),
    (LetterCase("capital"), "A BRIDGE!", "A BRIdGE"),
]


@pytest.mark.parametrize(("constraint", "good", "bad"), CASES, ids=lambda value: str(value)[:24])
def test_a_constraint_is_counted(constraint: Constraint, good: str, bad: str) -> None:
    assert (constraint.met(good), constraint.met(bad)) == (True, False)


def test_every_constraint_is_tried_and_says_what_it_wants() -> None:
    assert {type(constraint) for constraint, _, _ in CASES} == set(CONSTRAINTS.values())
    for constraint, _, _ in CASES:
        for value in vars(constraint).values():
            for part in value if isinstance(value, tuple) else (value,):
                assert str(part) in constraint.wording


def test_words_and_sentences_by_hand() -> None:
    spoken = 'Dr. Bo came at 3.30 p.m. "Why?" asked he. Nobody knew why'
    assert sentences(spoken) == ("Dr. Bo came at 3.30 p.m.", '"Why?"', "asked he.", "Nobody knew why")
    assert words("") == sentences("") == sentences(" ... ") == ()
    assert sentences("A title\nThen more. And more") == ("A title", "Then more.", "And more")
    assert sentences("We took plan B. It worked") == ("We took plan B. It worked",)  # an initial, by the stated rule


def compose(item: Instruction) -> str:
    """Write a text that meets every constraint, from the constraints' values alone."""
    kinds = {type(each): each for each in item.constraints}
    shape = next((each for each in item.constraints if isinstance(each, Sentences | Bullets | JsonObject)), None)
    closing = kinds[EndsWith].phrase if EndsWith in kinds else ""  # type: ignore[attr-defined]
    parts = (len(shape.keys) if isinstance(shape, JsonObject) else shape.count) if shape else 1
    body = [["blue"] for _ in range(parts - (1 if closing and isinstance(shape, Sentences) else 0))]
    if Includes in kinds:
        body[0].append(kinds[Includes].word)  # type: ignore[attr-defined]
    if Words in kinds and kinds[Words].bound == "at least":  # type: ignore[attr-defined]
        body[0] += ["blue"] * kinds[Words].count  # type: ignore[attr-defined]
    if isinstance(shape, JsonObject):
        return json.dumps(dict(zip(shape.keys, (" ".join(part) for part in body), strict=True)))
    if isinstance(shape, Bullets):
        return "\n".join(f"- {' '.join(part)}" for part in body)
    text = " ".join(f"{' '.join(part)}." for part in body) + (f" {closing}" if closing else "")
    case = kinds[LetterCase].case if LetterCase in kinds else None  # type: ignore[attr-defined]
    return text.lower() if case == "small" else text.upper() if case == "capital" else text


def test_instructions_can_be_met_and_are_marked_one() -> None:
    for item in ASKED:
        assert unmet(item, compose(item)) == ()
        assert not clash(item.constraints)
        assert len(item.constraints) == item.level
        assert all(each.wording in item.prompt for each in item.constraints)
    assert [level.value for level in by_level([adherence(item, compose(item)) for item in ASKED])] == [1.0, 1.0, 1.0]


def test_instructions_are_distinct_and_repeatable() -> None:
    assert instructions(root=4, per_level=40) == ASKED
    assert len({item.prompt for item in ASKED}) == len(ASKED) == 120
    used = {type(each) for item in ASKED for each in item.constraints}
    assert used == set(CONSTRAINTS.values())
    with pytest.raises(OutOfRange, match="101 instructions"):
        instructions(root=1, per_level=101)


def test_a_text_for_another_question_earns_less() -> None:
    accidental = tally(by_accident(ASKED, [compose(item) for item in ASKED], adherence))
    assert accidental.value is not None
    assert 0.1 < accidental.value < 0.7
    assert accidental.chance is None
    with pytest.raises(DataError, match="1 texts for 120"):
        by_accident(ASKED, ["x"], adherence)


def test_a_half_met_instruction_is_a_half_and_an_empty_text_is_missing() -> None:
    item = Instruction("i", 2, "?", (Sentences(2), Includes("often")))
    assert adherence(item, "One. Two.").value == 0.5
    assert unmet(item, "One. Two.") == (Includes("often"),)
    assert adherence(item, "  ").reason == "empty answer"


# ------------------------------------------------------------------------------------------------------------ summaries


def test_references_say_every_fact_within_the_limit() -> None:
    assert len(ACCOUNTS) == 12
    for account in ACCOUNTS:
        assert len(words(account.reference)) <= account.limit
        assert coverage(account, account.reference).value == 1.0
        assert all(fact.said(account.text) for fact in account.facts)


def test_a_summary_of_another_passage_and_a_copied_beginning_earn_less() -> None:
    other = tally(by_accident(ACCOUNTS, [account.reference for account in ACCOUNTS], coverage))
    copied = tally([coverage(account, account.text) for account in ACCOUNTS])
    assert other.value == pytest.approx(0.0, abs=0.02)
    assert copied.value is not None
    assert 0.3 < copied.value < 0.75


def test_coverage_by_hand() -> None:
    facts = (Fact("opened 1894", (("open*",), ("1894", "ninety-four"))), Fact("by Voss", (("voss",),)))
    account = Account("a", 1, "text", 5, facts, "ref")
    assert coverage(account, "It OPENED in 1894").value == 0.5
    assert coverage(account, "Voss opened it in ninety-four").value == 1.0
    assert coverage(account, "It was opened a long time ago, in 1894, by Voss").value == 0.0
    assert coverage(account, "vossian").value == 0.0
    assert coverage(account, "").value is None
    assert "at most 5 words" in account.prompt


# ----------------------------------------------------------------------------------------------------------- divergence

AXES = ("lamp", "river", "tax", "glue", "owl", "hat", "law", "song")


def on_axes(word: str) -> Sequence[float] | None:
    return list(np.eye(len(AXES))[AXES.index(word)]) if word in AXES else None


def test_orthogonal_nouns_score_one_and_nouns_of_one_direction_zero() -> None:
    assert divergence("\n".join(AXES), on_axes).value == pytest.approx(1.0)
    assert divergence("\n".join(AXES), on_axes).words == AXES[:7]
    assert divergence(", ".join(AXES), lambda word: [float(len(word)), 0.0]).value == pytest.approx(0.0)


def test_divergence_by_hand() -> None:
    plane = {word: [math.cos(at), math.sin(at)] for at, word in enumerate(AXES)}
    pairs = [1 - math.cos(a - b) for a in range(7) for b in range(a)]
    found = divergence("\n".join(f"{n}. {word.title()}" for n, word in enumerate(AXES, 1)), plane.get)
    assert found.value == pytest.approx(sum(pairs) / 21)


def test_too_few_nouns_are_missing() -> None:
    found = divergence("lamp\nlamp\nriver\nold tax\nzzz", on_axes)
    assert (found.value, found.words, found.n_named) == (None, ("lamp", "river"), 5)
    assert found.reason == "2 valid nouns, 7 are needed"
    assert divergence(" ", on_axes).reason == "empty answer"
    with pytest.raises(DataError, match="not a finite vector"):
        divergence("lamp", lambda _: [0.0, 0.0])


# ---------------------------------------------------------------------------------------------------------------- banks


def test_figures_and_facts_are_as_many_as_said_and_have_both_levels() -> None:
    assert (len(FIGURES), len(FACTS)) == (40, 60)
    for bank in (FIGURES, FACTS):
        assert {item.level for item in bank} == {1, 2}


def test_perfect_and_indifferent_readers_of_the_banks() -> None:
    for problems in ([f.problem() for f in FIGURES], [f.problem(3) for f in FACTS]):
        perfect = [rank(p, [-float(at != p.truth) for at in range(len(p.options))]) for p in problems]
        even = tally([rank(p, [-1.0] * len(p.options)) for p in problems])
        assert tally(perfect).value == 1.0
        assert even.value == pytest.approx(even.chance)
    assert tally([exact(f.problem(3), f.answer) for f in FACTS]).value == 1.0


def test_the_place_of_the_true_answer_follows_the_root() -> None:
    first, again, other = ([f.problem(root).truth for f in FACTS] for root in (1, 1, 2))
    assert first == again != other
    assert min(first.count(place) for place in range(4)) >= 6


def test_preference_by_hand() -> None:
    found = preference([-2.0, -3.0, -7.0])
    assert (found.apt_literal, found.apt_anomalous) == (1.0, 5.0)
    assert preference([-2.0, -math.inf, -7.0]).reason == "an option has no log-likelihood"
    with pytest.raises(DataError, match="2 log-likelihoods"):
        preference([1.0, 2.0])


HEAD = {"kind": "figures", "title": "t", "version": "1", "licence": "CC0", "author": "a"}
FIGURE = {"id": "m", "level": "1", "stem": "It is", "apt": "a b", "literal": "a c", "anomalous": "a d"}
FACT = {"id": "f", "level": "1", "question": "What?", "answer": "A", "wrong": ["b", "c", "d"]}


@pytest.mark.parametrize(
    ("load", "kind", "lines", "message"),
    [
        (load_figures, "figures", [FIGURE | {"apt": "a b c d"}], r"completions of \[4, 2, 2\] words"),
        (load_figures, "figures", [FIGURE, FIGURE | {"id": "n"}], "'It is' occurs twice"),
        (load_figures, "figures", [FIGURE | {"level": "3"}], "'level' is '3', allowed: 1, 2"),
        (load_facts, "facts", [FACT | {"answer": "B"}], "the answer 'B' is also listed as wrong"),
        (load_facts, "facts", [FACT | {"wrong": ["b"]}], "'wrong' has 1 entries, expected 3"),
    ],
)
def test_a_malformed_bank_says_where(
    tmp_path: Path, load: Callable[[Path], object], kind: str, lines: list[dict[str, object]], message: str
) -> None:
    path = tmp_path / "bank.jsonl"
    path.write_text("\n".join(json.dumps(line) for line in [HEAD | {"kind": kind}, *lines]), "utf-8")
    with pytest.raises(InstrumentError, match=message):
        load(path)


# ---------------------------------------------------------------------------------------------------------- calibration

TWO = [Problem(str(n), "t", 1, f"{n}?", ("yes", "no"), 0) for n in range(8)]


def test_calibration_by_hand() -> None:
    """Two problems at .8, one of them right; one at .6, right."""
    loglik = [[math.log(0.8), math.log(0.2)], [math.log(0.2), math.log(0.8)], [math.log(0.6), math.log(0.4)]]
    found = certainty(TWO[:3], loglik)
    assert found.ece == pytest.approx((2 * abs(0.5 - 0.8) + abs(1 - 0.6)) / 3)
    assert found.brier == pytest.approx((2 * 0.2**2 + 2 * 0.8**2 + 2 * 0.4**2) / 3)
    assert found.accuracy == pytest.approx(2 / 3)
    assert found.confidence == pytest.approx((0.8 + 0.8 + 0.6) / 3)


def test_calibration_against_a_slow_twin() -> None:
    stream = np.random.default_rng(8)
    problems = [Problem(str(n), "t", 1, f"{n}?", ("a", "b", "c"), int(stream.integers(3))) for n in range(300)]
    loglik = stream.normal(size=(300, 3)) * 2
    bins: dict[int, list[tuple[float, float]]] = {}
    brier = 0.0
    for problem, row in zip(problems, loglik, strict=True):
        p = np.exp(row) / np.exp(row).sum()
        brier += float(((p - np.eye(3)[problem.truth]) ** 2).sum()) / 300
        place = next(k for k in range(10) if p.max() <= (k + 1) / 10)
        bins.setdefault(place, []).append((float(p.max()), float(p.argmax() == problem.truth)))
    ece = sum(len(b) / 300 * abs(np.mean([c for c, _ in b]) - np.mean([r for _, r in b])) for b in bins.values())
    found = certainty(problems, loglik.tolist())
    assert found.brier == pytest.approx(brier)
    assert found.ece == pytest.approx(float(ece))


def test_a_sure_and_right_responder_is_perfect_an_even_one_has_no_skill_and_a_missing_one_no_number() -> None:
    sure = certainty(TWO, [[0.0, -math.inf]] * 8)
    assert (sure.ece, sure.brier, sure.skill, sure.accuracy) == (0.0, 0.0, 1.0, 1.0)
    even = certainty(TWO, [[-1.0, -1.0]] * 8)
    assert (even.ece, even.skill, even.accuracy) == (0.0, 0.0, 0.5)
    part = certainty(TWO, [[0.0, -math.inf]] * 7 + [[None, -1.0]])
    assert (part.n_items, part.n_valid, part.brier) == (8, 7, 0.0)
    none = certainty(TWO[:1], [[-math.inf, -math.inf]])
    assert none.ece is None
    assert str(none).startswith("calibration missing")
    with pytest.raises(DataError, match="no distribution"):
        probabilities([-math.inf, -math.inf])
    with pytest.raises(OutOfRange, match="0 bins"):
        certainty(TWO, [[-1.0, -1.0]] * 8, bins=0)


# --------------------------------------------------------------------------------------------------------- side effects

PAIR = MinimalPair("u", "syntax", "good one", "bad one")


def test_grammaticality_by_hand() -> None:
    assert [grammaticality(PAIR, a, b).value for a, b in ((-1, -2), (-2, -1), (-1, -1))] == [1.0, 0.0, 0.5]
    assert grammaticality(PAIR, None, -1).reason == "an option has no log-likelihood"
    assert grammaticality(PAIR, -math.inf, -math.inf).value is None
    with pytest.raises(DataError, match="not a number"):
        grammaticality(PAIR, math.nan, 0.0)


def test_perplexity_by_hand() -> None:
    found = perplexity([Passage(-4 * math.log(2), 4, 8), Passage(-2 * math.log(8), 2, 2)])
    assert found.per_token == pytest.approx(2 ** (10 / 6))
    assert found.bits_per_byte == pytest.approx(1.0)
    uniform = perplexity([Passage(-5 * math.log(50), 5, 20)])
    assert uniform.per_token == pytest.approx(50)
    assert perplexity([Passage(-math.inf, 4, 8)]).reason == "the sampler excludes a token of a text"
    for wrong in ([], [Passage(0.0, 0, 1)], [Passage(0.1, 1, 1)]):
        with pytest.raises(DataError):
            perplexity(wrong)
    assert str(unread("no folder")) == "perplexity missing (no folder)"


def test_absent_data_are_said_with_their_address(tmp_path: Path) -> None:
    for name, file in PUBLIC.items():
        for folder in (None, tmp_path):
            reason = why_absent(folder, name)
            assert reason is not None
            assert file.url in reason
            with pytest.raises(DataError, match=f"^{name}: "):
                read_public(folder, name)
    with pytest.raises(UnknownName, match="Did you mean 'blimp'"):
        why_absent(None, "blim")


def test_other_data_than_the_pinned_are_refused(tmp_path: Path) -> None:
    (tmp_path / "blimp").mkdir()
    (tmp_path / PUBLIC["blimp"].path).write_text("uid,field\n", "utf-8")
    assert why_absent(tmp_path, "blimp") is None
    with pytest.raises(IntegrityError, match="was pinned"):
        load_blimp(tmp_path, per_paradigm=1)


def test_public_data_are_read(data_folder: Path) -> None:
    pairs = load_blimp(data_folder, per_paradigm=3)
    assert len(pairs) == 3 * 67
    assert {pair.field for pair in pairs} == {"syntax", "morphology", "semantics", "syntax_semantics"}
    assert all(pair.good != pair.bad for pair in pairs)
    texts = load_wikitext(data_folder, count=20)
    assert len(texts) == 20
    assert not any(text.startswith("=") for text in texts)
    for wrong in (lambda: load_blimp(data_folder, per_paradigm=101), lambda: load_wikitext(data_folder, count=10**6)):
        with pytest.raises(DataError):
            wrong()


def test_the_shortened_pairs_are_made_from_the_published_ones(tmp_path: Path) -> None:
    keys = ("UID", "field", "linguistics_term", "pairID", "sentence_good", "sentence_bad", "more")
    for name in ("b", "a"):
        lines = [json.dumps(dict.fromkeys(keys, name) | {"pairID": str(n)}) for n in range(150)]
        (tmp_path / f"{name}.jsonl").write_text("\n".join(lines), "utf-8")
    lines = shorten_blimp(tmp_path).decode().splitlines()
    assert lines[0] == "uid,field,term,pair_id,good,bad"
    assert (lines[1], lines[100], lines[101]) == ("a,a,a,0,a,a", "a,a,a,99,a,a", "b,b,b,0,b,b")
    assert len(lines) == 201
