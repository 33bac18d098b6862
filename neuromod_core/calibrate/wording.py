"""How a contrast set is worded: what could part its two sides besides the concept.

A vector is only as honest as its pairs. A word that sits on one side makes a word detector; templates make few
effective pairs; one long side makes a length detector. Most figures have a limit, and `faults` names what breaks it.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from neuromod_core.calibrate.contrast import Pair

WORD = re.compile(r"[a-z0-9]+(?:['\u2019][a-z]+)?")
PARTING, DISTINCT, APART = 0.05, 0.8, 2  # limits: share of pairs, share of 4-grams, words
_FUNCTION = """
a an the and or but nor so yet if as at by for from in into of off on onto out over to under up with within
without through across after before behind below beneath beside between beyond during inside near past since
until upon toward towards along around against among about above down away back again i me my mine myself we
us our ours you your yours he him his she her hers it its they them their theirs this that these those there
here who whom whose which what when where why how while because than then though although is am are was were
be been being has have had having do does did done will would shall should can could may might must not no all
any both each few more most other some such only own same too very just even still also once one two three
four five six ten every
"""
FUNCTION = frozenset(_FUNCTION.split())


@dataclass(frozen=True)
class Wording:
    """Figures of a contrast set.

    pairs, topics: counts.  longest: largest difference in words between the sides of a pair.
    distinct: share of distinct 4-grams of words over all texts.
    parting: the word that most often stands on one side only, and in what share of the pairs.
    words_auc: area under the curve of a bag-of-words classifier on topics it was not fitted on. The part of a vector's
    own area that word counts explain; it has no limit, since a concept is told by words.
    """

    concept: str
    pairs: int
    topics: int
    longest: int
    distinct: float
    parting: tuple[str, float]
    words_auc: float


def words(text: str) -> list[str]:
    """Return the lower-case words of a text."""
    return WORD.findall(text.lower())


def _ngrams(text: str, n: int = 4) -> Iterator[tuple[str, ...]]:
    parts = words(text)
    return (tuple(parts[at : at + n]) for at in range(len(parts) - n + 1))


def distinct_ngrams(texts: Sequence[str]) -> float:
    """Return the number of distinct 4-grams of words over the number of all."""
    grams = [gram for text in texts for gram in _ngrams(text)]
    return len(set(grams)) / len(grams)


def parting_word(pairs: Sequence[Pair]) -> tuple[str, float]:
    """Return the word that parts the sides most often, and the share of pairs in which it does.

    A content word counts wherever it stands on the one side and not on the other. A function word stands on one side of
    many pairs by chance, so it counts by its balance: pairs with it on the positive side only, less those with it on
    the negative side only.
    """
    positive: Counter[str] = Counter()
    negative: Counter[str] = Counter()
    for pair in pairs:
        one, other = set(words(pair.positive)), set(words(pair.negative))
        positive.update(one - other)
        negative.update(other - one)
    counts = {
        word: abs(positive[word] - negative[word]) if word in FUNCTION else max(positive[word], negative[word])
        for word in sorted(positive.keys() | negative.keys())
    }
    worst = max(counts, key=counts.__getitem__, default="")
    return worst, counts.get(worst, 0) / len(pairs)


def bag_of_words_auc(pairs: Sequence[Pair]) -> float:
    """Return the AUC of word counts with logistic regression, each topic judged by a fit on all others."""
    from sklearn.feature_extraction.text import CountVectorizer  # here: a kept calibration is read without it
    from sklearn.linear_model import LogisticRegression
    from sklearn.model_selection import LeaveOneGroupOut, cross_val_predict
    from sklearn.pipeline import make_pipeline

    texts = [text for pair in pairs for text in (pair.positive, pair.negative)]
    label = np.tile([1, 0], len(pairs))
    topics = np.repeat([pair.topic for pair in pairs], 2)
    model = make_pipeline(
        CountVectorizer(token_pattern=WORD.pattern, lowercase=True), LogisticRegression(C=1.0, max_iter=1000)
    )
    score = cross_val_predict(
        model, np.array(texts, dtype=object), label, groups=topics, cv=LeaveOneGroupOut(), method="decision_function"
    )
    return auc(score[label == 1], score[label == 0])


def auc(positive: np.typing.NDArray[np.float64], negative: np.typing.NDArray[np.float64]) -> float:
    """Return P(positive > negative) + P(equal) / 2 over all pairs of scores. Source: Mann & Whitney 1947."""
    order = np.sort(negative)
    below, upto = np.searchsorted(order, positive, "left"), np.searchsorted(order, positive, "right")
    return float((below + upto).mean() / (2 * len(order)))


def wording(concept: str, pairs: Sequence[Pair]) -> Wording:
    """Return the figures of a contrast set."""
    texts = [text for pair in pairs for text in (pair.positive, pair.negative)]
    return Wording(
        concept=concept,
        pairs=len(pairs),
        topics=len({pair.topic for pair in pairs}),
        longest=max(abs(len(words(pair.positive)) - len(words(pair.negative))) for pair in pairs),
        distinct=distinct_ngrams(texts),
        parting=parting_word(pairs),
        words_auc=bag_of_words_auc(pairs),
    )


def faults(found: Wording) -> list[str]:
    """Return what breaks a limit, one clause each."""
    word, share = found.parting
    checks = [
        (found.longest > APART, f"a pair differs by {found.longest} words in length; at most {APART}"),
        (found.distinct < DISTINCT, f"{found.distinct:.2f} of its 4-grams are distinct; at least {DISTINCT}"),
        (share > PARTING, f"{word!r} parts {100 * share:.0f} % of the pairs; at most {100 * PARTING:.0f} %"),
    ]
    return [clause for broken, clause in checks if broken]
