"""Did it act? What each effect does to a model that reads neutral text, beside the same model undosed.

All doses of all effects are rows of one batch. Nothing is sampled: a text is cut in two, its first half is the prompt
and its second the response that is read. Effects that choose among sampled responses cannot act here.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from neuromod_core.effects import Effect, Stage, Stream, Subject
from neuromod_core.effects.kinds import WeightEffect
from neuromod_core.effects.subject import Place
from neuromod_core.engine.rows import Row, pad_left
from neuromod_core.engine.session import Session
from neuromod_core.packs import Dosed, Pack, bind

BATCH = 24


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
    session: Session, packs: Sequence[Pack], prompt: tuple[int, ...], text: Sequence[int], subject: Subject
) -> Iterator[Reading]:
    """Yield how each pack reads `text` after `prompt`."""
    device, probe = session.model.device, Weights()
    rows = [Row(prompt, _probed(pack, probe), Stream(0, "act")) for pack in packs]
    prompts = [row.reads(subject) for row in rows]
    padded = pad_left([(*prompt, *text) for prompt in prompts], device)
    start = torch.tensor([len(prompt) for prompt in prompts], device=device)
    binding = bind([row.pack for row in rows], [row.stream for row in rows], subject, device=device)
    hidden = session.forward(padded.tokens, padded.mask, pad=padded.pad, binding=binding, start=start, cache=None)
    attention = torch.stack(probe.seen, dim=1) if probe.seen else torch.empty(len(rows), 0)
    known, index = pad_left(prompts, device).known, torch.arange(len(text), device=device)
    history = torch.where(index[None, :] < index[:, None], torch.tensor(list(text), device=device)[None, :], -1)
    for row in range(len(rows)):
        columns = padded.pad[row] + start[row] - 1 + index
        read = session.read(hidden.at(row, columns))
        one = binding.take([row] * len(text))
        edited = one.edit_logits(read.logits, index, history, known[row].expand(len(text), -1), read.early)
        yield Reading(edited.log_softmax(-1), attention[row, ..., columns, int(padded.pad[row]) :])


def _compare(dosed: Reading, plain: Reading) -> tuple[float, float, float | None]:
    terms = dosed.logprob.exp() * (dosed.logprob - plain.logprob)
    kl = float(terms.nan_to_num(0.0).sum(-1).mean())
    entropy = float((_entropy(dosed.logprob) - _entropy(plain.logprob)).mean())
    if dosed.attention.shape != plain.attention.shape or dosed.attention.numel() == 0:
        return kl, entropy, None
    return kl, entropy, float((dosed.attention - plain.attention).abs().sum(-1).mean() / 2)


def _entropy(logprob: Tensor) -> Tensor:
    entropy: Tensor = torch.special.entr(logprob.exp()).sum(-1)
    return entropy


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
        prompt, rest = tuple(text[:half]), list(text[half:])
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
