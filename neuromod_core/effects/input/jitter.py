"""Words of the prompt that are read as near neighbours of themselves."""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from neuromod_core.effects.base import EFFECTS, in_range
from neuromod_core.effects.input.reading import lexical, nameless, once
from neuromod_core.effects.kinds import PromptEffect
from neuromod_core.effects.subject import Reader, Stream, Subject, uniforms
from neuromod_core.kernel.errors import NotOnThisModel


def _nearest(reader: Reader, token: int, count: int) -> Tensor:
    """Return the `count` tokens of the same class nearest to `token` by cosine of embeddings, nearest first."""

    def read() -> Tensor:
        vectors = F.normalize(reader.word_vectors().float(), dim=-1)
        near = (vectors @ vectors[token]).cpu()
        kind = lexical(reader)
        near = near.masked_fill(kind != kind[token], float("-inf"))
        near[token] = float("-inf")
        return near.topk(count).indices

    return once(reader, ("nearest", token, count), read)


@EFFECTS.add("lexical_jitter")
@dataclass(frozen=True, kw_only=True)
class LexicalJitter(PromptEffect):
    """Misread words of the prompt: token i becomes its neighbour number floor(neighbours u'_i) where  u_i < rate d,
    u_i, u'_i ~ U(0, 1) = draws of the row at position i.

    Neighbours are the tokens of nearest embedding (cosine) among those of the same class, a word after a space or a
    piece of one. Marks, digits, spaces and special tokens stay, and so does the name of a role, which follows a special
    token. What a larger dose misreads includes what a smaller one does, in the same way.
    Source: Neuromod methodology; nearest-embedding substitution: Alzantot et al. 2018.
    """

    rate: float = 0.3
    neighbours: int = 8
    doses = (0.0, 2.0)
    observable, moves = "misread_tokens", 1
    stochastic = True

    def __post_init__(self) -> None:
        in_range(self.rate, 0.01, 0.5, "lexical_jitter: rate")
        in_range(self.neighbours, 1, 1000, "lexical_jitter: neighbours (tokens)")

    def check(self, subject: Subject) -> None:
        """Raise NotOnThisModel without a tokenizer, or when it has too few words to be neighbours."""
        kind = lexical(subject.reading())
        counts = [count for count in ((kind == 1).sum(), (kind == 2).sum()) if count > 0]
        if not counts or min(counts) <= self.neighbours:
            raise NotOnThisModel(f"lexical_jitter: {subject.name} has too few words for {self.neighbours} neighbours.")

    def edit(self, prompt: tuple[int, ...], dose: float, stream: Stream, subject: Subject) -> tuple[int, ...]:
        """See `PromptEffect.edit`."""
        reader, tokens = subject.reading(), torch.tensor(prompt)
        unit, which = uniforms((stream,), "lexical_jitter", torch.arange(len(prompt))[None], 2)[0].unbind(-1)
        role = F.pad(nameless(reader)[tokens][:-1], (1, 0), value=False)
        chosen = (unit < self.rate * dose) & (lexical(reader)[tokens] > 0) & ~role
        rank = (which * self.neighbours).long()
        places = chosen.nonzero()[:, 0].tolist()
        misread = {place: int(_nearest(reader, prompt[place], self.neighbours)[rank[place]]) for place in places}
        return tuple(misread.get(place, token) for place, token in enumerate(prompt))
