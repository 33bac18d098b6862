"""A batch row, and left padding: where the tokens of ragged prompts stand."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from neuromod_core.effects import Stream
from neuromod_core.kernel.errors import DataError
from neuromod_core.packs import Pack


@dataclass(frozen=True)
class Row:
    """One row of a batch: what the model reads, what it receives, and the randomness it owns."""

    prompt: tuple[int, ...]
    pack: Pack
    stream: Stream

    def __post_init__(self) -> None:
        if not self.prompt:
            raise DataError("A row has an empty prompt; the tokenizer gave no token for its text.")


class Padded(NamedTuple):
    """Ragged token lists as one tensor.

    tokens (rows, width) and mask (rows, width; 1 for real tokens); pad (rows,) tokens of left padding.
    """

    tokens: Tensor
    mask: Tensor
    pad: Tensor


def pad_left(sequences: Sequence[Sequence[int]], device: torch.device) -> Padded:
    """Return `sequences` aligned at their ends."""
    width = max(len(sequence) for sequence in sequences)
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
