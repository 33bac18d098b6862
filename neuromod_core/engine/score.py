"""Reading the model without sampling: log-likelihoods of given responses, and log-probabilities of given answers.

The keys and values of a row's prompt are computed once and reused for all its continuations. Rows that differ only in
their sampler effects share the forward pass, and part where logits become probabilities.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import groupby

import torch
from torch import Tensor
from transformers.cache_utils import Cache

from neuromod_core.effects import Subject
from neuromod_core.engine.cache import expand, mark, reserve, rewind
from neuromod_core.engine.rows import Padded, Row, distinct, pad_left, pad_right
from neuromod_core.engine.session import UNWRITTEN, Hidden, Readout, Session
from neuromod_core.engine.trunk import Trunk
from neuromod_core.kernel.errors import DataError
from neuromod_core.packs import Binding, bind

Tokens = Sequence[int]
EDITED_AT_ONCE = 256  # distributions over the vocabulary that sampler effects edit at a time: a bound on memory


@dataclass(frozen=True)
class Likelihood:
    """Log-likelihood in nats of one given response: raw (the model's), and expressed (after the row's sampler).

    expressed is minus infinity when a sampler effect excludes one of the tokens.
    """

    raw: float
    expressed: float
    tokens: int


@dataclass(frozen=True)
class Choice:
    """Log-probabilities in nats of the given answers as the next token: raw, and expressed.

    texts: log-likelihoods of whole answers, where they were asked for.
    """

    raw: tuple[float, ...]
    expressed: tuple[float, ...]
    texts: tuple[Likelihood, ...] = ()


@dataclass(frozen=True, eq=False)
class _Prefix:
    """Prompts that were read: their distinct forward passes, and which row follows which of them."""

    session: Session
    binding: Binding  # of the distinct passes
    samplers: Binding  # of the rows
    follows: Tensor  # (rows,) index of the row's distinct pass
    alike: Tensor  # (passes,) one number for all passes of one prompt
    prompt: Padded  # of the distinct passes
    cache: Cache
    after: Readout  # of the last prompt token of the distinct passes


def _read(session: Session, rows: Sequence[Row], subject: Subject, *, responses: bool) -> _Prefix:
    """Read the prompts of rows; what follows them are `responses`, or else more to read."""
    device = session.model.device
    prompts = [row.reads(subject) for row in rows]
    first, follows = distinct(rows, prompts)
    binding = bind([row.pack for row in rows], [row.stream for row in rows], subject, device=device)
    passes, prompt = binding.take(first), pad_left([prompts[number] for number in first], device)
    cache = reserve(session.model.depth, prompt.tokens.shape[1])
    start = prompt.lengths if responses else torch.full_like(prompt.pad, UNWRITTEN)
    numbers = {text: number for number, text in enumerate(dict.fromkeys(prompts))}
    alike = torch.tensor([numbers[prompts[number]] for number in first], device=device)
    hidden = session.forward(
        prompt.tokens,
        prompt.mask,
        pad=prompt.pad,
        binding=passes,
        start=start,
        cache=cache,
        trunk=session.trunk(passes, alike),
    )
    after = session.read(hidden.at(slice(None), -1))
    return _Prefix(session, passes, binding, torch.tensor(follows, device=device), alike, prompt, cache, after)


@dataclass(frozen=True, eq=False)
class _Reading:
    """Texts being read after the prompts of their owners: the cache they fill, and which of its columns are real."""

    prefix: _Prefix
    owners: Tensor
    binding: Binding
    mask: Tensor
    cache: Cache
    trunk: Trunk | None

    def on(self, tokens: Tensor, mask: Tensor, start: Tensor) -> tuple[Hidden, _Reading]:
        """Return the states (n, tokens, width) of more tokens, and the reading that holds them."""
        longer = replace(self, mask=torch.cat([self.mask, mask], dim=-1))
        pad = self.prefix.prompt.pad[self.owners]
        session = self.prefix.session
        hidden = session.forward(
            tokens, longer.mask, pad=pad, binding=self.binding, start=start, cache=self.cache, trunk=self.trunk
        )
        return hidden, longer


def _open(prefix: _Prefix, owners: Tensor, numbers: Sequence[int], room: int) -> _Reading:
    """Return a reading with room for so many tokens of the texts of these numbers, each after its owner's prompt."""
    binding, texts = prefix.binding.take(owners), torch.tensor(numbers, device=owners.device)
    trunk = prefix.session.trunk(binding, texts * len(prefix.alike) + prefix.alike[owners])
    mask, cache = prefix.prompt.mask[owners], expand(prefix.cache, owners, room, trunk)
    return _Reading(prefix, owners, binding, mask, cache, trunk)


def _batches(
    passes: int, texts: Sequence[Tokens], size: int, device: torch.device, *, even: bool = False
) -> Iterator[tuple[Tensor, list[int]]]:
    """Yield (owners, text numbers) of at most `size` pairs: text by text, so that all arms meet in one batch, and texts
    of like length together, so that little is padding; `even`: of one length alone, so that nothing is."""
    per = max(1, size // passes)
    order = sorted(range(len(texts)), key=lambda number: len(texts[number]))
    runs = groupby(order, key=lambda number: len(texts[number])) if even else [(0, order)]
    for run in (list(numbers) for _, numbers in runs):
        for start in range(0, len(run), per):
            numbers = [number for number in run[start : start + per] for _ in range(passes)]
            yield torch.arange(passes, device=device).repeat(len(numbers) // passes), numbers


def _two_readings(
    prefix: _Prefix, read: Readout, owner: Tensor, index: Tensor, history: Tensor, wanted: Tensor
) -> tuple[Tensor, Tensor]:
    """Return log-probabilities of `wanted` tokens at n places: raw (n, w), and expressed (n, w) for each row.

    read: logits (n, vocabulary) at places of distinct passes `owner` (n,). The second result has one line per (place,
    row that follows the place's pass), in the order of `_followers`.
    """
    raw = read.logits.gather(-1, wanted) - read.logits.logsumexp(-1, keepdim=True)
    place, row = _followers(prefix, owner)
    expressed = raw[place]
    sampled = prefix.samplers.sampled[row].nonzero()[:, 0]
    for start in range(0, len(sampled), EDITED_AT_ONCE):
        edited = sampled[start : start + EDITED_AT_ONCE]
        at, who = place[edited], row[edited]
        here, prompt = read.at(at), prefix.prompt.known[owner[at]]
        samplers = prefix.samplers.take(who)
        drawn = samplers.edit_logits(here.logits, index[at], history[at], prompt, here.early)
        expressed[edited] = drawn.gather(-1, wanted[at]) - drawn.logsumexp(-1, keepdim=True)
    return raw, expressed


def _followers(prefix: _Prefix, owner: Tensor) -> tuple[Tensor, Tensor]:
    """Return all (place, row) pairs where the row follows the pass that owns the place."""
    pairs = (owner[:, None] == prefix.follows[None, :]).nonzero()
    return pairs[:, 0], pairs[:, 1]


def _places(padded: Padded, first: bool) -> tuple[Tensor, Tensor]:
    """Return (text, token) indices of the tokens to be scored: the first of each text, or all later ones."""
    real = padded.mask.bool().clone()
    real[:, 1:] &= not first
    real[:, 0] &= first
    pairs = real.nonzero()
    return pairs[:, 0], pairs[:, 1]


def _history(padded: Padded, text: Tensor, token: Tensor) -> Tensor:
    """Return the tokens of the response before each place, (n, width), -1 where there are none."""
    earlier = torch.arange(padded.tokens.shape[1], device=text.device)[None, :] < token[:, None]
    return torch.where(earlier, padded.tokens[text], -1)


def _add_likelihoods(
    prefix: _Prefix, hidden: Hidden, padded: Padded, owners: Tensor, first: bool, sums: tuple[Tensor, Tensor], slab: int
) -> None:
    """Add the log-probabilities of the scored tokens to `sums`: raw (texts,), expressed (texts, rows)."""
    places = torch.stack(_places(padded, first))
    for start in range(0, places.shape[1], slab):
        text, token = places[:, start : start + slab]
        whose = owners[text]
        read = prefix.after.at(whose) if first else prefix.session.read(hidden.at(text, token - 1))
        wanted = padded.tokens[text, token][:, None]
        raw, expressed = _two_readings(prefix, read, whose, token, _history(padded, text, token), wanted)
        place, row = _followers(prefix, whose)
        sums[0].index_add_(0, text, raw[:, 0].double())
        sums[1].index_put_((text[place], row), expressed[:, 0].double(), accumulate=True)


@torch.inference_mode()
def score(
    session: Session,
    rows: Sequence[Row],
    responses: Sequence[Tokens],
    subject: Subject,
    *,
    batch: int = 192,
    slab: int = 256,
) -> list[list[Likelihood]]:
    """Return, per row, the log-likelihood of every response after the row's prompt.

    responses: token lists, the same for all rows.  batch: texts in one forward pass.  slab: places whose logits are
    held at a time. Both bound memory; the batch is part of a study's plan.

    Raises:
        DataError: for an empty response.
    """
    if any(len(text) == 0 for text in responses):
        raise DataError("A response to score is empty; the tokenizer gave no token for its text.")
    prefix = _read(session, rows, subject, responses=True)
    result = [[Likelihood(0, 0, 0)] * len(responses) for _ in rows]
    device = session.model.device
    for owners, numbers in _batches(prefix.binding.rows, responses, batch, device):
        texts = [responses[number] for number in numbers]
        padded = pad_right(texts, device)
        read = pad_right([text[:-1] or text for text in texts], device)  # nothing follows the last token
        hidden, _ = _open(prefix, owners, numbers, read.tokens.shape[1]).on(*read[:2], prefix.prompt.lengths[owners])
        sums = (
            torch.zeros(len(texts), dtype=torch.float64, device=device),
            torch.zeros(len(texts), len(rows), dtype=torch.float64, device=device),
        )
        for first in (True, False):
            _add_likelihoods(prefix, hidden, padded, owners, first, sums, slab)
        raw, expressed = (part.tolist() for part in sums)
        place, row_of = (part.tolist() for part in _followers(prefix, owners))
        for text, row in zip(place, row_of, strict=True):
            result[row][numbers[text]] = Likelihood(raw[text], expressed[text][row], tokens=len(texts[text]))
    return result


def _whole_answer(reading: _Reading, read: Readout, text: Tokens, lengths: Tensor) -> tuple[Tensor, Tensor]:
    """Return log-likelihoods of one answer after all texts read so far: raw (n,), and expressed, (pairs,) as in
    `_followers`.

    read: of the last token so far, (n, vocabulary).  lengths: (n,) tokens read so far. The cache is left as it was.
    """
    prefix, owners, count, device = reading.prefix, reading.owners, len(reading.owners), lengths.device
    tokens = torch.tensor(list(text), device=device).expand(count, -1)
    at, hidden = mark(reading.cache), None
    if len(text) > 1:
        hidden, _ = reading.on(tokens[:, :-1], torch.ones_like(tokens[:, :-1]), lengths)
        rewind(reading.cache, at)
    raw, expressed = torch.zeros(count, dtype=torch.float64, device=device), torch.zeros(1, device=device)
    for place in range(len(text)):
        here = read if hidden is None or place == 0 else prefix.session.read(hidden.at(slice(None), place - 1))
        index, wanted = torch.full_like(owners, place), tokens[:, place : place + 1]
        one, other = _two_readings(prefix, here, owners, index, tokens[:, :place], wanted)
        raw, expressed = raw + one[:, 0].double(), expressed + other[:, 0].double()
    return raw, expressed


@torch.inference_mode()
def choose(
    session: Session,
    rows: Sequence[Row],
    questions: Sequence[Tokens],
    answers: Sequence[int],
    subject: Subject,
    *,
    texts: Sequence[Tokens] = (),
    batch: int = 192,
) -> list[list[Choice]]:
    """Return, per row, the log-probability of every answer token right after the row's prompt and each question.

    questions: token lists read after the shared prompt, as part of it, the same for all rows; effects that forget
    prompt keys by score judge them by the question's queries.  answers: token ids.
    texts: whole answers, whose log-likelihoods are read too; all of them continue one reading of the question.

    Raises:
        DataError: for an empty question or text.
    """
    if any(len(text) == 0 for text in (*questions, *texts)):
        raise DataError("A question or an answer is empty; the tokenizer gave no token for its text.")
    prefix = _read(session, rows, subject, responses=False)
    result = [[Choice((), ())] * len(questions) for _ in rows]
    device, room = session.model.device, max((len(text) - 1 for text in texts), default=0)
    wanted = torch.tensor(list(answers), device=device, dtype=torch.long)
    for owners, numbers in _batches(prefix.binding.rows, questions, batch, device, even=bool(texts)):
        padded = pad_right([questions[number] for number in numbers], device)
        count, lengths = len(numbers), prefix.prompt.lengths[owners]
        unwritten = torch.full_like(lengths, UNWRITTEN)
        hidden, reading = _open(prefix, owners, numbers, padded.tokens.shape[1] + room).on(*padded[:2], unwritten)
        read = session.read(hidden.at(torch.arange(count, device=device), padded.lengths - 1))
        raw, expressed = _two_readings(
            prefix, read, owners, torch.zeros_like(owners), padded.tokens[:, :0], wanted.expand(count, -1)
        )
        whole = [_whole_answer(reading, read, text, lengths + padded.lengths) for text in texts]
        likely = [(one.tolist(), other.tolist(), len(text)) for (one, other), text in zip(whole, texts, strict=True)]
        first, second = raw.tolist(), expressed.tolist()
        place, row_of = (part.tolist() for part in _followers(prefix, owners))
        for line, (text, row) in enumerate(zip(place, row_of, strict=True)):
            given = tuple(Likelihood(one[text], other[line], size) for one, other, size in likely)
            result[row][numbers[text]] = Choice(tuple(first[text]), tuple(second[line]), given)
    return result
