"""Writing many rows through a limited number of slots: a row that ends gives its slot to the next in the queue.

Which row gets which slot, and when, depends on the rows and on nothing else, so a shard's bytes stay the same.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from neuromod_core.effects import Subject
from neuromod_core.engine.cache import keep, like, reserve, seat
from neuromod_core.engine.rows import Row, distinct, pad_left
from neuromod_core.engine.sampling import Drawn, draw
from neuromod_core.engine.session import Hidden, Session
from neuromod_core.kernel.rng import rng
from neuromod_core.packs import Binding, bind

SLACK = 32  # columns of the cache beyond those held: how often it grows, and what nobody sees any more is dropped
QUORUM = 8  # a refill waits until one slot in so many is free
SHRINK = 0.75  # once nobody waits, a batch this empty is cut down to those who still write
SLAB = 64  # slots whose tables over the vocabulary are held at a time
READ_AT_ONCE = 8192  # prompt tokens in one forward pass: bounds memory


def uniforms(rows: Sequence[Row], count: int) -> Tensor:
    """Return (rows, count) uniform numbers, each row's from the stream it owns."""
    draws = [rng(row.stream.root, row.stream.name, "tokens").random(count) for row in rows]
    return torch.from_numpy(np.stack(draws))


@dataclass(frozen=True, eq=False)
class Written:
    """What rows wrote, one line per row and one column per token: tokens (-1: none), log-probabilities, entropies.

    slot_steps: slots that took part in all steps together, idle ones included.
    """

    tokens: Tensor
    logprob: Tensor
    entropy: Tensor
    slot_steps: int

    @property
    def busy(self) -> float:
        """Share of slots that were writing."""
        return float((self.tokens >= 0).sum()) / max(1, self.slot_steps)


class Desk:
    """Rows at their slots, token by token.

    who (slots,) row in each slot.  pad (slots,) first column of the cache that is the row's own.  count (slots,) tokens
    written.  active (slots,) whether the slot still writes.  hidden: states after the last token of every slot.
    """

    def __init__(self, session: Session, rows: Sequence[Row], subject: Subject, limits: Sequence[int], slots: int):
        self.session, self.rows, self.device = session, rows, session.model.device
        self.binding = bind([row.pack for row in rows], [row.stream for row in rows], subject, device=self.device)
        self.prompts = [row.reads(subject) for row in rows]
        self.limit = torch.tensor(list(limits), device=self.device)
        self.length = torch.tensor([len(prompt) for prompt in self.prompts], device=self.device)
        longest = max(limits)
        self.uniform = uniforms(rows, longest).to(self.device)
        self.tokens = torch.full((len(rows), longest), -1, dtype=torch.long, device=self.device)
        self.logprob, self.entropy = (torch.zeros(len(rows), longest, device=self.device) for _ in range(2))
        self.stop = torch.tensor(sorted(session.model.stop_tokens), dtype=torch.long, device=self.device)
        self.width = int(self.length.max())
        self.slot_steps = 0
        self.slabs: list[tuple[Tensor, Binding]] | None = None
        self.waiting = min(slots, len(rows))
        self._open(torch.arange(self.waiting, device=self.device))

    def _open(self, who: Tensor) -> None:
        """Read the prompts of the first rows; their ends are aligned at the longest prompt of all."""
        self.cache, self.hidden = reserve(self.session.model.depth, 0), Hidden(torch.empty(0), {})
        self.who, self.count = who, torch.zeros_like(who)
        self.pad, self.active = torch.full_like(who, self.width), torch.zeros_like(who, dtype=torch.bool)
        self._seat(torch.arange(len(who), device=self.device), who)

    def _seat(self, slots: Tensor, who: Tensor) -> None:
        """Read the prompts of rows `who` and put them into `slots`; rows that read the same are read once."""
        self.who, self.count, self.active = (
            old.index_copy(0, slots, new)
            for old, new in (
                (self.who, who),
                (self.count, torch.zeros_like(who)),
                (self.active, torch.ones_like(who, dtype=torch.bool)),
            )
        )
        chosen = [self.rows[row] for row in who.tolist()]
        prompts = [self.prompts[row] for row in who.tolist()]
        first, follows = distinct(chosen, prompts)
        per = max(1, READ_AT_ONCE // max(len(prompts[number]) for number in first))
        for start in range(0, len(first), per):
            part = first[start : start + per]
            mine = torch.tensor([place for place, number in enumerate(follows) if start <= number < start + per])
            owner = torch.tensor([follows[place] - start for place in mine.tolist()])
            self._read(slots[mine], who[part], [prompts[number] for number in part], owner)
        end = self.cache.get_seq_length()
        self.pad = self.pad.index_copy(0, slots, end - self.length[who])
        self.bound, self.slabs = self.binding.take(self.who), None
        self.prompt = pad_left([self.prompts[row] for row in self.who.tolist()], self.device).known

    def _read(self, slots: Tensor, who: Tensor, prompts: Sequence[Sequence[int]], owner: Tensor) -> None:
        """Read some prompts in one pass; slot i takes the prompt `owner[i]`."""
        padded = pad_left(prompts, self.device)
        cache = reserve(self.session.model.depth, padded.tokens.shape[1])
        hidden = self.session.forward(
            padded.tokens,
            padded.mask,
            pad=padded.pad,
            binding=self.binding.take(who),
            start=padded.lengths,
            cache=cache,
        ).at(slice(None), -1)
        if self.cache.layers[0].reserved is None:
            self.cache = like(cache, len(self.who), self.width, self.width + SLACK)
            self.hidden = hidden.filled(len(self.who))
        seat(self.cache, slots, cache, owner)
        self.hidden = self.hidden.put(slots, hidden.at(owner))

    def choose(self) -> Tensor:
        """Draw the next token of every slot, (slots, 1), and note it where the slot is active."""
        at = self.count.clamp(max=self.uniform.shape[1] - 1)
        drawn = self._draw(self.uniform[self.who, at])
        slots = self.active.nonzero()[:, 0]
        where = (self.who[slots], at[slots])
        self.tokens[where], self.logprob[where] = drawn.token[slots], drawn.logprob[slots]
        self.entropy[where] = drawn.entropy[slots]
        self.slot_steps += len(self.who)
        self.count = self.count + self.active
        ended = torch.isin(drawn.token, self.stop) | (self.count >= self.limit[self.who])
        self.active = self.active & ~ended
        return drawn.token[:, None]

    def _draw(self, uniform: Tensor) -> Drawn:
        """Draw from every slot's distribution, a slab of slots at a time: tables over the vocabulary stay small."""
        history = self.tokens[self.who, : int(self.count.max())]
        if self.slabs is None:
            parts = torch.split(torch.arange(len(self.who), device=self.device), SLAB)
            self.slabs = [(part, self.bound.take(part)) for part in parts]
        found = []
        for part, bound in self.slabs:
            read = self.session.read(self.hidden.at(part))
            edited = bound.edit_logits(read.logits, self.count[part], history[part], self.prompt[part], read.early)
            found.append(draw(edited, uniform[part]))
        return Drawn(*(torch.cat(columns) for columns in zip(*found, strict=True)))

    def advance(self, token: Tensor) -> None:
        """Read the token of every slot, (slots, 1). Idle slots see themselves alone."""
        end = self.cache.get_seq_length()
        self.pad = torch.where(self.active, self.pad, end)
        mask = (torch.arange(end + 1, device=self.device)[None, :] >= self.pad[:, None]).long()
        start = torch.where(self.active, self.length[self.who], 0)
        self.hidden = self.session.forward(
            token, mask, pad=self.pad, binding=self.bound, start=start, cache=self.cache
        ).at(slice(None), -1)

    def tidy(self, token: Tensor) -> Tensor:
        """Drop idle slots once nobody waits, and columns nobody sees once the cache is full; return kept tokens."""
        slots = self.active.nonzero()[:, 0]
        if self.waiting < len(self.rows) or len(slots) > SHRINK * len(self.who):
            slots = torch.arange(len(self.who), device=self.device)
        full = self.cache.get_seq_length() == self.cache.layers[0].capacity
        if len(slots) == len(self.who) and not full:
            return token
        end = self.cache.get_seq_length()
        first = int(self.pad[self.active].min()) if bool(self.active.any()) else end
        if self.waiting < len(self.rows):
            first = min(first, end - self.width)  # the next prompt must still fit
        self.cache = keep(self.cache, slots, first, end - first + SLACK)
        self.who, self.count, self.active = self.who[slots], self.count[slots], self.active[slots]
        self.pad, self.prompt, self.bound = self.pad[slots] - first, self.prompt[slots], self.binding.take(self.who)
        self.slabs = None
        return token[slots]

    def refill(self) -> None:
        """Give free slots to waiting rows, once enough are free."""
        free = (~self.active).nonzero()[:, 0]
        waiting = len(self.rows) - self.waiting
        if not waiting or len(free) < min(max(1, len(self.who) // QUORUM), waiting):
            return
        free = free[:waiting]
        who = torch.arange(self.waiting, self.waiting + len(free), device=self.device)
        self.waiting += len(free)
        self._seat(free, who)

    @property
    def done(self) -> bool:
        """Whether all rows have ended."""
        return self.waiting == len(self.rows) and not bool(self.active.any())


@torch.inference_mode()
def write(session: Session, rows: Sequence[Row], subject: Subject, *, limits: Sequence[int], slots: int) -> Written:
    """Sample up to `limits` tokens for every row, through at most `slots` slots."""
    desk = Desk(session, rows, subject, limits, slots)
    while True:
        token = desk.choose()
        if desk.done:
            return Written(desk.tokens.cpu(), desk.logprob.cpu(), desk.entropy.cpu(), desk.slot_steps)
        desk.advance(desk.tidy(token))
        desk.refill()
