"""Generated tasks: a perfect responder scores 1, a random one chance, an empty answer is missing."""

from __future__ import annotations

import math
import re
from itertools import permutations, product

import numpy as np
import pytest
from scipy.stats import mannwhitneyu, norm

from neuromod_core.instruments.tasks import (
    TASKS,
    Mark,
    Problem,
    by_level,
    detection,
    exact,
    problems,
    rank,
    tally,
    yes_over_no,
)
from neuromod_core.instruments.tasks.generated import Draft, Generator, shuffled
from neuromod_core.kernel.errors import DataError, InstrumentError, OutOfRange, UnknownName

each_task = pytest.mark.parametrize("task", TASKS)
MADE = {task: problems(task, root=11, per_level=30) for task in TASKS}
SUM = Problem("s", "sums", 1, "What is 3 + 4?", ("6", "7", "8", "12"), 1)
NAME = Problem("n", "names", 2, "Which metal?", ("white gold", "gold", "Iron"), 1)


# ----------------------------------------------------------------------------------------------------------------- laws


@each_task
def test_a_perfect_responder_scores_one(task: str) -> None:
    sure = [[0.0 if at == p.truth else -5.0 for at in range(len(p.options))] for p in MADE[task]]
    marks = [rank(p, values) for p, values in zip(MADE[task], sure, strict=True)]
    written = [exact(p, f"I think it is {p.answer}.") for p in MADE[task]]
    assert tally(marks).value == tally(written).value == 1.0
    assert tally(marks).above_chance == pytest.approx(1.0)


@each_task
def test_a_random_responder_scores_chance(task: str) -> None:
    stream, rounds = np.random.default_rng(5), 60
    ranked, written = [], []
    for _ in range(rounds):
        for problem in MADE[task]:
            ranked.append(rank(problem, list(stream.normal(size=len(problem.options)))))
            written.append(exact(problem, problem.options[int(stream.integers(len(problem.options)))]))
    for marks in (ranked, written):
        found = tally(marks)
        assert found.value is not None
        assert found.chance is not None
        error = math.sqrt(sum(m.chance * (1 - m.chance) for m in marks if m.chance)) / len(marks)
        assert abs(found.value - found.chance) < 4.5 * error  # 8 comparisons: a false alarm in 20,000 runs


@each_task
def test_an_indifferent_responder_scores_chance_exactly(task: str) -> None:
    found = tally([rank(p, [-2.0] * len(p.options)) for p in MADE[task]])
    assert found.value == pytest.approx(found.chance)
    assert found.above_chance == pytest.approx(0.0)


@each_task
def test_an_empty_answer_is_missing_and_counts_nowhere(task: str) -> None:
    first, *rest = MADE[task]
    for missing in (exact(first, " \n"), rank(first, [None] * len(first.options))):
        assert missing.value is None
        assert missing.reason
        found = tally([missing, *(exact(p, p.answer) for p in rest)])
        assert (found.value, found.n_items, found.n_valid) == (1.0, len(MADE[task]), len(rest))


@each_task
def test_who_always_says_the_same_word_is_right_half_of_the_time_where_there_are_two(task: str) -> None:
    if {p.options for p in MADE[task]} != {("Yes", "No")}:
        assert len({p.answer for p in MADE[task]}) > 5
        return
    for level in by_level([exact(p, "Yes") for p in MADE[task]]):
        assert level.value == 0.5


@each_task
def test_problems_are_distinct_repeatable_and_do_not_depend_on_how_many_are_asked_for(task: str) -> None:
    made = MADE[task]
    assert made == problems(task, root=11, per_level=30)
    few = problems(task, root=11, per_level=4)
    assert set(few) <= set(made)
    assert len({p.prompt for p in made}) == len({p.id for p in made}) == len(made) == 30 * TASKS[task].levels
    assert {p.level for p in made} == set(range(1, TASKS[task].levels + 1))
    other = problems(task, root=12, per_level=30)
    assert len({p.prompt for p in other} & {p.prompt for p in made}) < 0.7 * len(made)  # level 1 sums are few


def test_more_problems_than_there_are_is_an_error() -> None:
    with pytest.raises(OutOfRange, match="arithmetic level 1: 90 distinct problems were asked for; it has"):
        problems("arithmetic", root=1, per_level=90)
    with pytest.raises(OutOfRange, match="0 problems a level"):
        problems("arithmetic", root=1, per_level=0)
    with pytest.raises(UnknownName, match="Did you mean 'ordering'"):
        problems("orderin", root=1, per_level=1)


def test_shuffling_keeps_the_truth_and_puts_it_everywhere() -> None:
    places = []
    for seed in range(200):
        options, truth = shuffled(("true", "b", "c"), np.random.default_rng(seed))
        assert sorted(options) == ["b", "c", "true"]
        assert options[truth] == "true"
        places.append(truth)
    assert min(places.count(place) for place in range(3)) > 40


# -------------------------------------------------------------------------------------------------------- slow searches


def test_sums_are_right() -> None:
    for problem in MADE["arithmetic"]:
        said = re.fullmatch(r"What is ([\d +*-]+)\? Answer with the number only\.", problem.prompt)
        assert said
        total, sign = 0, 1
        for part in said[1].replace("-", "+ -").split("+"):  # a product is a part
            sign = -1 if part.strip().startswith("-") else 1
            total += sign * math.prod(int(number) for number in part.replace("-", "").split("*"))
        assert int(problem.answer) == total
        assert len(problem.options) == 4


def test_orders_have_one_answer_and_it_is_the_true_one() -> None:
    more, less = ("taller", "older", "faster", "heavier"), ("shorter", "younger", "slower", "lighter")
    top, bottom = ("tallest", "oldest", "fastest", "heaviest"), ("shortest", "youngest", "slowest", "lightest")
    turned = 0
    for problem in MADE["ordering"]:
        said = re.findall(r"(\w+) is (\w+) than (\w+)\.", problem.prompt)
        turned += sum(word in less for _, word, _ in said)
        above = [(a, b) if word in more else (b, a) for a, word, b in said]
        asked = re.search(r"Who is the (\w+)\?", problem.prompt)
        assert asked
        names = sorted({name for pair in above for name in pair})
        answers = set()
        for order in permutations(names):
            if all(order.index(a) < order.index(b) for a, b in above):
                answers.add(order[0] if asked[1] in top else order[-1])
        assert asked[1] in top + bottom
        assert answers == {problem.answer}
        assert problem.options == tuple(names)
        assert len(names) == problem.level + 2
    assert turned > 50


SAYS = {
    "all": lambda s, p: s <= p,
    "no": lambda s, p: not s & p,
    "some": lambda s, p: bool(s & p),
    "not": lambda s, p: bool(s - p),
}


def heard(sentence: str) -> tuple[str, str, str]:
    quantity, subject, predicate = re.fullmatch(r"(\w+) (\w+) are ((?:not )?\w+)", sentence).groups()  # type: ignore[union-attr]
    negated = predicate.startswith("not ")
    return "not" if negated else quantity.lower(), subject, predicate.removeprefix("not ")


def test_syllogisms_are_valid_just_when_no_little_world_contradicts_them() -> None:
    """Three individuals are enough: two witnesses of the premises, one against the conclusion. A world whose kinds are
    all inhabited may need more, but both readings agree on every form that is kept."""
    for problem in MADE["syllogism"]:
        said = re.fullmatch(r"(.+?)\. (.+?)\. Does it follow that (.+?)\? Answer yes or no\.", problem.prompt)
        assert said
        first, second, conclusion = (heard(sentence) for sentence in said.groups())
        terms = sorted({first[1], first[2], second[1], second[2]})
        assert len(terms) == 3
        valid = True
        for world in product(product((False, True), repeat=3), repeat=3):
            kinds = {t: {i for i, member in enumerate(world) if member[at]} for at, t in enumerate(terms)}
            true = [SAYS[q](kinds[s], kinds[p]) for q, s, p in (first, second, conclusion)]
            valid &= not (true[0] and true[1] and not true[2])
        assert problem.answer == ("Yes" if valid else "No")
        particular = "some" in f"{said[1]} {said[2]}".lower()
        assert problem.level == 1 + particular


def test_n_back_lists_match_where_they_should_and_have_lures() -> None:
    lures = 0
    for problem in MADE["n_back"]:
        said = re.search(r"in order: ((?:\w )+\w)\. .* the letter (\d) place", problem.prompt)
        assert said
        letters, n = said[1].split(), int(said[2])
        assert problem.level == n
        assert problem.answer == ("Yes" if letters[-1] == letters[-1 - n] else "No")
        lures += problem.answer == "No" and letters[-1] in letters[:-1]
    assert 8 <= lures <= 22  # of the 30 without a match at n = 2 and 3, about half


# ------------------------------------------------------------------------------------------------------ marks, by hand


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("7", 1.0),
        ("3 + 4 = 7.", 1.0),
        ("7 is wrong, it is 8", 0.0),
        ("17", 0.0),
        ("1,007 minus 1,000 is 7", 1.0),
        ("-7", 0.0),
        ("7.5", 0.0),
        ("no idea", 0.0),
    ],
)
def test_a_number_is_read_as_the_last_one(text: str, value: float) -> None:
    assert exact(SUM, text).value == value


@pytest.mark.parametrize(
    ("text", "value"),
    [("Gold.", 1.0), ("It is gold", 1.0), ("white gold", 0.0), ("gold or iron", 0.0), ("golden", 0.0), ("tin", 0.0)],
)
def test_a_word_is_read_whole_and_alone(text: str, value: float) -> None:
    assert exact(NAME, text).value == value


@pytest.mark.parametrize(
    ("loglik", "value"),
    [([-3, -1, -2, -9], 1.0), ([-1, -1, -2, -1], 1 / 3), ([-1, -2, -2, -2], 0.0), ([-math.inf, -5, -9, -9], 1.0)],
)
def test_ranks_by_hand(loglik: list[float], value: float) -> None:
    assert rank(SUM, loglik).value == pytest.approx(value)


def test_what_cannot_be_ranked() -> None:
    assert rank(SUM, [-1, None, -2, -3]).reason == "an option has no log-likelihood"
    assert rank(SUM, [-math.inf] * 4).reason == "every option is excluded by the sampler"
    with pytest.raises(DataError, match="3 log-likelihoods for 4 options"):
        rank(SUM, [-1, -2, -3])
    with pytest.raises(DataError, match="below infinity"):
        rank(SUM, [-1, math.nan, -3, -4])


def test_tallies_by_hand() -> None:
    marks = [Mark("a", "t", 1, 1.0, 0.25), Mark("b", "t", 2, 0.0, 0.5), Mark("c", "t", 2, None, 0.5, "empty answer")]
    found = tally(marks)
    assert (found.value, found.chance, found.n_items, found.n_valid) == (0.5, 0.375, 3, 2)
    assert found.above_chance == pytest.approx(0.2)
    assert str(found) == "t: 0.50 (chance 0.38), 2 of 3 valid"
    assert [each.value for each in by_level(marks)] == [1.0, 0.0]
    assert str(tally(marks[2:])) == "t: missing (empty answer), 0 of 1 valid"
    assert found.as_row()["above_chance"] == found.above_chance
    assert tally([*marks, Mark("d", "t", 1, 1.0, None)]).chance is None


def test_a_tally_is_of_one_task() -> None:
    with pytest.raises(DataError, match="marks of none were given"):
        tally([])
    with pytest.raises(DataError, match="marks of a, b were given"):
        tally([Mark("x", "a", 1, 1.0, 0.5), Mark("x", "b", 1, 1.0, 0.5)])
    with pytest.raises(DataError, match="one is needed"):
        Mark("x", "a", 1, None, 0.5)


@pytest.mark.parametrize(("options", "truth"), [(("a",), 0), (("a", "a"), 0), (("a", "b"), 2)])
def test_a_problem_has_distinct_options_and_a_truth(options: tuple[str, ...], truth: int) -> None:
    with pytest.raises(InstrumentError):
        Problem("x", "t", 1, "?", options, truth)


def test_a_generator_is_a_value() -> None:
    assert Generator(1, make=lambda *_: Draft("?", ("a", "b"), 0)).levels == 1


# ------------------------------------------------------------------------------------------------------------ detection


def test_detection_by_hand() -> None:
    targets = [True] * 10 + [False] * 10
    evidence = [1.0] * 8 + [-1.0] * 2 + [1.0] * 3 + [-1.0] * 7
    found = detection(targets, evidence)
    assert (found.hits, found.misses, found.false_alarms, found.correct_rejections) == (8, 2, 3, 7)
    assert found.d_prime == pytest.approx(norm.ppf(8.5 / 11) - norm.ppf(3.5 / 11))
    assert found.criterion == pytest.approx(-(norm.ppf(8.5 / 11) + norm.ppf(3.5 / 11)) / 2)
    assert found.auc == pytest.approx((8 * 7 + 0.5 * (8 * 3 + 2 * 7)) / 100)


def test_detection_is_finite_when_perfect_and_zero_when_blind() -> None:
    perfect = detection([True, True, False, False], [3.0, 2.0, -1.0, -4.0])
    assert perfect.auc == 1.0
    assert perfect.d_prime == pytest.approx(2 * norm.ppf(2.5 / 3))
    blind = detection([True, True, False, False], [1.0] * 4)
    assert (blind.d_prime, blind.auc) == (0.0, 0.5)


def test_the_area_is_that_of_the_rank_sum() -> None:
    stream = np.random.default_rng(3)
    targets = stream.random(80) < 0.4
    evidence = np.round(stream.normal(size=80) + targets, 1)  # with ties
    u = mannwhitneyu(evidence[targets], evidence[~targets]).statistic
    found = detection(list(targets), list(evidence))
    assert found.auc == pytest.approx(u / (targets.sum() * (~targets).sum()))


def test_a_missing_place_counts_nowhere() -> None:
    found = detection([True, True, False], [2.0, None, -1.0])
    assert (found.hits, found.misses, found.n_missing) == (1, 0, 1)
    nothing = detection([True, True], [2.0, 1.0])
    assert (nothing.d_prime, nothing.auc) == (None, None)
    assert str(nothing).startswith("detection not measurable")
    with pytest.raises(DataError, match="NaN"):
        detection([True], [math.nan])
    with pytest.raises(DataError, match="2 readings for 1"):
        detection([True], [1.0, 2.0])


def test_the_odds_of_yes() -> None:
    assert yes_over_no([-1.0, -3.0]) == 2.0
    assert yes_over_no([None, -3.0]) is None
    assert yes_over_no([-math.inf, -math.inf]) is None
    assert yes_over_no([-1.0, -math.inf]) == math.inf
    with pytest.raises(DataError, match="3 log-likelihoods"):
        yes_over_no([1.0, 2.0, 3.0])
