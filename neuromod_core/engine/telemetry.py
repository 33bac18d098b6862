"""Reading a written text once more, with everything that can be seen while it is read. Nothing is written or changed.

Each text is read twice in the same batch: by its row, and by the undosed model, so that a row at dose zero differs from
it by exactly nothing. Attention weights pass through an effect that looks and returns them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import NamedTuple

import torch
from torch import Tensor

from neuromod_core.effects import Place, Subject
from neuromod_core.effects.base import Stage
from neuromod_core.effects.kinds import WeightEffect
from neuromod_core.engine.cache import reserve
from neuromod_core.engine.generate import UNDOSED
from neuromod_core.engine.rows import Padded, Row, pad_left, pad_right
from neuromod_core.engine.session import Hidden, Session
from neuromod_core.kernel.errors import DataError
from neuromod_core.packs import Binding, Dosed, Pack, bind

DISTANCES = ((0, 0), (1, 4), (5, 16), (17, 64), (65, None))
"""Distances from a token to what it attends to, first and last of each bin, tokens; 0 is the token itself."""

PERIODS = ((16.0, None), (4.0, 16.0), (2.0, 4.0))
"""Periods of movement along a text, tokens, from (included) to (excluded, but for the last): slow, middle, fast."""

GRAM = 4
Tokens = Sequence[int]


@dataclass(frozen=True)
class Telemetry:
    """What was seen while one text was read, per token of the text unless said otherwise; nats.

    entropy: of the distribution that was sampled from (after the pack's sampler).
    surprisal: -ln p(token) under the undosed model.  kl: KL(dosed || undosed) of the next-token distributions.
    repeated: whether the run of four tokens that ends here occurred before in the text.
    attention_entropy: of the weights of a query, mean over heads and blocks; None on a model that hides them.
    attention_mass: share of attention at each of `DISTANCES`, mean over tokens, heads and blocks; None as above.
    spectral_power: share of the power of the last hidden states along the text at each of `PERIODS`; None for a text
        shorter than twice the slowest bound, or states that do not move.
    """

    entropy: tuple[float, ...]
    surprisal: tuple[float, ...]
    kl: tuple[float, ...]
    repeated: tuple[bool, ...]
    attention_entropy: tuple[float, ...] | None
    attention_mass: tuple[float, ...] | None
    spectral_power: tuple[float, ...] | None


class _Seen(NamedTuple):
    """What one block's attention showed: entropy (n, q) and mass (n, q, bins), means over heads."""

    entropy: Tensor
    mass: Tensor


@dataclass(frozen=True, kw_only=True, eq=False)
class _Look(WeightEffect):
    """Looks at attention weights after all effects on them and returns them as they are. It is no part of any pack."""

    stage = Stage.TRUNCATE
    seen: list[_Seen] = field(default_factory=list, repr=False)

    def edit(self, weights: Tensor, dose: Tensor, place: Place) -> Tensor:
        """Return the weights (n, heads, queries, keys) themselves, having noted how response tokens attend."""
        if bool(place.written.any()):
            share = weights.float() / weights.float().sum(-1, keepdim=True).clamp(min=1e-12)
            entropy = torch.special.entr(share).sum(-1).mean(1)
            mass = torch.stack([(share * _within(place, *each)).sum(-1).mean(1) for each in DISTANCES], dim=-1)
            self.seen.append(_Seen(entropy, mass))
        return weights


def _within(place: Place, low: int, high: int | None) -> Tensor:
    """Return (n, 1, queries, keys) 1 where a key lies at such a distance before its query."""
    far = place.distance
    return ((far >= low) & (far <= high) if high is not None else far >= low).float()


def spectral_power(states: Tensor) -> tuple[float, ...] | None:
    """Return the share of power of a trajectory (tokens, width) at each of `PERIODS`, slow to fast.

    Formula:  X = rfft over tokens of (states - their mean over tokens);  P(f) = sum over dimensions |X(f)|^2, f > 0;
        share of a band = sum of P over  1 / high < f <= 1 / low  (the slowest band has no lower end) / sum of P.
    Source: Schuster 1898 (periodogram).
    """
    count = states.shape[0]
    if count < 2 * PERIODS[0][0]:
        return None
    moved = states.double() - states.double().mean(0)
    power = torch.fft.rfft(moved, dim=0).abs().square().sum(-1)[1:]
    total = float(power.sum())
    if total == 0:
        return None
    period = count / torch.arange(1, len(power) + 1, dtype=torch.float64)
    bands = [(period >= low) & ((period < high) if high is not None else period >= low) for low, high in PERIODS]
    return tuple(float(power[band].sum()) / total for band in bands)


def repeats(tokens: Tokens) -> tuple[bool, ...]:
    """Return, per token, whether the run of four tokens that ends there occurred before.

    >>> repeats([1, 2, 3, 4, 1, 2, 3, 4])[-1]
    True
    """
    seen: set[tuple[int, ...]] = set()
    found = []
    for end in range(1, len(tokens) + 1):
        gram = tuple(tokens[max(0, end - GRAM) : end])
        found.append(len(gram) == GRAM and gram in seen)
        seen.add(gram)
    return tuple(found)


def _looking(pack: Pack, look: _Look | None) -> Pack:
    return pack if look is None else replace(pack, effects=(*pack.effects, Dosed("look", look, 1.0)))


class _Read(NamedTuple):
    """Texts that were read: states at the places that predict each token, one row a text; and what attention showed."""

    hidden: Hidden
    prompt: Padded
    binding: Binding
    seen: tuple[_Seen, ...]


def _read(session: Session, rows: Sequence[Row], texts: Sequence[Tokens], subject: Subject) -> _Read:
    """Read prompts, then texts, as they were read when they were written."""
    device = session.model.device
    look = _Look() if subject.shape.attention else None
    packs = [_looking(row.pack, look) for row in rows]
    binding = bind(packs, [row.stream for row in rows], subject, device=device)
    prompt = pad_left([row.reads(subject) for row in rows], device)
    text = pad_right(list(texts), device)
    cache = reserve(session.model.depth, prompt.tokens.shape[1] + text.tokens.shape[1])
    start = prompt.lengths
    first = session.forward(prompt.tokens, prompt.mask, pad=prompt.pad, binding=binding, start=start, cache=cache)
    mask = torch.cat([prompt.mask, text.mask], dim=-1)
    later = session.forward(text.tokens, mask, pad=prompt.pad, binding=binding, start=start, cache=cache)
    last = first.at(slice(None), slice(-1, None))
    watched = {layer: torch.cat([last.watched[layer], states], 1) for layer, states in later.watched.items()}
    hidden = Hidden(torch.cat([last.last, later.last], dim=1), watched)
    return _Read(hidden, prompt, binding, tuple(look.seen) if look else ())


def _logprobs(session: Session, read: _Read, row: int, text: Tokens) -> Tensor:
    """Return log-probabilities (tokens, vocabulary) of a row's next tokens along its text, after its sampler."""
    device, count = session.model.device, len(text)
    places = torch.arange(count, device=device)
    out = session.read(read.hidden.at(torch.full_like(places, row), places))
    binding = read.binding.take([row] * count)
    tokens = torch.tensor(list(text), device=device).expand(count, -1)
    history = torch.where(places[None, :] < places[:, None], tokens, -1)
    edited = binding.edit_logits(out.logits, places, history, read.prompt.known[row].expand(count, -1), out.early)
    logp: Tensor = edited.double().log_softmax(-1)
    return logp


def _entropy(logp: Tensor) -> Tensor:
    spread: Tensor = torch.special.entr(logp.exp()).sum(-1)
    return spread


def _kl(own: Tensor, other: Tensor) -> Tensor:
    """Return KL(own || other) per place; tokens that `own` excludes add nothing."""
    p = own.exp()
    return torch.where(p > 0, p * (own - other), 0.0).sum(-1).clamp(min=0)


def _one(session: Session, read: _Read, row: int, twin: int, text: Tokens) -> Telemetry:
    """Return the telemetry of one text, read by `row`, and undosed by `twin`."""
    own, undosed = _logprobs(session, read, row, text), _logprobs(session, read, twin, text)
    wanted = torch.tensor(list(text), device=own.device)[:, None]
    count = len(text)
    spread = mass = None
    if read.seen:
        spread = torch.stack([each.entropy[row, :count] for each in read.seen]).mean(0)
        mass = torch.stack([each.mass[row, :count] for each in read.seen]).mean((0, 1))
    return Telemetry(
        entropy=tuple(_entropy(own).tolist()),
        surprisal=tuple((-undosed.gather(-1, wanted)[:, 0]).tolist()),
        kl=tuple(_kl(own, undosed).tolist()),
        repeated=repeats(text),
        attention_entropy=None if spread is None else tuple(spread.tolist()),
        attention_mass=None if mass is None else tuple(mass.tolist()),
        spectral_power=spectral_power(read.hidden.last[row, 1 : count + 1]),
    )


@torch.inference_mode()
def observe(
    session: Session,
    rows: Sequence[Row],
    texts: Sequence[Tokens],
    subject: Subject,
    *,
    plain: Sequence[tuple[int, ...]] | None = None,
    at_once: int = 16,
) -> list[Telemetry]:
    """Return what is seen when each row reads its own text after its prompt.

    plain: what the undosed model reads before each text, where that is not the row's own prompt.
    at_once: texts in one pass, each read twice; it bounds memory.

    Raises:
        DataError: for another number of texts or plain prompts than rows, or an empty text.
    """
    prompts = [row.prompt for row in rows] if plain is None else list(plain)
    if not len(rows) == len(texts) == len(prompts) or any(len(text) == 0 for text in texts):
        raise DataError(f"{len(texts)} texts for {len(rows)} rows; each row needs one text of at least one token.")
    found: list[Telemetry] = []
    for begin in range(0, len(rows), at_once):
        end = begin + at_once
        some, mine = list(rows[begin:end]), list(texts[begin:end])
        twins = [replace(row, prompt=text, pack=UNDOSED) for row, text in zip(some, prompts[begin:end], strict=True)]
        read = _read(session, [*some, *twins], [*mine, *mine], subject)
        found += [_one(session, read, at, len(some) + at, text) for at, text in enumerate(mine)]
    return found
