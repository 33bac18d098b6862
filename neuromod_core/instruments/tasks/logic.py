"""Deduction: who stands where in an order, and whether a syllogism's conclusion follows. Truths are found by search."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from itertools import pairwise, permutations, product

import numpy as np

from neuromod_core.instruments.tasks.generated import TASKS, Draft, Generator

NAMES = ("Ada", "Bruno", "Chen", "Dora", "Emil", "Farid", "Greta", "Hugo", "Ines", "Jonas", "Kofi", "Lena")
DIMENSIONS = (
    ("taller", "shorter", "tallest", "shortest"),
    ("older", "younger", "oldest", "youngest"),
    ("faster", "slower", "fastest", "slowest"),
    ("heavier", "lighter", "heaviest", "lightest"),
)
TERMS = ("trobs", "wexes", "lindles", "mips", "dalbs", "quorns", "sefts", "brills", "vonks", "plims")
MOODS = {"all": "All {} are {}", "no": "No {} are {}", "some": "Some {} are {}", "some not": "Some {} are not {}"}
Statement = tuple[str, int, int]  # mood, subject and predicate by their number among the three terms


def orders(names: Sequence[str], above: Sequence[tuple[str, str]]) -> list[tuple[str, ...]]:
    """Return every order of `names`, first above last, in which each pair (a, b) has a above b."""
    return [order for order in permutations(names) if all(order.index(high) < order.index(low) for high, low in above)]


def _ordering(level: int, _number: int, stream: np.random.Generator) -> Draft:
    """Make a chain of level + 2 people; from level 2 on half of the comparisons are said the other way round."""
    names = [NAMES[index] for index in stream.permutation(len(NAMES))[: level + 2]]
    more, less, most, least = DIMENSIONS[int(stream.integers(len(DIMENSIONS)))]
    chain = list(pairwise(names))
    premises = []
    for place in stream.permutation(len(chain)):
        high, low = chain[place]
        turned = level > 1 and stream.random() < 0.5
        premises.append(f"{low} is {less} than {high}." if turned else f"{high} is {more} than {low}.")
    (order,) = orders(names, chain)
    superlative, truth = ((most, order[0]), (least, order[-1]))[int(stream.integers(2))]
    options = tuple(sorted(names))
    question = f"{' '.join(premises)} Who is the {superlative}? Answer with the name only."
    return Draft(question, options, options.index(truth))


TASKS.add("ordering")(Generator(levels=4, make=_ordering))


def holds(statement: Statement, regions: Sequence[tuple[bool, ...]]) -> bool:
    """Return whether a statement is true where exactly these regions of three sets are inhabited; sets may be empty."""
    mood, subject, predicate = statement
    both = any(region[subject] and region[predicate] for region in regions)
    only = any(region[subject] and not region[predicate] for region in regions)
    return {"all": not only, "no": not both, "some": both, "some not": only}[mood]


def follows(premises: Sequence[Statement], conclusion: Statement, *, inhabited: bool) -> bool:
    """Return whether the conclusion is true wherever the premises are: by trying all 2^8 patterns of inhabited regions.

    inhabited: whether each of the three sets has a member, as in Aristotle's reading.
    """
    cells = list(product((False, True), repeat=3))
    for pattern in product((False, True), repeat=len(cells)):
        regions = [cell for cell, there in zip(cells, pattern, strict=True) if there]
        if inhabited and not all(any(region[term] for region in regions) for term in range(3)):
            continue
        if all(holds(premise, regions) for premise in premises) and not holds(conclusion, regions):
            return False
    return True


@cache
def _forms() -> dict[tuple[int, bool], list[tuple[Statement, Statement, Statement]]]:
    """Return (level, valid) -> premises with the middle term 1, and a conclusion about 0 and 2, in every mood.

    Kept are the forms on which the modern and the Aristotelian reading agree. Level 1: both premises are universal.
    """
    found: dict[tuple[int, bool], list[tuple[Statement, Statement, Statement]]] = {
        (level, valid): [] for level in (1, 2) for valid in (False, True)
    }
    sides = product(((0, 1), (1, 0)), ((1, 2), (2, 1)), ((0, 2), (2, 0)))
    for (first, second, third), moods in product(sides, product(MOODS, repeat=3)):
        form = ((moods[0], *first), (moods[1], *second), (moods[2], *third))
        verdicts = {follows(form[:2], form[2], inhabited=each) for each in (False, True)}
        if len(verdicts) == 1:
            particular = any(mood.startswith("some") for mood in moods[:2])
            found[2 if particular else 1, verdicts.pop()].append(form)
    return found


def _say(statement: Statement, terms: Sequence[str]) -> str:
    mood, subject, predicate = statement
    return MOODS[mood].format(terms[subject], terms[predicate])


def _syllogism(level: int, number: int, stream: np.random.Generator) -> Draft:
    """Make a syllogism about made-up kinds, so that no belief helps; even numbers are valid."""
    forms = _forms()[level, number % 2 == 0]
    first, second, conclusion = forms[int(stream.integers(len(forms)))]
    terms = [TERMS[index] for index in stream.permutation(len(TERMS))[:3]]
    asked = _say(conclusion, terms)
    asked = asked[0].lower() + asked[1:]
    prompt = f"{_say(first, terms)}. {_say(second, terms)}. Does it follow that {asked}? Answer yes or no."
    return Draft(prompt, ("Yes", "No"), number % 2)


TASKS.add("syllogism")(Generator(levels=2, make=_syllogism))
