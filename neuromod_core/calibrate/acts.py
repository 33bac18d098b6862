"""Did it act? What each effect does to a model that reads neutral text, beside the same model undosed.

All doses of all effects are rows of one batch. Nothing is sampled: a text is cut in two, its first half is the prompt
and its second the response that is read. Effects that choose among sampled responses cannot act here.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from neuromod_core.calibrate.reading import BATCH, Given, divergence, entropy, read
from neuromod_core.effects import Effect, Stage, Subject
from neuromod_core.effects.kinds import WeightEffect
from neuromod_core.effects.subject import Place
from neuromod_core.engine.session import Session
from neuromod_core.packs import Dosed, Pack


@dataclass(frozen=True, eq=False)
class Weights(WeightEffect):
    """A probe that changes nothing and keeps the attention weights it sees."""

    seen: list[Tensor] = field(default_factory=list)
    observable, moves, stage = "nothing", 1, Stage.TRUNCATE

    def __repr__(self) -> str:
        return "~"  # after all effects of its stage

    def edit(self, weights: Tensor, dose: Tensor, place: Place) -> Tensor:
        """See `WeightEffect.edit`."""
        self.seen.append(weights)
        return weights


@dataclass(frozen=True)
class Act:
    """What an effect did at a dose, over the tokens of the responses.

    kl: mean KL divergence of the dosed next-token distribution from the undosed one, in nats per token.
    entropy: change of the mean entropy of the next token, in nats.
    moved: share of attention that fell on other keys, mean over layers, heads and tokens; None where the keys differ.
    """

    kl: float
    entropy: float
    moved: float | None


@dataclass(frozen=True, eq=False)
class Reading:
    """One row as it was read: log-probabilities (tokens, vocabulary) and attention (layers, heads, tokens, keys)."""

    logprob: Tensor
    attention: Tensor


def _probed(pack: Pack, probe: Weights) -> Pack:
    return Pack(pack.name, pack.description, pack.kind, (*pack.effects, Dosed("probe", probe, 1.0)), pack.system)


def _read(
    session: Session, packs: Sequence[Pack], prompt: tuple[int, ...], text: tuple[int, ...], subject: Subject
) -> Iterator[Reading]:
    """Yield how each pack reads `text` after `prompt`."""
    probe = Weights()
    given = [Given(_probed(pack, probe), prompt, text) for pack in packs]
    attention: Tensor | None = None
    for row, one in enumerate(read(session, given, subject)):
        if attention is None:
            attention = torch.stack(probe.seen, dim=1) if probe.seen else torch.empty(len(packs), 0)
        yield Reading(one.logprob, attention[row, ..., one.columns, one.pad :])


def _compare(dosed: Reading, plain: Reading) -> tuple[float, float, float | None]:
    kl = float(divergence(dosed.logprob, plain.logprob).mean())
    change = float((entropy(dosed.logprob) - entropy(plain.logprob)).mean())
    if dosed.attention.shape != plain.attention.shape or dosed.attention.numel() == 0:
        return kl, change, None
    return kl, change, float((dosed.attention - plain.attention).abs().sum(-1).mean() / 2)


@torch.inference_mode()
def acts(
    session: Session,
    effects: Sequence[tuple[str, Effect, float]],
    texts: Sequence[Sequence[int]],
    subject: Subject,
    tick: Callable[[int], None] = lambda _: None,
) -> list[Act]:
    """Return what every (name, effect, dose) does, averaged over texts; `tick` is told how many rows were read."""
    none = Pack("undosed", "no intervention", "control")
    packs = [Pack(name, "one effect", "control", (Dosed(name, effect, dose),)) for name, effect, dose in effects]
    sums: list[list[tuple[float, float, float | None]]] = [[] for _ in packs]
    for text in texts:
        half = len(text) // 2
        prompt, rest = tuple(text[:half]), tuple(text[half:])
        (plain,) = _read(session, [none], prompt, rest, subject)
        for first in range(0, len(packs), BATCH):
            part = packs[first : first + BATCH]
            for number, reading in enumerate(_read(session, part, prompt, rest, subject), start=first):
                sums[number].append(_compare(reading, plain))
            tick(len(part))
    return [_mean(found) for found in sums]


def _mean(found: Sequence[tuple[float, float, float | None]]) -> Act:
    kl, entropy, moved = zip(*found, strict=True)
    known = [value for value in moved if value is not None]
    return Act(
        sum(kl) / len(kl), sum(entropy) / len(entropy), sum(known) / len(known) if len(known) == len(moved) else None
    )
