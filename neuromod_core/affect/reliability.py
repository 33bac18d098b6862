"""How well a reader reads: on labelled text that it was not trained on."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from neuromod_core.affect.plutchik import DIMENSIONS, UNSUPPORTED
from neuromod_core.affect.reader import Array, Reader
from neuromod_core.affect.sources import Corpus
from neuromod_core.kernel.errors import DataError
from neuromod_core.kernel.rng import rng
from neuromod_core.stats import Named, auc
from neuromod_core.stats.result import Cell

LEAST_AUC = 0.7
"""Least lower limit of the area under the curve of an emotion that a reader may report."""

DRAWS = 999
BINS = 10


@dataclass(frozen=True)
class Reliability:
    """How well a reader tells one emotion on held-out text.

    area: area under the curve with DeLong's interval.  precision: average precision, to be read beside `base`, the
    share of texts that show the emotion and what a blind reader gets.  error: expected calibration error of its
    probabilities; None for a reader whose readings are none.  reason: why the emotion is gated out; None if it is not.
    """

    dimension: str
    area: Named | None
    precision: float | None
    base: float
    error: float | None
    n: int
    positives: int
    reason: str | None

    @property
    def told(self) -> bool:
        """Whether the reader may report this emotion."""
        return self.reason is None

    def as_row(self) -> dict[str, Cell]:
        """Return the row of a table."""
        area = None if self.area is None else self.area.estimate
        ci = None if self.area is None else self.area.ci
        return {
            "emotion": self.dimension,
            "auc": area,
            "ci_low": None if ci is None else ci.low,
            "ci_high": None if ci is None else ci.high,
            "average_precision": self.precision,
            "base_rate": self.base,
            "calibration_error": self.error,
            "n": self.n,
            "positives": self.positives,
            "reason": self.reason,
        }


def reliability(reader: Reader, corpus: Corpus, *, probabilities: bool) -> tuple[Reliability, ...]:
    """Return how well a reader tells each of the eight emotions on a corpus that it has not seen.

    probabilities: whether its readings are probabilities, whose calibration means something.
    """
    readings = reader.read([one.text for one in corpus.texts])
    columns = {name: readings[:, place] for place, name in enumerate(reader.dimensions)}
    return tuple(_judged(reader.name, name, columns, corpus, probabilities) for name in DIMENSIONS)


def _judged(reader: str, name: str, columns: Mapping[str, Array], corpus: Corpus, probabilities: bool) -> Reliability:
    labels = np.array([name in one.emotions for one in corpus.texts], dtype=np.float64)
    base, n, positives = float(labels.mean()), len(labels), int(labels.sum())
    if name not in columns:
        return Reliability(name, None, None, base, None, n, positives, UNSUPPORTED.get(name, f"{reader} has no words"))
    if not positives:
        return Reliability(name, None, None, base, None, n, positives, f"no held-out text is labelled {name}")
    values = columns[name]
    try:
        area = auc(values, labels, draws=DRAWS, generator=rng(0, "reliability", reader, name))
    except DataError as error:
        return Reliability(name, None, None, base, None, n, positives, str(error))
    low = area.ci.low if area.ci else 0.0
    return Reliability(
        dimension=name,
        area=area,
        precision=average_precision(values, labels),
        base=base,
        error=calibration_error(values, labels) if probabilities else None,
        n=n,
        positives=positives,
        reason=None if low >= LEAST_AUC else f"its area under the curve may be {low:.2f}, below {LEAST_AUC}",
    )


def average_precision(values: Array, labels: Array) -> float:
    """Return the mean, over texts labelled 1, of the share labelled 1 among texts read at least as high.

    Source: Manning, Raghavan & Schutze 2008, chapter 8.

    >>> average_precision(np.array([0.9, 0.8, 0.1]), np.array([1.0, 0.0, 1.0]))
    0.8333333333333333
    """
    order = np.argsort(-values, kind="stable")
    sorted_values, hits = values[order], labels[order]
    last = np.searchsorted(-sorted_values, -sorted_values, side="right") - 1  # ties count together
    share = np.cumsum(hits)[last] / (last + 1)
    return float(share[hits == 1].mean())


def calibration_error(values: Array, labels: Array, bins: int = BINS) -> float:
    """Return  sum over bins of  n_b / n |mean probability - share labelled 1|,  bins of equally many texts.

    Source: Naeini, Cooper & Hauskrecht 2015, AAAI.
    """
    order = np.argsort(values, kind="stable")
    parts = [part for part in np.array_split(order, bins) if len(part)]
    return float(sum(len(p) / len(values) * abs(values[p].mean() - labels[p].mean()) for p in parts))


def told(found: Sequence[Reliability]) -> tuple[str, ...]:
    """Return the emotions that a reader may report."""
    return tuple(one.dimension for one in found if one.told)
