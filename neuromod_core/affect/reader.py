"""Readers of emotion: what one is, and one that is trained on labelled text.

A second reader, such as a recogniser of valence, arousal and dominance, joins by having the same three members.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Protocol

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_matrix
from sklearn.feature_extraction.text import CountVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.preprocessing import normalize

from neuromod_core.affect.plutchik import LABELS
from neuromod_core.affect.sources import Corpus
from neuromod_core.kernel.types import Json, digest

Array = NDArray[np.float64]
SHORTEST, LONGEST, LEAST = 2, 5, 3  # characters of an n-gram, and the number of texts that it has to occur in
PENALTY = 4.0  # C of the logistic regression
METHOD = 1  # raise it when the numbers change


class Reader(Protocol):
    """Something that reads emotions off texts, each text by itself."""

    @property
    def name(self) -> str:
        """What the reader is called."""
        ...

    @property
    def dimensions(self) -> tuple[str, ...]:
        """What it reads, in the order of its columns."""
        ...

    def read(self, texts: Sequence[str]) -> Array:
        """Return (texts, dimensions): larger is more of the emotion; a reading depends on its own text alone."""
        ...


@dataclass(frozen=True, eq=False)
class Trained:
    """A logistic regression per emotion on weighted counts of character n-grams.

    Formula:  P(emotion) = sigmoid(b + w . x),  x_g = (1 + log count_g) idf_g  scaled to length 1,
    idf_g = 1 + log((1 + n) / (1 + n_g)),  n_g of n training texts holding the n-gram g, 2 to 5 characters within words.
    Source: Salton & Buckley 1988 (weights); Fan et al. 2008 (LIBLINEAR).

    vocabulary: the n-grams, in the order of the columns.  idf (n-grams,).  weights (dimensions, n-grams).
    offsets (dimensions,).  source: fingerprint of what it was trained on.
    """

    dimensions: tuple[str, ...]
    vocabulary: tuple[str, ...]
    idf: Array
    weights: Array
    offsets: Array
    splits: tuple[str, ...]
    texts: int
    source: str

    @property
    def name(self) -> str:
        """What the reader is called."""
        return "goemotions"

    @cached_property
    def fingerprint(self) -> str:
        """Digest of all that its readings depend on."""
        arrays = [digest(np.ascontiguousarray(each).tobytes()) for each in (self.idf, self.weights, self.offsets)]
        return digest([METHOD, list(self.dimensions), digest(list(self.vocabulary)), arrays])

    @cached_property
    def _counter(self) -> CountVectorizer:
        return _counter({gram: place for place, gram in enumerate(self.vocabulary)})

    def read(self, texts: Sequence[str]) -> Array:
        """Return the probability of each emotion, (texts, dimensions)."""
        scores = _weighted(self._counter.transform(texts), self.idf) @ self.weights.T + self.offsets
        return np.asarray(1 / (1 + np.exp(-scores)), dtype=np.float64)

    def known(self, text: str) -> float:
        """Return the share of a text's character n-grams that occurred in training: low for garbled text."""
        grams = self._counter.build_analyzer()(text)
        return sum(gram in self._counter.vocabulary for gram in grams) / len(grams) if grams else 0.0

    def heaviest(self, dimension: str, count: int) -> tuple[str, ...]:
        """Return the n-grams that speak most for an emotion, the heaviest first."""
        order = np.argsort(-self.weights[self.dimensions.index(dimension)] * self.idf, kind="stable")
        return tuple(self.vocabulary[place] for place in order[:count])

    def parts(self) -> tuple[Mapping[str, Array], Mapping[str, Json]]:
        """Return the arrays and the facts it consists of."""
        facts: dict[str, Json] = {
            "dimensions": list(self.dimensions),
            "vocabulary": list(self.vocabulary),
            "splits": list(self.splits),
            "texts": self.texts,
            "source": self.source,
        }
        return {"idf": self.idf, "weights": self.weights, "offsets": self.offsets}, facts

    @staticmethod
    def of(arrays: Mapping[str, NDArray[np.float32] | Array], facts: Mapping[str, Json]) -> Trained:
        """Return the reader that `parts` gave."""
        wide = {name: np.asarray(arrays[name], dtype=np.float64) for name in ("idf", "weights", "offsets")}
        return Trained(
            dimensions=_strings(facts["dimensions"]),
            vocabulary=_strings(facts["vocabulary"]),
            splits=_strings(facts["splits"]),
            texts=int(str(facts["texts"])),
            source=str(facts["source"]),
            **wide,
        )


def _strings(value: Json) -> tuple[str, ...]:
    return tuple(str(each) for each in value) if isinstance(value, Sequence) else ()


def _counter(vocabulary: Mapping[str, int] | None) -> CountVectorizer:
    least = 1 if vocabulary is not None else LEAST
    return CountVectorizer(
        analyzer="char_wb", ngram_range=(SHORTEST, LONGEST), min_df=least, vocabulary=vocabulary, dtype=np.float64
    )


def _weighted(counts: csr_matrix, idf: Array) -> csr_matrix:
    """Return sparse counts (texts, n-grams) as weighted rows of length 1."""
    counts.data = 1 + np.log(counts.data)
    return normalize(counts.multiply(idf[None, :]).tocsr())


def train(corpus: Corpus) -> Trained:
    """Return the reader trained on a corpus: the same corpus gives the same reader."""
    counter = _counter(None)
    counts = counter.fit_transform([one.text for one in corpus.texts])
    held = np.bincount(counts.indices, minlength=counts.shape[1])
    idf = 1 + np.log((1 + counts.shape[0]) / (1 + held))
    rows, dimensions = _weighted(counts, idf), tuple(LABELS)
    weights, offsets = [], []
    for name in dimensions:
        labels = [name in one.emotions for one in corpus.texts]
        fitted = LogisticRegression(C=PENALTY, solver="liblinear", random_state=0).fit(rows, labels)
        weights.append(fitted.coef_[0])
        offsets.append(fitted.intercept_[0])
    return Trained(
        dimensions=dimensions,
        vocabulary=tuple(str(gram) for gram in counter.get_feature_names_out()),
        idf=idf,
        weights=np.array(weights),
        offsets=np.array(offsets),
        splits=corpus.splits,
        texts=len(corpus.texts),
        source=corpus.fingerprint,
    )
