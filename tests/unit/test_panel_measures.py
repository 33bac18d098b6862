"""Measures of the panel beside the scales: what a text is worth, how sure who is right, statistics of whole arms."""

from __future__ import annotations

import dataclasses
import math
from collections import Counter
from itertools import combinations

import numpy as np
import pandas as pd
import pytest

from neuromod_core.instruments.tasks import TASKS, Problem, certainty, detection, problems
from neuromod_core.instruments.tasks.certainty import calibration_error
from neuromod_core.kernel.errors import DataError
from neuromod_core.kernel.rng import rng
from neuromod_core.models import LoadedModel
from neuromod_core.trial.bank import Asked, Bank, deal, load_bank, registered
from neuromod_core.trial.harms import MEASURES
from neuromod_core.trial.panel import LIMITS, Panel
from neuromod_core.trial.wholes import WHOLES, Whole, wholes
from neuromod_core.trial.written import Piece, pieces, word_vectors
from tasks.costing import Size
from tests.conftest import ROOT

PANEL = Panel(requests=2, replies=1, problems=5, figures=2, writing=1, summaries=1, associations=2)
UNITS = tuple(f"u{number:02d}" for number in range(30))
NOUNS = ("lamp", "river", "tax", "glue", "cloud", "moral", "fork")


@pytest.fixture(scope="module")
def bank() -> Bank:
    return load_bank(ROOT, None, PANEL, len(UNITS))


@pytest.fixture(scope="module")
def asked(bank: Bank) -> dict[str, Asked]:
    return dict(deal(PANEL, bank, UNITS, 7))


def on_axes(word: str) -> list[float] | None:
    return [float(word == noun) for noun in NOUNS] if word in NOUNS else None


def written(asked: dict[str, Asked], bank: Bank, unit: str = "u00") -> list[Piece]:
    return pieces(asked[unit], unit, bank.reader, on_axes, 10)


# ------------------------------------------------------------------------------------------------------ what is written


def test_a_passage_and_a_figure_are_asked_in_one_unit_and_lists_of_words_in_every_one(asked: dict[str, Asked]) -> None:
    summaries = [item.id for each in asked.values() for item in each.summaries]
    figures = [item.id for each in asked.values() for item in each.figures]
    assert (len(summaries), len(figures)) == (len(set(summaries)), len(set(figures))) == (12, 40)
    assert all(len(each.associations) == 2 for each in asked.values())


def test_every_text_of_the_panel_is_registered(bank: Bank) -> None:
    texts = registered(PANEL, bank).texts
    assert set(texts) == {"reader", "requests", "facts", "figures", "accounts", "associations"}
    assert set(registered(Panel(problems=1), load_bank(ROOT, None, Panel(problems=1), 4)).texts) == {"reader", "facts"}


def test_an_empty_text_is_missing_with_a_reason_and_never_a_number(asked: dict[str, Asked], bank: Bank) -> None:
    found = written(asked, bank)
    assert {piece.instrument for piece in found} == {"instructions", "summary", "association", "refusal"}
    for piece in found:
        for text in ("", " \n"):
            worth = piece.judge(text)
            assert worth["value"] is None
            assert worth["reason"]


def test_a_perfect_text_scores_one_and_half_a_list_is_missing(asked: dict[str, Asked], bank: Bank) -> None:
    (item,), found = asked["u00"].summaries, written(asked, bank)
    (summary,) = (piece for piece in found if piece.instrument == "summary")
    first, second = (piece for piece in found if piece.instrument == "association")
    assert summary.judge(item.reference)["value"] == 1
    assert first.judge("\n".join(NOUNS))["value"] == 1
    assert first.judge("\n".join(NOUNS[:6]))["reason"] == "6 valid nouns, 7 are needed"
    assert first.judge(", ".join(NOUNS[:6] * 3))["value"] is None, "a word that is named again is no other word"
    assert first.item != second.item, "each list has randomness of its own"


def test_summaries_and_lists_may_be_twice_as_long(asked: dict[str, Asked], bank: Bank) -> None:
    lengths = {piece.instrument: piece.tokens for piece in written(asked, bank)}
    assert lengths == {"instructions": 10, "summary": 20, "association": 20, "refusal": 10}


def test_a_word_is_known_by_the_vector_of_its_one_token(llama: LoadedModel) -> None:
    embed, vectors = word_vectors(llama), llama.word_vectors()
    texts = {token: llama.tokenizer.decode([token]) for token in range(vectors.shape[0])}
    known = {text.strip(): token for token, text in texts.items() if text.strip().isalpha() and text.strip().islower()}
    seen = {word: vector for word in known if (vector := embed(word)) is not None}
    assert len(seen) > 5
    assert all(vector == vectors[known[word]].tolist() for word, vector in seen.items())
    assert embed("xqzzyvk" * 3) is None


def test_neither_of_two_answers_is_right_more_often() -> None:
    """Levels and truths take turns, so that whoever always says yes is right half of the time, to within one."""
    panel = Panel(problems=5)
    asked = deal(panel, load_bank(ROOT, None, panel, 12), [f"u{number}" for number in range(12)], 7).values()
    for task, levels in (("n_back", 3), ("syllogism", 2)):
        mine = [problem for each in asked for problem in each.problems if problem.task == task]
        assert len({problem.id for problem in mine}) == len(mine) == 12
        assert Counter(problem.truth for problem in mine) == {0: 6, 1: 6}
        assert set(Counter(problem.level for problem in mine).values()) == {12 // levels}


# --------------------------------------------------------------------------------------------------- statistics of arms


def rows_of(asked: list[Problem], loglik: dict[str, list[float]], arm: str) -> pd.DataFrame:
    """Return the rows that ranked problems leave, five of them a unit."""
    rows = []
    for place, problem in enumerate(asked):
        unit, read = UNITS[place // 5], loglik[problem.id]
        best = max(read)
        value = (read[problem.truth] == best) / read.count(best)
        rows.append((unit, arm, problem.task, problem.id, "ranked", value, None, read))
        if problem.task == "n_back":
            rows.append((unit, arm, "n_back", problem.id, "evidence", read[0] - read[1], problem.truth == 0, None))
    return pd.DataFrame(
        rows, columns=["unit_id", "arm", "instrument", "item", "reading", "value", "event", "loglik"]
    ).sample(frac=1, random_state=1)


def every(per_level: int = 6) -> list[Problem]:
    return [problem for name in sorted(TASKS) for problem in problems(name, root=3, per_level=per_level)]


def perfect(problem: Problem) -> list[float]:
    return [0.0 if place == problem.truth else -1000.0 for place in range(len(problem.options))]


def even(problem: Problem) -> list[float]:
    return [-1.0] * len(problem.options)


def found_in(panel: pd.DataFrame) -> dict[tuple[str, str], Whole]:
    return {(each.arm, each.name): each for each in wholes(panel, ["a", "b"], seed=5)}


def test_who_is_sure_and_right_has_no_error_and_who_is_indifferent_detects_nothing() -> None:
    asked = every()
    read = [{each.id: kind(each) for each in asked} for kind in (perfect, even)]
    found = found_in(pd.concat([rows_of(asked, read[0], "a"), rows_of(asked, read[1], "b")]))
    assert [found["a", name].value for name in ("ECE", "AUC")] == [0, 1]
    assert [found["b", name].value for name in ("AUC", "d'")] == [0.5, 0]
    assert (found["b", "AUC"].low, found["b", "AUC"].high) == (0.5, 0.5)
    assert (found["a", "d'"].value or 0) > 2
    assert {name for _, name in found} == set(WHOLES)


def test_the_statistics_are_those_of_the_tasks_and_lie_in_their_intervals() -> None:
    asked, draw = every(), rng(3, "readings")
    read = {each.id: draw.normal(size=len(each.options)).tolist() for each in asked}
    panel = rows_of(asked, read, "a")
    found = found_in(panel)
    letters = [each for each in asked if each.task == "n_back"]
    told = detection([each.truth == 0 for each in letters], [read[each.id][0] - read[each.id][1] for each in letters])
    twin = {"ECE": certainty(asked, list(read.values())).ece, "AUC": told.auc, "d'": told.d_prime}
    for name, value in twin.items():
        whole = found["a", name]
        assert whole.value == pytest.approx(value)
        assert whole.low is not None
        assert whole.high is not None
        assert whole.low < whole.high
    assert found == found_in(panel.sort_values("item"))
    assert (found["a", "ECE"].n, found["a", "AUC"].n) == (len(asked), len(letters))
    same = found_in(pd.concat([panel, panel.assign(arm="b")]))
    assert all(dataclasses.replace(same["b", name], arm="a") == same["a", name] == found["a", name] for name in WHOLES)


def test_an_arm_of_which_too_little_was_read_is_missing_with_the_reason() -> None:
    asked = problems("n_back", root=3, per_level=2)[:4]
    rows = rows_of(list(asked), {each.id: perfect(each) for each in asked}, "a")
    found = found_in(rows)
    assert {whole.value for whole in found.values()} == {None}
    assert found["a", "AUC"].reason == "2 matches and 2 others were read, 5 of each are needed"
    assert found["a", "ECE"].reason == "4 problems were read, 5 are needed"
    gone = rows.assign(value=None, reason="arm stopped at look 1: abusive language")
    assert found_in(gone)["a", "ECE"].n == 0
    assert found_in(rows.iloc[:0]) == {}


def test_the_error_of_calibration_by_hand_and_of_nothing() -> None:
    sure, right = np.array([0.95, 0.95, 0.55, 0.55]), np.array([1.0, 0.0, 1.0, 1.0])
    assert calibration_error(sure, right) == pytest.approx((0.9 + 0.9) / 4)
    assert calibration_error(sure, right, bins=1) == pytest.approx(0)
    with pytest.raises(DataError, match="0 marks for 0 probabilities"):
        calibration_error(sure[:0], right[:0])


def test_no_two_measures_average_the_same_rows() -> None:
    alike = [
        (first, second)
        for (first, one), (second, other) in combinations(MEASURES.items(), 2)
        if one[2] == other[2] and set(one[1]) & set(other[1])
    ]
    assert all("problems" in pair for pair in alike), "all problems together, and each task of them"


# ------------------------------------------------------------------------------------------------------------- its cost


def size(panel: Panel, units: int = 52, full: int = 208) -> Size:
    return Size("any", 4, 1, units, full, full, 13, 30, 96, 0.5, 0.05, panel)


@pytest.mark.parametrize("part", [name for name in LIMITS if name != "reply_tokens"])
def test_every_part_of_a_panel_enters_the_cost(part: str) -> None:
    none, one, most = (size(Panel(**{part: count})) for count in (0, 1, LIMITS[part][1]))
    assert none.panel_tokens == 0 < one.panel_tokens <= most.panel_tokens
    assert one.tokens - none.tokens == one.panel_tokens
    assert math.isclose(size(Panel(**{part: 1}), full=416).panel_tokens, 2 * one.panel_tokens, abs_tol=1)
