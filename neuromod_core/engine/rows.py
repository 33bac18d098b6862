"""A batch row, and padding: where the tokens of ragged prompts stand."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from neuromod_core.effects import Stream, Subject
from neuromod_core.effects.kinds import PromptEffect
from neuromod_core.kernel.errors import DataError
from neuromod_core.packs import Pack


@dataclass(frozen=True)
class Row:
    """One row of a batch: what the model is given to read, what it receives, and the randomness it owns."""

    prompt: tuple[int, ...]
    pack: Pack
    stream: Stream

    def __post_init__(self) -> None:
        if not self.prompt:
            raise DataError("A row has an empty prompt; the tokenizer gave no token for its text.")

    def reads(self, subject: Subject) -> tuple[int, ...]:
        """Return the prompt as the row reads it: after the pack's effects on prompt tokens, in stage order."""
        effects = [(item.effect, item.dose) for item in self.pack.effects if isinstance(item.effect, PromptEffect)]
        prompt = self.prompt
        for effect, dose in sorted(effects, key=lambda pair: (pair[0].stage, repr(pair[0]))):
            effect.check(subject)
            prompt = effect(prompt, dose, self.stream, subject)
        return prompt


def distinct(rows: Sequence[Row], prompts: Sequence[tuple[int, ...]]) -> tuple[list[int], list[int]]:
    """Return (first, follows): the numbers of rows whose forward passes differ, and which of them each row follows.

    Rows differ in what they read, in effects on the forward pass, and in their stream where such an effect draws.
    """
    found: dict[tuple[object, ...], int] = {}
    first: list[int] = []
    follows: list[int] = []
    for number, (row, prompt) in enumerate(zip(rows, prompts, strict=True)):
        effects = tuple(sorted((repr(item.effect), item.dose) for item in row.pack.forward_effects))
        drawn = any(item.effect.stochastic for item in row.pack.forward_effects)
        key = (prompt, effects, row.stream if drawn else None)
        if key not in found:
            found[key] = len(first)
            first.append(number)
        follows.append(found[key])
    return first, follows


class Padded(NamedTuple):
    """Ragged token lists as one tensor.

    tokens (rows, width) and mask (rows, width; 1 for real tokens); pad (rows,) tokens of left padding.
    """

    tokens: Tensor
    mask: Tensor
    pad: Tensor

    @property
    def known(self) -> Tensor:
        """The tokens, -1 where there is padding."""
        return torch.where(self.mask.bool(), self.tokens, -1)

    @property
    def lengths(self) -> Tensor:
        """(rows,) number of real tokens."""
        return self.mask.sum(-1)


def pad_left(sequences: Sequence[Sequence[int]], device: torch.device, width: int = 0) -> Padded:
    """Return `sequences` aligned at their ends, at least `width` wide."""
    width = max(width, *(len(sequence) for sequence in sequences))
    pad = torch.tensor([width - len(sequence) for sequence in sequences])
    tokens = torch.tensor([[0] * (width - len(sequence)) + list(sequence) for sequence in sequences])
    mask = (torch.arange(width)[None, :] >= pad[:, None]).long()
    return Padded(tokens.to(device), mask.to(device), pad.to(device))


def pad_right(sequences: Sequence[Sequence[int]], device: torch.device) -> Padded:
    """Return `sequences` aligned at their starts; `pad` is 0."""
    width = max(len(sequence) for sequence in sequences)
    length = torch.tensor([len(sequence) for sequence in sequences])
    tokens = torch.tensor([list(sequence) + [0] * (width - len(sequence)) for sequence in sequences])
    mask = (torch.arange(width)[None, :] < length[:, None]).long()
    return Padded(tokens.to(device), mask.to(device), torch.zeros_like(length).to(device))
