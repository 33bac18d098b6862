"""A key-value cache whose memory is reserved once, instead of being copied to grow by every token."""

from __future__ import annotations

import math
import mmap
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor
from transformers.cache_utils import Cache, DynamicLayer

from neuromod_core.engine.trunk import Trunk


def _room(states: Tensor, capacity: int, *, grows: bool) -> Tensor:
    """Return zeros (rows, kv heads, capacity, size) for states like these; columns ahead are read, with weight 0.

    What grows is given pages of its own, outside the heap of the processor: it leaves no holes behind, and columns that
    were never written take no memory.
    """
    shape = (*states.shape[:-2], capacity, states.shape[-1])
    size = math.prod(shape) * states.element_size()
    if not grows or states.device.type != "cpu" or not size:
        return states.new_zeros(shape)
    return torch.frombuffer(mmap.mmap(-1, size), dtype=states.dtype).view(shape)


class ReservedLayer(DynamicLayer):  # type: ignore[misc]
    """Keys and values of one block, (rows, kv heads, capacity, head size), of which the first `length` are filled.

    grows: whether it will be replaced by larger ones.
    lines: (rows of the batch,) which line here holds each of them; None when each has its own (see `engine/trunk.py`).
    notes: what effects must remember of the text so far (router logits of the last token, evicted keys), rows first.
    """

    def __init__(self, capacity: int, *, grows: bool = False) -> None:
        super().__init__()
        self.capacity, self.grows = capacity, grows
        self.length = 0
        self.reserved: tuple[Tensor, Tensor] | None = None
        self.lines: Tensor | None = None
        self.notes: dict[str, Tensor] = {}

    def update(
        self, key_states: Tensor, value_states: Tensor, *args: object, **kwargs: object
    ) -> tuple[Tensor, Tensor]:
        """Append the states of new tokens; return views of all keys and values so far."""
        start, self.length = self.length, self.length + key_states.shape[-2]
        if self.reserved is None:
            self.lazy_initialization(key_states, value_states)
            key, value = (_room(states, self.capacity, grows=self.grows) for states in (key_states, value_states))
            self.reserved = (key, value)
        for store, states in zip(self.reserved, (key_states, value_states), strict=True):
            store[..., start : self.length, :] = states
        self.keys, self.values = (store[..., : self.length, :] for store in self.reserved)
        return self.keys, self.values

    def get_seq_length(self) -> int:
        """Return the number of tokens held."""
        return self.length


def reserve(depth: int, capacity: int, *, grows: bool = False) -> Cache:
    """Return an empty cache of `depth` blocks with room for `capacity` tokens a row; `grows`: until it is replaced."""
    return Cache(layers=[ReservedLayer(capacity, grows=grows) for _ in range(depth)])


@dataclass(frozen=True, eq=False)
class Mark:
    """How much of a cache is filled, and what its blocks remember."""

    length: int
    notes: tuple[dict[str, Tensor], ...]


def mark(cache: Cache) -> Mark:
    """Return where a cache stands, to come back to by `rewind`."""
    return Mark(cache.get_seq_length(), tuple(dict(layer.notes) for layer in cache.layers))


def rewind(cache: Cache, to: Mark) -> None:
    """Forget every token read since `to`, so that another continuation can be read in its place without a copy."""
    for layer, notes in zip(cache.layers, to.notes, strict=True):
        layer.length, layer.notes = to.length, dict(notes)


def expand(cache: Cache, rows: Tensor, extra: int, trunk: Trunk | None = None) -> Cache:
    """Return a copy of the rows at these indices (an index may repeat) with room for `extra` more tokens.

    trunk: which lines the copy is to hold, where not every row is to have its own.
    """
    copy = reserve(len(cache.layers), cache.get_seq_length() + extra)
    for number, (old, new) in enumerate(zip(cache.layers, copy.layers, strict=True)):
        wanted = rows if trunk is None else rows[trunk.at(number).rows]
        chosen = (wanted if old.lines is None else old.lines[wanted]).to(old.keys.device)
        new.update(old.keys.index_select(0, chosen), old.values.index_select(0, chosen))
        new.notes = {name: note.index_select(0, chosen) for name, note in old.notes.items()}
    return copy


def like(cache: Cache, rows: int, length: int, capacity: int) -> Cache:
    """Return a cache of `rows` rows with heads as in `cache`: `length` columns of it count as held, and are empty."""
    empty = reserve(len(cache.layers), capacity, grows=True)
    for old, new in zip(cache.layers, empty.layers, strict=True):
        shape = (rows, old.keys.shape[1], length)
        new.update(
            old.keys.new_zeros((*shape, old.keys.shape[-1])), old.values.new_zeros((*shape, old.values.shape[-1]))
        )
    return empty


def seat(cache: Cache, slots: Tensor, other: Cache, owner: Tensor) -> None:
    """Put row `owner[i]` of `other` into slot `slots[i]`, their ends aligned with the end of what `cache` holds.

    Columns before a row's own are left as they are; its mask hides them.
    """
    end, width = cache.get_seq_length(), other.get_seq_length()
    for layer, new in zip(cache.layers, other.layers, strict=True):
        for store, states in zip(layer.reserved, (new.keys, new.values), strict=True):
            store[slots, :, end - width : end] = states[owner]
        for name, note in new.notes.items():
            layer.notes[name] = _seated(layer.notes.get(name), slots, note[owner], len(layer.keys))


def _seated(note: Tensor | None, slots: Tensor, new: Tensor, rows: int) -> Tensor:
    """Return the note with the lines of `new` at these slots; the shorter of the two is filled up with zeros."""
    old = new.new_zeros((rows, *new.shape[1:])) if note is None else note
    width = max(old.shape[-1], new.shape[-1])
    old, new = (F.pad(part, (0, width - part.shape[-1])) for part in (old, new))
    return old.index_copy(0, slots, new)


def keep(cache: Cache, rows: Tensor, first: int, capacity: int) -> Cache:
    """Return the rows at these (rising) indices without their first `first` columns, with room for `capacity` tokens.

    `cache` is used up: each layer is let go as soon as it is copied, so that two whole caches are never held.
    """
    kept = reserve(len(cache.layers), capacity, grows=True)
    for number, new in enumerate(kept.layers):
        old = cache.layers[number]
        whole = len(rows) == len(old.keys)
        parts = (states[:, :, first:] for states in (old.keys, old.values))
        new.update(*(part if whole else part.index_select(0, rows) for part in parts))
        new.notes = old.notes if whole else {name: note.index_select(0, rows) for name, note in old.notes.items()}
        cache.layers[number] = ReservedLayer(0)
    return kept
