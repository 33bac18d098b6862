"""What effects read off the model and its tokenizer, read once per model. Knows nothing of doses."""

from __future__ import annotations

from collections.abc import Callable, Hashable
from typing import TypeVar
from weakref import WeakKeyDictionary

import torch
from torch import Tensor

from neuromod_core.effects.subject import Reader

T = TypeVar("T")
_READ: WeakKeyDictionary[Reader, dict[Hashable, object]] = WeakKeyDictionary()


def once(reader: Reader, key: Hashable, read: Callable[[], T]) -> T:
    """Return read(), remembered under `key` for as long as the reader lives."""
    known = _READ.setdefault(reader, {})
    if key not in known:
        known[key] = read()
    return known[key]  # type: ignore[return-value]


def tokens_of(reader: Reader, text: str) -> tuple[int, ...]:
    """Return the tokens of a text."""
    return once(reader, ("tokens", text), lambda: reader.encode(text))


def lexical(reader: Reader) -> Tensor:
    """Return what a token is, (vocabulary,) int: 1 a word after a space, 2 a beginning or continuation, 0 neither."""

    def read() -> Tensor:
        word, continuation = reader.token_class("word").cpu(), reader.token_class("continuation").cpu()
        return torch.where(word, 1, torch.where(continuation, 2, 0))

    return once(reader, "lexical", read)


def nameless(reader: Reader) -> Tensor:
    """Return which tokens belong to no class, (vocabulary,) bool: special tokens and those without a text."""

    def read() -> Tensor:
        names = ("capital", "continuation", "digit", "punctuation", "space", "word")
        return ~torch.stack([reader.token_class(name).cpu() for name in names]).any(0)

    return once(reader, "nameless", read)
