"""What the answers to a scale are worth on one model: reliability, validity, response style. Missing has its reason.

Over what things vary is said with each number: units are contexts under one model, so no number here is about models.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import product

import numpy as np
import numpy.typing as npt

from neuromod_core.instruments import ORDERS, Scale, option_expected
from neuromod_core.instruments.scoring import MIN_OPTION_MASS
from neuromod_core.kernel.errors import DataError
from neuromod_core.kernel.rng import rng
from neuromod_core.kernel.types import Json, plain
from neuromod_core.stats import Estimate, Item, Paired, Result, alpha, bootstrap_t, icc, item_total, omega, split_half
from neuromod_core.stats import paired as paired_test
from neuromod_core.stats.result import Cell, Interval
from neuromod_core.trial.psychometrics import Answers, Array

Found = Result | Estimate
NEEDED = 0.7
"""Least alpha of a scale whose mean may be read as one thing (Nunnally 1978): a mark on the picture, not a gate."""

NO_STATE = "no instructed state is written for this scale"
NO_OPTIONS = "no option reading was asked for"
ONE_WORDING = "the scale has one wording"


@dataclass(frozen=True)
class Fact:
    """One line of a card: a finding, or None and why there is none."""

    name: str
    about: str
    found: Found | None
    reason: str | None = None

    def as_row(self) -> dict[str, Cell]:
        """Return the row of a table of facts."""
        blank: dict[str, Cell] = dict.fromkeys(("estimate", "ci_low", "ci_high", "g_z", "n", "method"))
        row = blank if self.found is None else {key: self.found.as_row()[key] for key in blank}
        return {"name": self.name, "about": self.about, **row, "reason": self.reason}

    def __str__(self) -> str:
        return f"{self.name}: {self.found or f'missing ({self.reason})'}"


@dataclass(frozen=True)
class ItemFact:
    """One item: its mean contrast (nats), its correlation with the rest, and alpha without it."""

    item: str
    subscale: str
    mean: float
    r: float | None
    alpha_without: float | None


@dataclass(frozen=True)
class ScaleCard:
    """An instrument card: one scale on one model.

    facts: by subject.  others: r with every other scale, both read in different wordings.
    wordings: alpha of each wording.
    """

    scale: str
    title: str
    version: str
    fingerprint: str
    model: str
    model_fingerprint: str
    units: int
    facts: tuple[Fact, ...]
    items: tuple[ItemFact, ...]
    others: Mapping[str, float]
    wordings: tuple[float | None, ...]

    def fact(self, name: str) -> Fact:
        """Return the line of this name."""
        return next(fact for fact in self.facts if fact.name == name)

    def value(self, name: str) -> float | None:
        """Return the estimate of a line, None where it is missing."""
        found = self.fact(name).found
        return None if found is None else found.estimate

    def as_json(self) -> Json:
        """Return the card as JSON types."""
        kept = {key: getattr(self, key) for key in ("scale", "title", "version", "fingerprint", "model")}
        body = {
            **kept,
            "model_fingerprint": self.model_fingerprint,
            "units": self.units,
            "facts": [fact.as_row() for fact in self.facts],
            "items": [plain(item) for item in self.items],
            "discriminant_r": dict(self.others),
            "alpha_by_wording": list(self.wordings),
        }
        return plain(body)


def correlation(x: npt.ArrayLike, y: npt.ArrayLike) -> Estimate:
    """Return Pearson's r of two (n,) samples.

    Formula:  limits tanh(atanh r +- 1.96 / sqrt(n - 3)).  Source: Fisher 1921, Metron 1:3.

    Raises:
        DataError: for fewer than four pairs, or a sample without spread.
    """
    first, second = np.asarray(x, dtype=np.float64), np.asarray(y, dtype=np.float64)
    if first.size < 4 or not np.ptp(first) or not np.ptp(second):
        raise DataError(f"r of {first.size} pairs: at least 4 pairs and a spread in both are needed.")
    r = float(np.corrcoef(first, second)[0, 1])
    half, centre = 1.959964 / math.sqrt(first.size - 3), math.atanh(max(-1 + 1e-15, min(1 - 1e-15, r)))
    limits = Interval(math.tanh(centre - half), math.tanh(centre + half), 0.95)
    return Estimate(symbol="r", estimate=r, ci=limits, n=first.size, method="Pearson, Fisher's limits")


def card(
    scale: Scale, answers: Answers, others: Mapping[str, Answers], packs: Sequence[str], model: tuple[str, str]
) -> ScaleCard:
    """Return the card of a scale.

    others: the answers of all other scales to the same contexts.  packs: names of the packs behind `answers.packs`.
    model: name and fingerprint.
    """
    contrasts = answers.contrasts
    facts = [
        *_consistency(contrasts[:, 0]),
        *_wordings(answers.scores),
        _again(answers),
        *_change(answers, packs),
        *_style(answers.options),
        *_discrimination(answers, others),
    ]
    return ScaleCard(
        scale=scale.name,
        title=scale.title,
        version=scale.version,
        fingerprint=scale.fingerprint,
        model=model[0],
        model_fingerprint=model[1],
        units=len(contrasts),
        facts=tuple(facts),
        items=_items(scale, contrasts[:, 0]),
        others={name: crossed(answers.scores, other.scores) for name, other in others.items()},
        wordings=tuple(_alpha(contrasts[:, one]) for one in range(contrasts.shape[1])),
    )


def _attempt(name: str, about: str, find: Callable[[], Found]) -> Fact:
    """Return the line that `find` fills; what the data do not allow is missing with the statistic's own reason."""
    try:
        return Fact(name, about, find())
    except DataError as error:
        return Fact(name, about, None, str(error))


def _alpha(items: Array) -> float | None:
    try:
        return alpha(items).estimate
    except DataError:
        return None


def _consistency(items: Array) -> list[Fact]:
    """Return the lines on (units, items): do items rise together over contexts?"""
    halves = rng(0, "split half")
    return [
        _attempt("alpha", "items over contexts", lambda: alpha(items)),
        _attempt("omega", "items over contexts", lambda: omega(items)),
        _attempt("split half", "items over contexts", lambda: split_half(items, draws=2_000, generator=halves)),
    ]


def _wordings(scores: Array) -> list[Fact]:
    """Return the lines on (units, wordings) of the scale score."""
    names = {"wordings": "3,1", "mean of wordings": "3,k"}
    if scores.shape[1] < 2:
        return [Fact(name, "wordings over contexts", None, ONE_WORDING) for name in (*names, "convergent r")]
    table: Array = np.asarray(np.corrcoef(scores, rowvar=False))
    pairs = [(a, b) for a in range(len(table)) for b in range(a)]
    lowest = min(pairs, key=lambda pair: float(table[pair]))
    return [
        _attempt("wordings", "one wording for another, over contexts", lambda: icc(scores, "3,1")),
        _attempt("mean of wordings", "mean of all wordings, over contexts", lambda: icc(scores, "3,k")),
        _attempt(
            "convergent r",
            "the two wordings that are least alike",
            lambda: correlation(scores[:, lowest[0]], scores[:, lowest[1]]),
        ),
    ]


def _again(answers: Answers) -> Fact:
    """Return the line on reading the main wording a second time, in another batch."""
    first = answers.scores[: len(answers.again), 0]
    second = (answers.again[..., 0] - answers.again[..., 1]).mean(axis=-1)
    gap = float(np.abs(first - second).max())
    said = f"second reading in another batch; largest difference {gap:.2g} nats"
    if gap == 0:
        same = Estimate(symbol="ICC(2,1)", estimate=1.0, ci=None, n=len(first), method="identical to the last bit")
        return Fact("retest", said, same)
    return _attempt("retest", said, lambda: icc(np.stack([first, second], axis=1), "2,1"))


def _change(answers: Answers, packs: Sequence[str]) -> list[Fact]:
    """Return the lines on change: told to be in the state, and under packs."""
    told, about = answers.state_change, "instructed state less undosed"
    facts = [Fact(name, about, None, NO_STATE) for name in ("known groups", "alpha of told change")]
    if told is not None:
        facts = [
            _attempt("known groups", about, lambda: _paired(told.mean(axis=-1))),
            _attempt("alpha of told change", about, lambda: alpha(told)),
        ]
    for number, name in enumerate(packs):
        change = answers.pack_change[number]
        facts += _under_pack(name, change)
    return facts


def _under_pack(name: str, change: Array) -> list[Fact]:
    """Return the lines on one pack's (seeds, units, items)."""
    about = f"{name} less undosed"
    scores = change.mean(axis=-1)
    reliability = _attempt(f"alpha of change, {name}", about, lambda: alpha(change.mean(axis=0)))
    if np.ptp(scores, axis=0).max() == 0:
        same = Fact(f"seeds, {name}", about, None, "this reading of the pack draws nothing: all seeds give one number")
        return [reliability, same]
    return [reliability, _attempt(f"seeds, {name}", f"{about}, seeds over contexts", lambda: icc(scores.T, "2,1"))]


def _paired(differences: Array) -> Paired:
    return paired_test(differences)


def _style(options: Array) -> list[Fact]:
    """Return the lines on (units, orders, items, 2, options): mass, acquiescence, antonyms, order symmetry."""
    names = ("option mass", "acquiescence", "antonym r", "option orders")
    if not len(options):
        return [Fact(name, "option reading", None, NO_OPTIONS) for name in names]
    mass = np.exp(options).sum(axis=-1)
    share = Estimate(
        symbol="mass", estimate=float(mass.mean()), ci=None, n=len(options), method="probability of any option digit"
    )
    facts = [Fact("option mass", "probability that the answer is an option", share)]
    if share.estimate < MIN_OPTION_MASS:
        reason = f"option mass {share.estimate:.2f} < {MIN_OPTION_MASS:.2f}: this model does not answer by options"
        return [*facts, *(Fact(name, "option reading", None, reason) for name in names[1:])]
    levels, top = _levels(options), options.shape[-1] - 1
    index = levels.mean(axis=-1) - top / 2  # (units, orders, items): both sides of a pair affirmed, or both denied
    keyed, antonym = (_mean(levels[..., side], (0, 1)) for side in (0, 1))
    return [
        *facts,
        _attempt("acquiescence", f"levels of 0 to {top}, over contexts", lambda: _level(_mean(index, (1, 2)))),
        _attempt(
            "antonym r",
            "keyed with antonym levels, over items; -1 is best",
            lambda: correlation(keyed, antonym),
        ),
        _attempt(
            "option orders",
            "digits up or down, over items",
            lambda: icc(_mean(levels[..., 0] - levels[..., 1], (0,)).T, "2,1"),
        ),
    ]


def _levels(options: Array) -> Array:
    """Return the expected level of every answer, (units, orders, items, 2), NaN where its option mass is too small."""
    levels = np.full(options.shape[:-1], np.nan)
    for place in product(*map(range, options.shape[:-1])):
        value = option_expected(np.asarray(options[place]), ORDERS[place[1]]).value
        levels[place] = np.nan if value is None else value
    return levels


def _mean(values: Array, axes: tuple[int, ...]) -> Array:
    """Return the mean of what is there, NaN where nothing is."""
    count = np.isfinite(values).sum(axis=axes)
    total = np.nansum(values, axis=axes)
    mean: Array = np.divide(total, count, out=np.full(total.shape, np.nan), where=count > 0)
    return mean


def _level(values: Array) -> Result:
    return bootstrap_t(values, generator=rng(0, "acquiescence"))


def crossed(scores: Array, others: Array) -> float:
    """Return the mean r of (units, wordings) scores of two scales over all pairs of different wordings.

    Heterotrait-heteromethod correlation, wordings being the methods. With one wording in both, that one is used.
    Source: Campbell & Fiske 1959, Psychological Bulletin 56:81.
    """
    pairs = [(a, b) for a in range(scores.shape[1]) for b in range(others.shape[1]) if a != b] or [(0, 0)]
    return float(np.mean([np.corrcoef(scores[:, a], others[:, b])[0, 1] for a, b in pairs]))


def _discrimination(answers: Answers, others: Mapping[str, Answers]) -> list[Fact]:
    """Return the line on the other scale that this one is hardest to tell from."""
    name, about = "discriminant r", "the other scale it is most like, in other wordings"
    if not others:
        return [Fact(name, about, None, "no other scale was asked")]
    nearest = max(others, key=lambda other: abs(crossed(answers.scores, others[other].scores)))
    value = crossed(answers.scores, others[nearest].scores)
    found = Estimate(
        symbol="r", estimate=value, ci=None, n=len(answers.scores), method=f"mean over wordings, {nearest}"
    )
    return [Fact(name, about, found)]


def _items(scale: Scale, contrasts: Array) -> tuple[ItemFact, ...]:
    """Return the items of (units, items) contrasts."""
    try:
        totals: Sequence[Item | None] = item_total(contrasts)
    except DataError:
        totals = [None] * len(scale.items)
    return tuple(
        ItemFact(
            item=item.id,
            subscale=item.subscale,
            mean=float(contrasts[:, place].mean()),
            r=None if total is None else total.r,
            alpha_without=None if total is None else total.alpha_without,
        )
        for place, (item, total) in enumerate(zip(scale.items, totals, strict=True))
    )
