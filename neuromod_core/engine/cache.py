"""A key-value cache whose memory is reserved once, instead of being copied to grow by every token."""

from __future__ import annotations

import torch
from torch import Tensor
from transformers.cache_utils import Cache, DynamicLayer


class ReservedLayer(DynamicLayer):  # type: ignore[misc]
    """Keys and values of one block, (rows, kv heads, capacity, head size), of which the first `length` are filled."""

    def __init__(self, capacity: int) -> None:
        super().__init__()
        self.capacity = capacity
        self.length = 0
        self.reserved: tuple[Tensor, Tensor] | None = None

    def update(
        self, key_states: Tensor, value_states: Tensor, *args: object, **kwargs: object
    ) -> tuple[Tensor, Tensor]:
        """Append the states of new tokens; return views of all keys and values so far."""
        start, self.length = self.length, self.length + key_states.shape[-2]
        if self.reserved is None:
            self.lazy_initialization(key_states, value_states)
            room = (*key_states.shape[:-2], self.capacity)
            self.reserved = (
                key_states.new_empty((*room, key_states.shape[-1])),
                value_states.new_empty((*room, value_states.shape[-1])),
            )
        for store, states in zip(self.reserved, (key_states, value_states), strict=True):
            store[..., start : self.length, :] = states
        self.keys, self.values = (store[..., : self.length, :] for store in self.reserved)
        return self.keys, self.values

    def get_seq_length(self) -> int:
        """Return the number of tokens held."""
        return self.length


def reserve(depth: int, capacity: int) -> Cache:
    """Return an empty cache of `depth` blocks with room for `capacity` tokens a row."""
    return Cache(layers=[ReservedLayer(capacity) for _ in range(depth)])


def expand(cache: Cache, rows: Tensor, extra: int) -> Cache:
    """Return a copy of the rows at these indices (an index may repeat) with room for `extra` more tokens."""
    copy = reserve(len(cache.layers), cache.get_seq_length() + extra)
    for index, layer in enumerate(cache.layers):
        chosen = torch.as_tensor(rows, device=layer.keys.device)
        copy.layers[index].update(layer.keys.index_select(0, chosen), layer.values.index_select(0, chosen))
    return copy
