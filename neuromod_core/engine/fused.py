"""A faster forward pass for the common block: RMS norms, rotary embedding, grouped attention, gated MLP.

The same sites feel the same bindings as on the library's modules, on the same cache; the laws hold the two paths equal
within rounding. It is faster because projections that read the same states are one product, weights are laid out once
for the processor's matrix kernels, query heads of a group share one attention call, and nothing is decided twice.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import lru_cache

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers.cache_utils import Cache

from neuromod_core.engine.attention import Heads, Pass, in_the_open, keep_note, open_place, read_note
from neuromod_core.engine.cache import reserve
from neuromod_core.engine.session import Hidden, Readout, Session, edit_stream
from neuromod_core.engine.trunk import Trunk, trunk_of
from neuromod_core.kernel.errors import ModelError
from neuromod_core.models import LoadedModel
from neuromod_core.packs import Binding

QKV = ("self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj")
OUT = ("self_attn.o_proj",)
WIDE = ("mlp.gate_proj", "mlp.up_proj")
NARROW = ("mlp.down_proj",)
FEW = 32  # up to so many new tokens a row, attention in the open is the faster one
ROWS = 64  # the number of rows a product is laid out for; it serves any other


@dataclass(frozen=True, eq=False)
class Norm:
    """An RMS norm of the library: in float32, rounded, then weighted.  Source: Zhang & Sennrich 2019."""

    weight: Tensor
    epsilon: float

    @staticmethod
    def of(module: nn.Module) -> Norm:
        """Return the norm that a module of the library is."""
        return Norm(module.get_parameter("weight"), float(module.variance_epsilon))  # type: ignore[arg-type]

    def __call__(self, states: Tensor) -> Tensor:
        """Return normed states."""
        wide = states.float()
        scale = torch.rsqrt(wide.square().mean(-1, keepdim=True) + self.epsilon)
        return self.weight * (wide * scale).to(states.dtype)


def _lays_out(weight: Tensor) -> bool:
    """Return whether the processor's matrix kernels take weights of this kind laid out in advance."""
    if weight.device.type != "cpu" or not torch.backends.mkldnn.is_available():  # type: ignore[no-untyped-call]
        return False
    half = weight.dtype == torch.bfloat16 and torch.ops.mkldnn._is_mkldnn_bf16_supported()
    return weight.dtype == torch.float32 or bool(half)


class Projection:
    """Linear modules that read the same states, as one product: (..., inputs) -> one tensor a module."""

    def __init__(self, *modules: nn.Module) -> None:
        weights, biases = [module.weight for module in modules], [module.bias for module in modules]
        self.sizes = [len(weight) for weight in weights]  # type: ignore[arg-type]
        weight = torch.cat(weights).detach()  # type: ignore[arg-type]
        self.bias = None if biases[0] is None else torch.cat(biases).detach()  # type: ignore[arg-type]
        self.laid_out = _lays_out(weight)
        self.weight = torch.ops.mkldnn._reorder_linear_weight(weight, ROWS) if self.laid_out else weight

    def whole(self, states: Tensor, activation: str = "none") -> Tensor:
        """Return the products side by side (..., sum of outputs), through "swish" or nothing."""
        if not self.laid_out:
            product = F.linear(states, self.weight, self.bias)
            return F.silu(product) if activation == "swish" else product
        found: Tensor = torch.ops.mkldnn._linear_pointwise(states, self.weight, self.bias, activation, [], "")
        return found

    def times(self, states: Tensor, factor: Tensor) -> Tensor:
        """Return the product (..., outputs), multiplied by `factor` before it is written down."""
        if not self.laid_out:
            return F.linear(states, self.weight, self.bias) * factor
        found: Tensor = torch.ops.mkldnn._linear_pointwise.binary(states, factor, self.weight, self.bias, "mul")
        return found

    def __call__(self, states: Tensor) -> tuple[Tensor, ...]:
        """Return the products of the modules."""
        return torch.split(self.whole(states), self.sizes, dim=-1)


def _rotate(states: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Return rotated heads (rows, tokens, heads, size); cos and sin are (rows, tokens, 1, size)."""
    half = states.shape[-1] // 2
    turned = torch.cat([-states[..., half:], states[..., :half]], dim=-1)
    return states * cos + turned * sin


@dataclass(frozen=True, eq=False)
class View:
    """What queries of one pass may see, in the forms the two attention computations want.

    visible (rows, 1, queries, keys) bool.  bias (rows, 1, groups x queries, keys): 0 or minus infinity; None for few
    queries, which attend in the open.
    """

    visible: Tensor
    bias: Tensor | None


def _view(now: Pass, window: int | None, groups: int, dtype: torch.dtype) -> View:
    distance = (now.queries[:, :, None] - now.keys[:, None, :])[:, None]
    visible = (distance >= 0) & (now.keys >= 0)[:, None, None, :]
    if window is not None:
        visible &= distance < window
    visible = visible | (distance == 0)  # padding sees itself, so that no row is empty
    rows, _, queries, keys = visible.shape
    if queries <= FEW:
        return View(visible, None)
    bias = torch.zeros(visible.shape, dtype=dtype, device=visible.device).masked_fill(~visible, float("-inf"))
    return View(visible, bias[:, :, None].expand(-1, -1, groups, -1, -1).reshape(rows, 1, groups * queries, keys))


def _attend(query: Tensor, key: Tensor, value: Tensor, bias: Tensor | None, scale: float) -> Tensor:
    """Return attention outputs (rows, queries, heads, size): query heads of a group are more queries of one head."""
    rows, heads, queries, size = query.shape
    kv = key.shape[1]
    folded = query.reshape(rows, kv, heads // kv * queries, size)
    mixed = F.scaled_dot_product_attention(folded, key, value, attn_mask=bias, scale=scale)
    return mixed.reshape(rows, heads, queries, size).transpose(1, 2)


class Block:
    """One decoder block, its products laid out."""

    def __init__(self, layer: int, block: nn.Module, window: int | None) -> None:
        self.layer, self.window = layer, window
        self.norms = [Norm.of(block.get_submodule(name)) for name in ("input_layernorm", "post_attention_layernorm")]
        self.qkv, self.out, self.gate, self.up, self.narrow = (
            Projection(*(block.get_submodule(name) for name in names))
            for names in (QKV, OUT, WIDE[:1], WIDE[1:], NARROW)
        )
        attention = block.get_submodule("self_attn")
        self.size, self.scale = int(attention.head_dim), float(attention.scaling)  # type: ignore[arg-type]
        parts = dict(attention.named_children())
        self.head_norms = [Norm.of(parts[name]) for name in ("q_norm", "k_norm") if name in parts]

    def _edited(
        self, binding: Binding, names: Sequence[str], entering: Tensor, outputs: Sequence[Tensor]
    ) -> list[Tensor]:
        """Return the outputs of linear modules after the effects on them."""
        found = list(outputs)
        for number, path in enumerate(f"model.layers.{self.layer}.{name}" for name in names):
            for effect, dose in binding.modules.get(path, ()):
                found[number] = effect(path, entering, found[number], dose)
        return found

    def _heads(self, now: Pass, states: Tensor, turn: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor, Tensor]:
        """Return query, key and value of new tokens (rows, heads, tokens, size), rotated."""
        query, key, value = (
            part.view(*states.shape[:2], -1, self.size)
            for part in self._edited(now.binding, QKV, states, self.qkv(states))
        )
        if self.head_norms:
            query, key = self.head_norms[0](query), self.head_norms[1](key)
        heads = query.shape[2]
        turned = _rotate(torch.cat([query, key], dim=2), *turn).transpose(1, 2)
        query, key = turned[:, :heads], turned[:, heads:]
        if now.binding.gains is not None:
            query = query * now.binding.gains[:, self.layer, :, None, None].to(query.dtype)
        return query, key, value.transpose(1, 2)

    def _touched(self, now: Pass, heads: Heads) -> Tensor:
        """Return the attention outputs of the touched rows."""
        rows = now.binding.touched
        chosen = heads._replace(
            query=heads.query[rows], key=heads.key[rows], value=heads.value[rows], visible=heads.visible[rows]
        )
        place, note = open_place(now, self.layer), read_note(now, self.layer)
        output, note = in_the_open(chosen, place, now.binding.open, note)
        keep_note(now, self.layer, note)
        return output

    def _mixed(self, now: Pass, heads: Heads, view: View) -> Tensor:
        """Return what heads read (rows, tokens, heads, size): few queries in the open, many by the fused kernel."""
        touched = now.binding.touched
        if view.bias is None:
            place, note = open_place(now, self.layer), read_note(now, self.layer)
            output, note = in_the_open(heads, place, now.binding.open, note, touched)
            keep_note(now, self.layer, note)
            return output
        output = _attend(heads.query, heads.key, heads.value, view.bias, self.scale)
        return output.index_copy(0, touched, self._touched(now, heads)) if len(touched) else output

    def attention(self, now: Pass, states: Tensor, view: View, turn: tuple[Tensor, Tensor], cache: Cache) -> Tensor:
        """Return what the attention of this block adds (rows, tokens, width)."""
        query, key, value = self._heads(now, states, turn)
        layer = cache.layers[self.layer]
        layer.update(key, value)
        key, value = (store[:, :, : view.visible.shape[-1]] for store in layer.reserved)
        output = self._mixed(now, Heads(query, key, value, view.visible, self.scale), view)
        if now.binding.gates is not None:
            output = output * now.binding.gates[:, self.layer, None, :, None].to(output.dtype)
        flat = output.reshape(*states.shape[:2], -1)
        (added,) = self._edited(now.binding, OUT, flat, self.out(flat))
        return added

    def _inner(self, now: Pass, states: Tensor) -> Tensor:
        """Return silu(gate) x up (rows, tokens, inner width); rows with effects on the two are computed once more."""
        inner = self.up.times(states, self.gate.whole(states, "swish"))
        paths = [f"model.layers.{self.layer}.{name}" for name in WIDE]
        doses = [dose for path in paths for _, dose in now.binding.modules.get(path, ())]
        if not doses:
            return inner
        rows = torch.stack([dose != 0 for dose in doses]).any(0).nonzero()[:, 0]
        part = states[rows]
        gate, up = self._edited(now.binding.take(rows), WIDE, part, (self.gate.whole(part), self.up.whole(part)))
        return inner.index_copy(0, rows, F.silu(gate) * up)

    def mlp(self, now: Pass, states: Tensor) -> Tensor:
        """Return what the MLP of this block adds (rows, tokens, width)."""
        inner = self._inner(now, states)
        (added,) = self._edited(now.binding, NARROW, inner, self.narrow(inner))
        return added

    def __call__(self, now: Pass, entering: Tensor, view: View, turn: tuple[Tensor, Tensor], cache: Cache) -> Tensor:
        """Return the residual stream after this block, edited."""
        middle = entering + self.attention(now, self.norms[0](entering), view, turn, cache)
        leaving = middle + self.mlp(now, self.norms[1](middle))
        return edit_stream(now, self.layer, leaving, entering)


class Fused:
    """A model whose blocks are laid out. Its weights are copies: a change of the model's own is not seen."""

    def __init__(self, model: LoadedModel) -> None:
        if not model.anatomy.fused or model.network.config.hidden_act != "silu":
            raise ModelError(f"The fast forward pass does not know the blocks of {model.name}.")
        self.model = model
        self.blocks = [Block(i, block, _window(model, i)) for i, block in enumerate(model.blocks)]
        self.head = Projection(model.anatomy.find(model.network, "head"))
        self.norm = Norm.of(model.anatomy.find(model.network, "norm"))
        self.rotary: nn.Module = model.network.base_model.rotary_emb

    def states(self, now: Pass, tokens: Tensor, cache: Cache, trunk: Trunk | None) -> Tensor:
        """Return the last hidden states (rows, tokens, width) of new tokens."""
        if trunk is None:
            hidden = edit_stream(now, -1, F.embedding(tokens, self.model.word_vectors()), None)
            return self.norm(self._through(now, hidden, self.blocks, cache))
        ends = [*(stage.block for stage in trunk.stages[1:]), len(self.blocks)]
        before: Tensor | None = None
        for stage, end in zip(trunk.stages, ends, strict=True):
            lines = now.take(stage.rows)
            if before is None:
                hidden = edit_stream(lines, -1, F.embedding(tokens[stage.rows], self.model.word_vectors()), None)
            else:
                hidden = hidden[before[stage.rows]]
            hidden = self._through(lines, hidden, self.blocks[stage.block : end], cache)
            for layer in cache.layers[stage.block : end]:
                layer.lines = stage.of
            now.watched.update({layer: states[stage.of] for layer, states in lines.watched.items()})
            before = stage.of
        return self.norm(hidden)[before]

    def _through(self, now: Pass, hidden: Tensor, blocks: Sequence[Block], cache: Cache) -> Tensor:
        """Return the residual stream (rows, tokens, width) after some blocks."""
        cos, sin = self.rotary(hidden, now.queries.clamp(min=0))
        turn = cos[:, :, None], sin[:, :, None]
        groups = self.model.heads // self.model.kv_heads
        views = {window: _view(now, window, groups, hidden.dtype) for window in {block.window for block in blocks}}
        for block in blocks:
            hidden = block(now, hidden, views[block.window], turn, cache)
        return hidden

    def logits(self, hidden: Tensor) -> Tensor:
        """Return float32 logits of hidden states after the final norm."""
        return self.head.whole(hidden).float()


def _window(model: LoadedModel, layer: int) -> int | None:
    """Return how many keys back a query of this block sees; None for all."""
    config = model.network.config
    window = getattr(config, "sliding_window", None)
    kinds = getattr(config, "layer_types", None)
    sliding = kinds[layer] == "sliding_attention" if kinds else window is not None
    return int(window) if sliding and window is not None else None


@lru_cache(maxsize=1)
def fuse(model: LoadedModel) -> Fused:
    """Return the model with its products laid out; done once per model."""
    return Fused(model)


def _whole(mask: Tensor, tokens: Tensor, cache: Cache) -> Tensor:
    """Return the mask over all reserved columns when few tokens are new: what lies ahead is hidden, and contiguous
    memory is multiplied faster than its filled part alone."""
    room = cache.layers[0].capacity - mask.shape[1]
    return F.pad(mask, (0, room)) if tokens.shape[1] <= FEW and room > 0 else mask


@dataclass(frozen=True, eq=False)
class FusedSession(Session):
    """A session on the fast path."""

    fused: Fused
    path = "fused"

    def trunk(self, binding: Binding, alike: Tensor) -> Trunk | None:
        """See `Session.trunk`."""
        found = trunk_of(binding, alike, self.model.depth)
        return found if found.shares else None

    def forward(
        self,
        tokens: Tensor,
        mask: Tensor,
        *,
        pad: Tensor,
        binding: Binding,
        start: Tensor,
        cache: Cache | None,
        trunk: Trunk | None = None,
    ) -> Hidden:
        """See `Session.forward`."""
        held = reserve(self.model.depth, tokens.shape[1]) if cache is None else cache
        now = self.begin(tokens, _whole(mask, tokens, held), pad, binding, start, cache)
        now = replace(now, queries=now.keys[:, mask.shape[1] - tokens.shape[1] : mask.shape[1]])
        return Hidden(self.fused.states(now, tokens, held, trunk), now.watched)

    def read(self, hidden: Hidden) -> Readout:
        """See `Session.read`."""
        early = {layer: self.fused.logits(self.fused.norm(states)) for layer, states in hidden.watched.items()}
        return Readout(self.fused.logits(hidden.last), early)
