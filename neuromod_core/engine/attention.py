"""The attention function, registered with transformers together with its mask.

Rows whose attention no effect edits go through the library's own kernel, bit for bit; the others are computed once
more in plain algebra, where keys, scores and weights can be edited, and take their place. Factors on queries and on
what heads write are exactly 1 for undosed rows.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from contextvars import ContextVar
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor, nn
from transformers.cache_utils import Cache
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import AttentionMaskInterface, eager_mask, sdpa_mask
from transformers.modeling_utils import AttentionInterface

from neuromod_core.effects import Place
from neuromod_core.effects.kinds import CacheEffect, EvictionEffect, ScoreEffect, WeightEffect
from neuromod_core.packs.binding import Binding, Spans

NAMES = {"sdpa": "neuromod", "eager": "neuromod_eager"}  # by the implementation a model uses undosed
SMALLEST = -1e30  # a finite stand-in for minus infinity: a row that sees nothing (padding) stays finite
EVICTED = "evicted"


@dataclass(frozen=True, eq=False)
class Pass:
    """One forward pass: who is in the batch, where its tokens stand, and what must be remembered of it.

    start: (rows,) position of the first response token.  watched: block -> its output, for effects that read it.
    """

    binding: Binding
    queries: Tensor
    keys: Tensor
    start: Tensor
    cache: Cache | None
    watched: dict[int, Tensor]
    _spans: dict[Spans, Tensor | None]

    def take(self, rows: Tensor) -> Pass:
        """Return the pass of the rows at these indices; it watches for itself."""
        return Pass(self.binding.take(rows), self.queries[rows], self.keys[rows], self.start[rows], self.cache, {}, {})

    def place(self, layer: int, entering: Tensor | None = None) -> Place:
        """Return where all rows are, at the output of a block (-1: the embedding)."""
        binding = self.binding
        return Place(layer, self.queries, self.keys, self.start, binding.streams, binding.subject, entering)

    def span(self, span: Spans) -> Tensor | None:
        """Return (rows, queries, 1) bool: which tokens lie in a span; None when all do."""
        if span not in self._spans:
            inside = self.place(-1).inside(*span)
            self._spans[span] = None if bool(inside.all()) else inside[..., None]
        return self._spans[span]


CURRENT: ContextVar[Pass | None] = ContextVar("neuromod_pass", default=None)


class Heads(NamedTuple):
    """What an attention head computes with.

    query (n, heads, q, size), key and value (n, kv heads, k, size).  visible: (n, 1, q, k) bool.
    scale, cap: S = cap tanh(scale q k / cap), or scale q k without a cap.  sinks: (heads,) scores of no key, or None.
    """

    query: Tensor
    key: Tensor
    value: Tensor
    visible: Tensor
    scale: float
    cap: float | None = None
    sinks: Tensor | None = None


def _softmax(scores: Tensor, sinks: Tensor | None) -> Tensor:
    if sinks is None:
        return scores.softmax(-1)
    column = sinks.float().view(1, -1, 1, 1).expand(*scores.shape[:-1], 1)
    return torch.cat([scores, column], dim=-1).softmax(-1)[..., :-1]


def _evicted(heads: Heads, place: Place, binding: Binding, note: Tensor | None) -> Tensor | None:
    """Return which prompt positions are evicted, (n, kv heads, positions) bool: decided once the prompt is read."""
    effects = binding.of(EvictionEffect)
    if not effects or not bool((~place.written).any()):
        return note
    width = max(1, int(place.start.clamp(max=int(place.keys.max()) + 1).max()))
    gone = torch.zeros(*heads.key.shape[:2], width, dtype=torch.bool, device=heads.key.device)
    index = place.keys.clamp(0, width - 1)[:, None, :].expand(-1, heads.key.shape[1], -1)
    for effect, dose in effects:
        query = heads.query.float() * (
            heads.scale * heads.query.shape[-1] ** 0.5
        )  # so that q k / sqrt(size) is the score
        hidden = effect.hidden(query, heads.key.float(), heads.value.float(), dose, place)
        gone = gone | torch.zeros_like(gone, dtype=torch.int8).scatter_add(-1, index, hidden.to(torch.int8)).bool()
    return gone


def _hide(visible: Tensor, gone: Tensor | None, place: Place, groups: int) -> Tensor:
    """Return `visible` without evicted keys for queries of the response, (n, heads or 1, q, k)."""
    if gone is None or not bool(gone.any()):
        return visible
    inside = (place.keys >= 0) & (place.keys < gone.shape[-1])
    index = place.keys.clamp(0, gone.shape[-1] - 1)[:, None, :].expand(-1, gone.shape[1], -1)
    hidden = (gone.gather(-1, index) & inside[:, None, :]).repeat_interleave(groups, dim=1)
    return visible & ~(hidden[:, :, None, :] & place.written[:, None, :, None])


def _on(rows: Tensor | None, states: Tensor, edit: Callable[[Tensor], Tensor]) -> Tensor:
    """Return `states`, which are ours alone, with `edit` applied to the given rows (None: to all)."""
    if rows is None:
        return edit(states)
    states[rows] = edit(states[rows])
    return states


def _as_read(key: Tensor, value: Tensor, place: Place, binding: Binding, rows: Tensor | None) -> tuple[Tensor, Tensor]:
    """Return keys and values as effects on the cache let them be read; the cache keeps what was written."""
    if not (effects := binding.of(CacheEffect)):
        return key, value
    read = [(part if rows is None else part[rows]).float() for part in (key, value)]
    for effect, dose in effects:
        read = list(effect(read[0], read[1], dose, place))
    if rows is None:
        return read[0].to(key.dtype), read[1].to(value.dtype)
    return tuple(  # type: ignore[return-value]
        part.index_copy(0, rows, new.to(part.dtype)) for part, new in zip((key, value), read, strict=True)
    )


def in_the_open(
    heads: Heads, place: Place, binding: Binding, note: Tensor | None = None, rows: Tensor | None = None
) -> tuple[Tensor, Tensor | None]:
    """Return attention outputs (n, q, heads, size), softmax in float32, edited; and the note of evicted keys.

    rows: which of the n rows `place`, `binding` and `note` speak of; None when they speak of all.
    """
    count, kv = heads.query.shape[1], heads.key.shape[1]
    n, _, tokens, size = heads.query.shape
    key, value = _as_read(heads.key, heads.value, place, binding, rows)
    folded = (n, kv, count // kv * tokens)
    scores = (heads.query.reshape(*folded, size) @ key.transpose(-1, -2)).float().mul_(heads.scale)
    scores = scores.reshape(n, count, tokens, -1)
    if heads.cap is not None:
        scores = torch.tanh(scores / heads.cap) * heads.cap
    for scored, dose in binding.of(ScoreEffect):
        scores = _on(rows, scores, lambda part: scored(part, dose, place))  # noqa: B023 - used within this turn
    some = heads if rows is None else heads._replace(query=heads.query[rows], key=key[rows], value=value[rows])
    note = _evicted(some, place, binding, note)
    visible = heads.visible
    if note is not None:
        seen = visible.expand(-1, count, -1, -1).clone()
        visible = _on(rows, seen, lambda part: _hide(part, note, place, count // kv))
    weights = _softmax(scores.masked_fill_(~visible, SMALLEST), heads.sinks)
    for weighed, dose in binding.of(WeightEffect):
        weights = _on(rows, weights, lambda part: weighed(part, dose, place))  # noqa: B023 - used within this turn
    mixed = weights.to(value.dtype).reshape(*folded, -1) @ value
    return mixed.reshape(n, count, tokens, value.shape[-1]).transpose(1, 2), note


def open_place(now: Pass, layer: int) -> Place:
    """Return where the touched rows are."""
    rows, binding = now.binding.touched, now.binding.open
    return Place(layer, now.queries[rows], now.keys[rows], now.start[rows], binding.streams, binding.subject)


def read_note(now: Pass, layer: int) -> Tensor | None:
    """Return the note of evicted keys of the touched rows."""
    if now.cache is None or not now.binding.of(EvictionEffect):
        return None
    note = now.cache.layers[layer].notes.get(EVICTED)
    return None if note is None else note[now.binding.touched]


def keep_note(now: Pass, layer: int, note: Tensor | None) -> None:
    """Remember which keys are evicted."""
    if note is not None and now.cache is not None:
        full = note.new_zeros((now.binding.rows, *note.shape[1:]))
        now.cache.layers[layer].notes[EVICTED] = full.index_copy(0, now.binding.touched, note)


def _visible(mask: Tensor | None, rows: Tensor, total: int, place: Place) -> Tensor:
    if mask is None:
        return place.distance >= 0
    chosen = mask.expand(total, -1, -1, -1)[rows]
    return chosen if chosen.dtype == torch.bool else chosen > torch.finfo(chosen.dtype).min / 2


def _edited(now: Pass, layer: int, heads: Heads, mask: Tensor | None) -> Tensor:
    """Return outputs of the touched rows."""
    rows, place = now.binding.touched, open_place(now, layer)
    chosen = Heads(
        heads.query[rows],
        heads.key[rows],
        heads.value[rows],
        _visible(mask, rows, now.binding.rows, place),
        heads.scale,
        heads.cap,
        heads.sinks,
    )
    output, note = in_the_open(chosen, place, now.binding.open, read_note(now, layer))
    keep_note(now, layer, note)
    return output


def _own_eager(module: nn.Module) -> Callable[..., tuple[Tensor, object]]:
    """Return the eager attention of the architecture that `module` belongs to, as the library would choose it."""
    found: Callable[..., tuple[Tensor, object]] = sys.modules[type(module).__module__].eager_attention_forward
    return found


def _attend(
    native: Callable[..., tuple[Tensor, object]],
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    scaling: float | None = None,
    **kwargs: object,
) -> tuple[Tensor, None]:
    now = CURRENT.get()
    layer = int(module.layer_idx)  # type: ignore[arg-type]
    if now is not None and now.binding.gains is not None:
        query = query * now.binding.gains[:, layer, :, None, None].to(query)
    output, _ = native(module, query, key, value, attention_mask, scaling=scaling, **kwargs)
    if now is None:
        return output, None
    if len(now.binding.touched):
        scale = query.shape[-1] ** -0.5 if scaling is None else scaling
        cap, sinks = kwargs.get("softcap"), kwargs.get("s_aux")
        home = now.queries.device  # a model spread over several GPUs has blocks elsewhere
        heads = Heads(
            query.to(home),
            key.to(home),
            value.to(home),
            query.new_empty(0),
            scale,
            cap,  # type: ignore[arg-type]
            None if sinks is None else sinks.to(home),  # type: ignore[attr-defined]
        )
        edited = _edited(now, layer, heads, None if attention_mask is None else attention_mask.to(home))
        output = output.index_copy(0, now.binding.touched.to(output.device), edited.to(output))
    if now.binding.gates is not None:
        output = output * now.binding.gates[:, layer, None, :, None].to(output)
    return output, None


def attend(module: nn.Module, *states: Tensor | None, **kwargs: object) -> tuple[Tensor, None]:
    """Attend under the current pass; outside a pass this is the library's fused attention.

    query (rows, heads, queries, size), key and value (rows, kv heads, keys, size), mask bool (True: attend) or None
    (causal). Returns (rows, queries, heads, size).
    """
    return _attend(sdpa_attention_forward, module, *states, **kwargs)  # type: ignore[arg-type]


def attend_eager(module: nn.Module, *states: Tensor | None, **kwargs: object) -> tuple[Tensor, None]:
    """Attend as `attend` does, for architectures the library itself computes in the open (score caps, sinks)."""
    return _attend(_own_eager(module), module, *states, **kwargs)  # type: ignore[arg-type]


AttentionInterface.register(NAMES["sdpa"], attend)
AttentionMaskInterface.register(NAMES["sdpa"], sdpa_mask)
AttentionInterface.register(NAMES["eager"], attend_eager)
AttentionMaskInterface.register(NAMES["eager"], eager_mask)
