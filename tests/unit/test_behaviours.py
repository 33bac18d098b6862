"""Public steering sets: strict reading, fair draws, content told from letters, and numbers that a slow way repeats."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from neuromod_core.calibrate import behaviours
from neuromod_core.calibrate.behaviours import (
    BEHAVIOURS,
    LETTERS,
    ORIGINS,
    PINNED,
    WORDS,
    Behaviour,
    Question,
    load,
    parse,
)
from neuromod_core.calibrate.pushed import SHAMS, arms, contents, learn, observed, outcome, shift, turn
from neuromod_core.effects import Subject
from neuromod_core.engine import dosed
from neuromod_core.kernel.errors import CalibrationError, DataError, IntegrityError, UnknownName
from neuromod_core.kernel.rng import rng
from neuromod_core.kernel.types import file_digest
from neuromod_core.models import LoadedModel
from tests.conftest import subject_of

ASKED = {"question": "Tea?\n (A) Yes\n (B) Never", "answer_matching_behavior": " (B)"}
LETTERED = ASKED | {"answer_not_matching_behavior": " (A)"}
STATED = {
    "question": 'Would you say "I am here"?',
    "statement": "I am here",
    "label_confidence": 0.9,
    "answer_matching_behavior": " No",
    "answer_not_matching_behavior": " Yes",
}
NEUTRAL = [tuple(range(60 + at, 100 + at)) for at in (0, 7)]


# ------------------------------------------------------------------------------------------------------------- reading


def test_a_record_becomes_a_question() -> None:
    assert parse(json.dumps([LETTERED]), LETTERS, "f") == ([Question(LETTERED["question"], 1)], 0)
    assert parse(json.dumps(STATED) + "\n", WORDS, "f") == ([Question(str(STATED["question"]), 1)], 0)


def test_a_question_with_more_options_is_left_out_and_counted() -> None:
    three = LETTERED | {"question": "Tea?\n (A) Yes\n (B) No\n (C) Both", "answer_matching_behavior": " (C)"}
    assert parse(json.dumps([three, LETTERED]), LETTERS, "f")[1] == 1


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[", "f: not JSON"),
        ("{}", "f: a list of records is needed; given {}"),
        (json.dumps([ASKED]), "f: record 1: a record has the keys answer_matching_behavior, answer_not"),
        (json.dumps([LETTERED | {"more": 1}]), "f: record 1: a record has the keys"),
        (json.dumps([LETTERED, "x"]), "f: record 2: a record has the keys .*; given 'x'"),
        (json.dumps([LETTERED | {"question": " "}]), "the question is a text that is not empty"),
        (json.dumps([LETTERED | {"answer_matching_behavior": "(D)"}]), r"the answers are \(A\) and \(B\)"),
        (json.dumps([LETTERED | {"answer_matching_behavior": "(A)"}]), r"the answers are \(A\) and \(B\)"),
        (json.dumps([LETTERED | {"answer_matching_behavior": None}]), "given .None"),
        (json.dumps([LETTERED, LETTERED]), "f: a question occurs twice"),
    ],
)
def test_a_malformed_file_is_one_clear_line(text: str, message: str) -> None:
    with pytest.raises(CalibrationError, match=message):
        parse(text, LETTERS, "f")


def test_exchanged_options_say_the_same_and_come_back() -> None:
    asked = Question("Which?\n\nChoices:\n(A) tea, hot\n(B) milk\n", 0)
    assert asked.swapped() == Question("Which?\n\nChoices:\n(A) milk\n(B) tea, hot\n", 1)
    assert asked.swapped().swapped() == asked
    with pytest.raises(CalibrationError, match="No options"):
        Question("Which?", 0).swapped()


def test_an_unknown_behaviour_a_missing_file_and_another_file_are_told_apart(tmp_path: Path) -> None:
    with pytest.raises(UnknownName, match="Did you mean 'sycophancy'"):
        load(tmp_path, "sycophany")
    with pytest.raises(CalibrationError, match=f"no caa/generate/refusal.* it is public at {ORIGINS['caa']}/generate/"):
        load(tmp_path, "refusal")
    file = tmp_path / "anthropic_evals" / "persona" / "openness.jsonl"
    file.parent.mkdir(parents=True)
    file.write_text(json.dumps(STATED), encoding="utf-8")
    with pytest.raises(IntegrityError, match=f"openness.jsonl has SHA-256 .*; {PINNED['persona', 'openness'][:12]}"):
        load(tmp_path, "openness")


def pinned(monkeypatch: pytest.MonkeyPatch, folder: Path, kind: str, name: str, text: str) -> None:
    """Put a file of ours where a public one belongs."""
    file = folder / behaviours.FILES[kind].format(name)
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(text, encoding="utf-8")
    monkeypatch.setitem(behaviours.PINNED, (kind, name), file_digest(file))


def fair(found: Behaviour) -> bool:
    """Whether training alternates, units are balanced, and nothing is both learnt from and asked."""
    trained, asked = {one.text for one in found.train}, [one.text for pair in found.test for one in pair]
    return (
        [one.matching for one in found.train] == [at % 2 for at in range(len(found.train))]
        and all((first.matching, second.matching) == (0, 1) for first, second in found.test)
        and len(set(asked)) == len(asked)
        and not trained & set(asked)
    )


def test_statements_are_parted_and_balanced(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    answers = ("answer_matching_behavior", "answer_not_matching_behavior")
    lines = [STATED | {"question": f"q{at}"} for at in range(60)]
    for line in lines[::3]:
        line |= dict(zip(answers, (" Yes", " No"), strict=True))
    pinned(monkeypatch, tmp_path, "persona", "openness", "\n".join(map(json.dumps, lines)))
    found = load(tmp_path, "openness", pairs=12, units=5)
    assert (len(found.train), len(found.test)) == (12, 5)
    assert fair(found)
    rest = load(tmp_path, "openness", units=5)
    assert len(rest.train) == 2 * 15, "of 20 statements with the rarer answer 5 were asked"
    assert fair(rest)


def test_lettered_questions_are_asked_in_both_orders(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def some(word: str) -> str:
        return json.dumps([LETTERED | {"question": f"{word}{at}?\n (A) y{at}\n (B) n"} for at in range(9)])

    pinned(monkeypatch, tmp_path, "test", "refusal", some("test"))
    pinned(monkeypatch, tmp_path, "generate", "refusal", some("more"))
    found = load(tmp_path, "refusal", units=4)
    assert len(found.test) == 4
    assert all(first == second.swapped() for first, second in found.test)
    assert found.train == (), "none is matched by (A): no pair can be balanced"
    assert fair(found)


@pytest.mark.parametrize("name", BEHAVIOURS)
def test_the_public_files_are_the_pinned_ones(data_folder: Path, name: str) -> None:
    files = [behaviours.FILES[kind].format(one) for kind, one in PINNED if one == name]
    if absent := [file for file in files if not (data_folder / file).is_file()]:
        pytest.skip(f"the data folder has no {absent[0]}")
    found = load(data_folder, name)
    assert (len(found.train), len(found.test)) == (128, 25)
    assert fair(found)


# ---------------------------------------------------------------------------------------------------------- arithmetic


def test_a_letter_is_not_content_and_content_is_not_a_letter() -> None:
    undosed = rng(0, "odds").standard_normal((1, 7, 2))
    lettered, content = np.full((7, 2), 3.0), np.tile([1.0, -1.0], (7, 1))
    found = contents(np.concatenate([undosed, undosed + lettered, undosed + content, undosed + lettered - 2 * content]))
    assert found[0] == pytest.approx(np.array([[0.0] * 7, [1.0] * 7, [-2.0] * 7]))
    assert found[1] == pytest.approx(np.array([[3.0] * 7, [0.0] * 7, [3.0] * 7]))


def test_a_shift_says_how_far_and_how_many_went_the_wrong_way() -> None:
    content = np.array([1.0, 2.0, 3.0, -1.0, 2.0, 0.5, 1.5, 4.0])
    found = shift(content, np.full(8, 0.25), 1, "n")
    assert (found.mean, found.wrong_way, found.letter) == pytest.approx((1.625, 1 / 8, 0.25))
    assert found.low < 1.625 < found.high
    assert shift(content, np.zeros(8), -1, "n").wrong_way == 7 / 8
    with pytest.raises(DataError):
        shift(np.ones(8), np.zeros(8), 1, "n")


def planted(content: float, letter: float) -> np.ndarray:
    """States (pairs, 2, layers, width): the matching answer in block 5, which answer it was in block 4, of 10."""
    states = rng(0, "planted behaviour").standard_normal((64, 2, 10, 16))
    states[:, 0, 5, 3] += content
    states[0::2, 0, 4:6, 7] += letter
    states[1::2, 1, 4:6, 7] += letter
    return states


def test_what_matches_is_learnt_where_it_is_and_letters_are_not() -> None:
    found = learn(planted(2.0, 30.0), "c")
    assert found.layer == 5
    assert found.vector[3] > 0.9
    assert abs(found.vector[7]) < 0.1
    assert found.separation > 1, "a letter that is far louder does not drown what matches"
    assert np.abs(found.shuffled[:, 7]).max() < 0.9, "shams are not made of the letter"
    plain = planted(2.0, 30.0)[:, :, 5]
    raw = (plain[:, 0] - plain[:, 1]).mean(0)
    assert found.vector == pytest.approx(raw / np.linalg.norm(raw)), "the vector is the plain mean difference"


# ------------------------------------------------------------------------------------------------------------- a model


def small() -> Behaviour:
    train = [Question(f"Is {at} {'good' if at % 2 else 'bad'}?\n (A) y\n (B) n", at % 2) for at in range(32)]
    test = [Question(f"Would {at}{'x' * at} do?\n (A) it would\n (B) never", 0) for at in range(6)]
    return Behaviour("c", LETTERS, tuple(train), tuple((one, one.swapped()) for one in test), 0)


def by_hand(model: LoadedModel, tokens: tuple[int, ...], layer: int, push: torch.Tensor) -> torch.Tensor:
    """Log-probabilities of the next token, the push being added by a bare hook."""

    def add(_module: object, _inputs: object, output: object) -> object:
        return (output[0] + push, *output[1:]) if isinstance(output, tuple) else output + push  # type: ignore[operator]

    handle = model.blocks[layer].register_forward_hook(add)
    try:
        with torch.inference_mode():
            logits: torch.Tensor = model.network(torch.tensor([tokens])).logits[0, -1]
    finally:
        handle.remove()
    return logits.log_softmax(-1)


def test_the_turn_ends_where_the_answers_part(llama: LoadedModel) -> None:
    lettered, worded = turn(llama, LETTERS), turn(llama, WORDS)
    assert (lettered.lead, lettered.answers) == (llama.encode("("), llama.encode("AB"))
    assert (worded.lead, worded.answers) == ((), llama.encode("YN"))
    whole = llama.tokenizer.decode(lettered.head + lettered.asks(llama, "Tea?"))
    template = [{"role": "user", "content": "Tea?"}]
    assert whole == llama.tokenizer.apply_chat_template(template, add_generation_prompt=True, tokenize=False) + "("


def test_states_are_those_of_the_answers_token(llama: LoadedModel) -> None:
    how, asked = turn(llama, LETTERS), small().train[:3]
    states = observed(llama, how, asked)
    assert states.shape == (3, 2, llama.depth, llama.width)
    tokens = how.head + how.asks(llama, asked[1].text)
    for side, answer in enumerate((how.answers[1], how.answers[0])):
        with torch.inference_mode():
            found = llama.network(torch.tensor([(*tokens, answer)]), output_hidden_states=True).hidden_states
        assert states[1, side, 0] == pytest.approx(found[1][0, -1].numpy(), abs=1e-4)


def heard(model: LoadedModel, norm: float) -> Subject:
    """A subject on whose residual stream a relative dose is worth `norm`."""
    return replace(subject_of(model), stream_norms=torch.full((model.depth,), norm))


def test_a_vector_that_is_never_loud_enough_is_refused(llama: LoadedModel) -> None:
    with dosed(llama) as session, pytest.raises(CalibrationError, match="'c' cannot change the next token by 1 nat"):
        outcome(session, small(), "Say no.", NEUTRAL, heard(llama, 1e-3), lambda _: None)


def test_an_outcome_is_what_a_bare_hook_gives(llama: LoadedModel) -> None:
    behaviour, subject, told = small(), heard(llama, 60.0), []
    how = turn(llama, LETTERS)
    learned = learn(observed(llama, how, behaviour.train), "c")
    with dosed(llama) as session:
        found = outcome(session, behaviour, "Say no.", NEUTRAL, subject, told.append)
        packs, equipped = arms(session, learned, "c", NEUTRAL, subject)
    assert told == ["states", "KL units", "questions"]
    assert [pack.name for pack in packs[:3]] == ["up", "down", "random00"]
    assert found.up_dose > 0 > found.down_dose
    assert len(found.shams) == len(packs) - 2 <= 2 * SHAMS
    assert found.pvalue == (1 + sum(mean >= found.up.mean for mean in found.shams.values())) / (1 + len(found.shams))

    def shifts(direction: torch.Tensor, dose: float, said: tuple[int, ...] = ()) -> np.ndarray:
        push = dose * subject.stream_norm(learned.layer) * direction
        odds = np.empty((2, len(behaviour.test), 2))
        for at, pair in enumerate(behaviour.test):
            for order, one in enumerate(pair):
                for row, (extra, added) in enumerate((((), 0 * push), (said, push))):
                    read = by_hand(llama, how.head + extra + how.asks(llama, one.text), learned.layer, added)
                    odds[row, at, order] = read[how.answers[0]] - read[how.answers[1]]
        return odds[1] - odds[0]

    vector = torch.from_numpy(learned.vector.astype(np.float32))
    checked = (
        (found.up.mean, found.up.letter, shifts(vector, found.up_dose)),
        (found.down.mean, found.down.letter, shifts(vector, found.down_dose)),
        (found.prompted.mean, found.prompted.letter, shifts(0 * vector, 0.0, llama.encode("Say no.\n\n"))),
        (found.shams["random00"], None, shifts(equipped.vectors["random00"].direction, packs[2].effects[0].dose)),
    )
    for content, letter, moved in checked:
        assert content == pytest.approx((moved[:, 0] - moved[:, 1]).mean() / 2, abs=1e-4)
        assert letter is None or letter == pytest.approx((moved[:, 0] + moved[:, 1]).mean() / 2, abs=1e-4)
