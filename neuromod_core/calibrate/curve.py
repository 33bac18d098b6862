"""Dose and response of whole packs: how loud a pack is at multiples of its unit, and what it costs.

A stronger push need not do more (Taimeskhanov 2026), and a loud one ends in babble. So the response is measured: KL95
on given text and on the pack's own, and two guards on what it writes: the perplexity of its text under the *undosed*
model, and the share of repeated 4-grams. All doses of all packs are rows of one batch.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from neuromod_core.calibrate.dose import Tick, divergences, largest_factor, loudness, rollouts
from neuromod_core.effects import Subject
from neuromod_core.engine.generate import UNDOSED
from neuromod_core.engine.session import Session
from neuromod_core.instruments.repetition import repeated_share
from neuromod_core.packs import Pack

MULTIPLES = (0.25, 0.5, 1.0, 1.5, 2.0, 3.0)
PERPLEXITY = 3.0  # times that of undosed text
REPEATED = 0.2  # share of repeated 4-grams beyond that of undosed text
Tokens = Sequence[int]


@dataclass(frozen=True)
class Point:
    """One pack at one multiple of its unit.

    kl, own: KL95 in nats, on given text and on the pack's own.  perplexity: of its text under the undosed model.
    repeated: share of its 4-grams that had occurred before; a text too short to have any repeats nothing.
    """

    multiple: float
    kl: float
    own: float
    perplexity: float
    repeated: float


@dataclass(frozen=True)
class Curve:
    """The response of a pack, by rising dose. The first point is the undosed model."""

    pack: str
    points: tuple[Point, ...]

    @property
    def falling(self) -> tuple[float, ...]:
        """The multiples at which the pack changes given text less than at a smaller one: there, more is not more."""
        best, found = 0.0, []
        for point in self.points:
            if point.kl < best:
                found.append(point.multiple)
            best = max(best, point.kl)
        return tuple(found)

    @property
    def broken(self) -> tuple[float, ...]:
        """The multiples at which a guard fails: text that the undosed model finds strange, or that repeats itself."""
        plain = self.points[0]
        return tuple(
            point.multiple
            for point in self.points
            if point.perplexity > PERPLEXITY * plain.perplexity or point.repeated > plain.repeated + REPEATED
        )


def curves(
    session: Session,
    packs: Sequence[Pack],
    factors: Sequence[float],
    texts: Sequence[Tokens],
    subject: Subject,
    tick: Tick = lambda _: None,
) -> list[Curve]:
    """Return the curve of every pack; factors: the unit of each. Multiples beyond an effect's range are left out."""
    laid_out = [(pack, m) for pack, unit in zip(packs, factors, strict=True) for m in _within(pack, unit)]
    units = dict(zip((pack.name for pack in packs), factors, strict=True))
    rows = [UNDOSED, *(pack.scaled(units[pack.name] * m) for pack, m in laid_out)]
    kl = loudness(divergences(session, rows, texts, subject, tick)).tolist()
    wrote = rollouts(session, rows, texts, subject)
    own = loudness(wrote.kl.flatten(1)).tolist()
    points = [
        Point(
            multiple=multiple,
            kl=kl[row],
            own=own[row],
            perplexity=math.exp(float(wrote.surprise[row].double().nanmean())),
            repeated=sum(repeated_share(text) or 0.0 for text in wrote.tokens[row]) / len(texts),
        )
        for row, multiple in enumerate([0.0, *(m for _, m in laid_out)])
    ]
    by_pack = {pack.name: [points[0]] for pack in packs}
    for (pack, _), point in zip(laid_out, points[1:], strict=True):
        by_pack[pack.name].append(point)
    return [Curve(name, tuple(found)) for name, found in by_pack.items()]


def _within(pack: Pack, unit: float) -> list[float]:
    return [multiple for multiple in MULTIPLES if unit * multiple <= largest_factor(pack)]
