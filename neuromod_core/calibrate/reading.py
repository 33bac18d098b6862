"""How packs read given text: the next-token distribution at every token of a response, without sampling."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from neuromod_core.effects import Stream, Subject
from neuromod_core.engine.rows import Row, pad_left
from neuromod_core.engine.session import Session
from neuromod_core.packs import Pack, bind

BATCH = 24  # rows in one forward pass


@dataclass(frozen=True)
class Given:
    """A pack, what it reads, and the response that it then reads as if it had written it."""

    pack: Pack
    prompt: tuple[int, ...]
    response: tuple[int, ...]


@dataclass(frozen=True, eq=False)
class Read:
    """What one row made of its response.

    logprob: (tokens, vocabulary) log-probabilities of the response's tokens as the pack expresses them.
    columns: (tokens,) where in the padded batch each was read from.  pad: tokens of padding before the row.
    """

    logprob: Tensor
    columns: Tensor
    pad: int


@torch.inference_mode()
def read(session: Session, given: Sequence[Given], subject: Subject) -> Iterator[Read]:
    """Yield how each row reads its response, in one forward pass for all of them."""
    device = session.model.device
    rows = [Row(one.prompt, one.pack, Stream(0, "act")) for one in given]
    prompts = [row.reads(subject) for row in rows]
    padded = pad_left([(*prompt, *one.response) for prompt, one in zip(prompts, given, strict=True)], device)
    start = torch.tensor([len(prompt) for prompt in prompts], device=device)
    binding = bind([row.pack for row in rows], [row.stream for row in rows], subject, device=device)
    hidden = session.forward(padded.tokens, padded.mask, pad=padded.pad, binding=binding, start=start, cache=None)
    known = pad_left(prompts, device).known
    for row, one in enumerate(given):
        index = torch.arange(len(one.response), device=device)
        response = torch.tensor(one.response, device=device)
        history = torch.where(index[None, :] < index[:, None], response[None, :], -1)
        columns = padded.pad[row] + start[row] - 1 + index
        raw = session.read(hidden.at(row, columns))
        taken = binding.take([row] * len(index))
        edited = taken.edit_logits(raw.logits, index, history, known[row].expand(len(index), -1), raw.early)
        yield Read(edited.log_softmax(-1), columns, int(padded.pad[row]))


def divergence(dosed: Tensor, plain: Tensor) -> Tensor:
    """Return KL(dosed || plain) in nats per place, (places,), of log-probabilities (places, vocabulary)."""
    terms = dosed.exp() * (dosed - plain)
    result: Tensor = terms.nan_to_num(0.0).sum(-1)
    return result


def entropy(logprob: Tensor) -> Tensor:
    """Return the entropy in nats per place, (places,), of log-probabilities (places, vocabulary)."""
    result: Tensor = torch.special.entr(logprob.exp()).sum(-1)
    return result
