"""The one attention function, registered with transformers under one name together with its mask.

Rows that no score effect touches go through the library's own kernel, bit for bit; the rows that are touched are
computed once more in plain algebra, where raw scores can be edited, and take their place. Factors on queries and head
outputs are exactly 1 for undosed rows.
"""

from __future__ import annotations

from contextvars import ContextVar
from dataclasses import dataclass, field

from torch import Tensor, nn
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import AttentionMaskInterface, sdpa_mask
from transformers.modeling_utils import AttentionInterface

from neuromod_core.effects import Place
from neuromod_core.packs.binding import Binding, Phase

NAME = "neuromod"
SMALLEST = -1e30  # a finite stand-in for minus infinity: a row that sees nothing (padding) stays finite


@dataclass(frozen=True, eq=False)
class Pass:
    """One forward pass: who is in the batch, where its tokens stand, and whether they are read or written."""

    binding: Binding
    queries: Tensor
    keys: Tensor
    phase: Phase
    touched: Tensor = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "touched", self.binding.scored_rows.to(self.queries.device))

    def place(self, layer: int) -> Place:
        """Return where all rows are, at the output of a block (-1: the embedding)."""
        binding = self.binding
        return Place(layer, self.queries, self.keys, binding.streams, self.phase, binding.subject)


CURRENT: ContextVar[Pass | None] = ContextVar("neuromod_pass", default=None)


def _algebra(
    query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None, scale: float, place: Place, now: Pass
) -> Tensor:
    """Return attention outputs (n, queries, heads, size) of the touched rows, in explicit float32 algebra."""
    rows, heads, tokens, size = query.shape
    groups = heads // key.shape[1]
    grouped = query.float().reshape(rows, key.shape[1], groups * tokens, size)
    scores = (grouped @ key.float().transpose(-1, -2) * scale).reshape(rows, heads, tokens, -1)
    for effect, dose in now.binding.scores:
        scores = effect(scores, dose[now.touched], place)
    visible = place.distance >= 0 if mask is None else mask
    weights = scores.masked_fill(~visible, float("-inf")).clamp(min=SMALLEST).softmax(-1)
    mixed = weights.reshape(rows, key.shape[1], groups * tokens, -1) @ value.float()
    return mixed.reshape(rows, heads, tokens, size).transpose(1, 2).to(query.dtype)


def _edited(
    query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None, scale: float, layer: int, now: Pass
) -> Tensor:
    """Return outputs of the rows whose scores are edited."""
    rows = now.touched
    streams = tuple(now.binding.streams[row] for row in rows.tolist())
    place = Place(layer, now.queries[rows], now.keys[rows], streams, now.phase, now.binding.subject)
    chosen = None if mask is None else mask.expand(query.shape[0], -1, -1, -1)[rows]
    return _algebra(query[rows], key[rows], value[rows], chosen, scale, place, now)


def attend(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    dropout: float = 0.0,
    scaling: float | None = None,
    **kwargs: object,
) -> tuple[Tensor, None]:
    """Attend under the current pass; outside a pass this is the library's own attention.

    query (rows, heads, queries, size), key and value (rows, kv heads, keys, size), mask bool (True: attend) or None
    (causal). Returns (rows, queries, heads, size).
    """
    now = CURRENT.get()
    layer = int(module.layer_idx)  # type: ignore[arg-type]
    if now is not None and now.binding.gains is not None:
        query = query * now.binding.gains[:, layer, :, None, None].to(query.dtype)
    output, _ = sdpa_attention_forward(
        module, query, key, value, attention_mask, dropout=dropout, scaling=scaling, **kwargs
    )
    if now is None:
        return output, None
    if len(now.touched):
        scale = query.shape[-1] ** -0.5 if scaling is None else scaling
        output = output.index_copy(0, now.touched, _edited(query, key, value, attention_mask, scale, layer, now))
    if now.binding.gates is not None:
        output = output * now.binding.gates[:, layer, None, :, None].to(output.dtype)
    return output, None


AttentionInterface.register(NAME, attend)
AttentionMaskInterface.register(NAME, sdpa_mask)
