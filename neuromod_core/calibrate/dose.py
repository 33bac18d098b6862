"""The calibrated dose: how much of a pack changes the next token by one nat.

    KL95(f) = 95th percentile over tokens of  KL(dosed || undosed)   of the pack with every dose times f

on neutral text that the model reads as its own response (teacher-forced), or on what the dosed model itself writes
(rollout; drawn from streams of its own, so that it is the same each time). The *KL unit* of a pack is the smallest f
with KL95(f) = 1 nat. Packs, and placebos, in their KL units are equally loud, so that what differs between them is
direction.

All packs and all factors are rows of one batch. The first crossing is bracketed on a coarse grid and then solved by
regula falsi in log-log coordinates, in which KL is close to a line of slope 2 for a small push.
Source: the rule of a 95th percentile of 1 nat is that of steering-lite (2026).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Literal, get_args

import torch
from torch import Tensor

from neuromod_core.calibrate.reading import BATCH, Given, divergence, read
from neuromod_core.effects import Stream, Subject
from neuromod_core.engine.generate import UNDOSED, generate
from neuromod_core.engine.rows import Row
from neuromod_core.engine.session import Session
from neuromod_core.kernel.errors import CalibrationError
from neuromod_core.packs import Pack

TARGET = 1.0  # nats
QUANTILE = 0.95
TOLERANCE = 0.03  # of the target
GRID = (1 / 32, 1 / 8, 1 / 2, 1.0)  # of the largest factor
STEPS = 12
PROMPT = 8  # tokens of a neutral text that are prompt; the rest is response
WRITTEN = 32  # tokens of a rollout
Tokens = Sequence[int]
Tick = Callable[[int], None]
Heard = Literal["text", "rollout"]
HEARD: tuple[Heard, ...] = get_args(Heard)  # where KL is measured: on given text, or on what the pack itself writes


@dataclass(frozen=True)
class Matched:
    """A pack in its KL unit: the factor on its doses, and the KL95 that was reached there, in nats."""

    factor: float
    kl: float


def largest_factor(pack: Pack) -> float:
    """Return the largest factor that leaves every dose of a pack within its effect's range.

    Raises:
        CalibrationError: for a pack without any dose: nothing can be scaled.
    """
    bounds = [item.effect.doses[1 if item.dose > 0 else 0] / item.dose for item in pack.effects if item.dose]
    if not bounds:
        raise CalibrationError(f"Pack {pack.name!r} has no dose that could be scaled to a KL divergence.")
    return min(bounds)


def _halves(texts: Sequence[Tokens]) -> Iterator[tuple[tuple[int, ...], tuple[int, ...]]]:
    for text in texts:
        if len(text) <= PROMPT:
            raise CalibrationError(f"A neutral text has {len(text)} tokens; more than {PROMPT} are needed.")
        yield tuple(text[:PROMPT]), tuple(text[PROMPT:])


def divergences(
    session: Session, packs: Sequence[Pack], texts: Sequence[Tokens], subject: Subject, tick: Tick = lambda _: None
) -> Tensor:
    """Return KL(dosed || undosed) in nats, (packs, tokens), on neutral texts read as the model's own response."""
    columns = []
    for prompt, response in _halves(texts):
        (plain,) = read(session, [Given(UNDOSED, prompt, response)], subject)
        lines: list[Tensor] = []
        for first in range(0, len(packs), BATCH):
            part = [Given(pack, prompt, response) for pack in packs[first : first + BATCH]]
            lines += [divergence(one.logprob, plain.logprob) for one in read(session, part, subject)]
            tick(len(part))
        columns.append(torch.stack(lines))
    return torch.cat(columns, dim=1)


@dataclass(frozen=True, eq=False)
class Rollout:
    """What a dosed model wrote, token by token; NaN where a row had stopped.

    kl: KL(dosed || undosed) in nats, (packs, texts, tokens).  surprise: -log probability of each written token under
    the *undosed* model, in nats, of the same shape.  tokens: per pack and text.
    """

    kl: Tensor
    surprise: Tensor
    tokens: list[list[tuple[int, ...]]]


def rollouts(session: Session, packs: Sequence[Pack], texts: Sequence[Tokens], subject: Subject) -> Rollout:
    """Return what each pack writes after the texts' openings, and how far from the undosed model that is."""
    prompts = [prompt for prompt, _ in _halves(texts)]
    rows = [Row(prompt, pack, Stream(0, f"rollout {at}")) for pack in packs for at, prompt in enumerate(prompts)]
    written = [text.tokens for text in generate(session, rows, subject, tokens=WRITTEN)]
    kl, surprise = (torch.full((len(rows), WRITTEN), float("nan")) for _ in range(2))
    for first in range(0, len(rows), BATCH):
        part = list(zip(rows, written, strict=True))[first : first + BATCH]
        dosed = read(session, [Given(row.pack, row.prompt, tokens) for row, tokens in part], subject)
        plain = read(session, [Given(UNDOSED, row.prompt, tokens) for row, tokens in part], subject)
        for at, (one, other) in enumerate(zip(dosed, plain, strict=True), start=first):
            chosen = torch.tensor(written[at], device=other.logprob.device)[:, None]
            kl[at, : len(chosen)] = divergence(one.logprob, other.logprob)
            surprise[at, : len(chosen)] = -other.logprob.gather(-1, chosen)[:, 0]
    shape, per = (len(packs), len(prompts), WRITTEN), len(prompts)
    grouped = [written[start : start + per] for start in range(0, len(written), per)]
    return Rollout(kl.view(shape), surprise.view(shape), grouped)


def loudness(divergences: Tensor) -> Tensor:
    """Return the 95th percentile over tokens of divergences (packs, tokens), NaN tokens left out: (packs,)."""
    result: Tensor = divergences.double().nanquantile(QUANTILE, dim=-1)
    return result


@dataclass
class _Search:
    """The bracket of one pack's first crossing: factors and log KL below and above it."""

    low: float
    low_kl: float
    high: float
    high_kl: float

    def propose(self, target: float) -> float:
        """Return where the line through both ends, in log-log coordinates, crosses the target, off the ends."""
        if self.low == 0:
            return self.high * min(0.9, math.sqrt(target / self.high_kl))  # KL grows with the square of a small push
        share = math.log(target / self.low_kl) / math.log(self.high_kl / self.low_kl)
        share = min(0.95, max(0.05, share))
        return float(self.low * (self.high / self.low) ** share)

    def see(self, factor: float, kl: float, target: float) -> None:
        """Move an end of the bracket to where `kl` was measured."""
        if kl < target:
            self.low, self.low_kl = factor, max(kl, 1e-12)
        else:
            self.high, self.high_kl = factor, kl


def _bracket(pack: Pack, factors: Sequence[float], kls: Sequence[float], target: float) -> _Search | None:
    """Return the bracket of the first crossing on a grid; None when the target is not reached."""
    below = (0.0, 0.0)
    for factor, kl in zip(factors, kls, strict=True):
        if not math.isfinite(kl):
            raise CalibrationError(f"Pack {pack.name!r} at {factor:.3g} times its doses gives a KL of {kl}.")
        if kl >= target:
            return _Search(*below, factor, kl)
        below = (factor, max(kl, 1e-12))
    return None


def _crossings(
    packs: Sequence[Pack],
    wanted: Sequence[float],
    guess: float | None,
    measure: Callable[[Sequence[Pack]], list[float]],
) -> dict[int, _Search]:
    """Return, per number of a pack, the bracket of its first crossing; packs that do not reach their target are absent.

    The grid is laid out from the largest factor down; with a guess, somewhat more than it is tried first, alone.
    """
    tops = [largest_factor(pack) for pack in packs]
    grids = [[top * share for share in GRID] for top in tops]
    found: dict[int, _Search] = {}
    stages = [grids] if guess is None else [[[min(1.5 * guess, top)] for top in tops], grids]
    for stage in stages:
        rest = [number for number in range(len(packs)) if number not in found]
        seen = iter(measure([packs[number].scaled(factor) for number in rest for factor in stage[number]]))
        for number in rest:
            kls = [next(seen) for _ in stage[number]]
            if (search := _bracket(packs[number], stage[number], kls, wanted[number])) is not None:
                found[number] = search
        if len(found) == len(packs):
            break
    return found


def kl_units(
    session: Session,
    packs: Sequence[Pack],
    texts: Sequence[Tokens],
    subject: Subject,
    *,
    targets: Sequence[float] | None = None,
    guess: float | None = None,
    heard: Heard = "text",
    tick: Tick = lambda _: None,
) -> list[Matched | None]:
    """Return the KL unit of every pack, None for one that cannot reach its target within the ranges of its effects.

    targets: nats at the 95th percentile, one a pack; 1 for all when not given.  guess: a factor near which the units
    are thought to lie, for packs that are alike.  heard: where KL is measured; what a pack writes is drawn from streams
    of its own, so that the answer is the same each time.  tick: told how many rows were read.
    """
    wanted = [TARGET] * len(packs) if targets is None else list(targets)
    if not packs:
        return []

    def measure(scaled: Sequence[Pack]) -> list[float]:
        if heard == "text":
            kl = divergences(session, scaled, texts, subject, tick)
        else:
            kl = rollouts(session, scaled, texts, subject).kl.flatten(1)
        found: list[float] = loudness(kl).tolist()
        return found

    open_searches = _crossings(packs, wanted, guess, measure)
    found = {number: Matched(search.high, search.high_kl) for number, search in open_searches.items()}
    for _ in range(STEPS):
        searching = [n for n in open_searches if abs(found[n].kl - wanted[n]) > TOLERANCE * wanted[n]]
        if not searching:
            break
        factors = [open_searches[number].propose(wanted[number]) for number in searching]
        kls = measure([packs[n].scaled(factor) for n, factor in zip(searching, factors, strict=True)])
        for number, factor, kl in zip(searching, factors, kls, strict=True):
            open_searches[number].see(factor, kl, wanted[number])
            found[number] = Matched(factor, kl)
    return [found.get(number) for number in range(len(packs))]
