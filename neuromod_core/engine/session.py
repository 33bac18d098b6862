"""A model that feels bindings: forward passes on the library's own modules, with hooks that edit what they leave."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from torch import Tensor, nn
from transformers.cache_utils import Cache

from neuromod_core.effects.kinds import RouterEffect
from neuromod_core.engine.attention import CURRENT, Pass
from neuromod_core.engine.trunk import Trunk
from neuromod_core.models import LoadedModel
from neuromod_core.models.routing import route
from neuromod_core.packs import Binding

Path = Literal["library", "fused"]
States = Tensor | tuple[Tensor, ...]
Inputs = tuple[object, ...]
ROUTED = "routed"
UNWRITTEN = 2**31  # a start of the response that no position reaches: everything is read


@dataclass(frozen=True, eq=False)
class Hidden:
    """States that a forward pass left: the last ones after the final norm, and the outputs of watched blocks."""

    last: Tensor
    watched: Mapping[int, Tensor]

    def at(self, *index: Tensor | slice | int) -> Hidden:
        """Return the states at these (row, token) indices."""
        return Hidden(self.last[index], {layer: states[index] for layer, states in self.watched.items()})

    def filled(self, rows: int) -> Hidden:
        """Return empty states of `rows` rows, shaped like these."""
        blank = {layer: states.new_zeros((rows, *states.shape[1:])) for layer, states in self.watched.items()}
        return Hidden(self.last.new_zeros((rows, *self.last.shape[1:])), blank)

    def put(self, slots: Tensor, new: Hidden) -> Hidden:
        """Return these states with those of `new` in the rows `slots`."""
        watched = {layer: states.index_copy(0, slots, new.watched[layer]) for layer, states in self.watched.items()}
        return Hidden(self.last.index_copy(0, slots, new.last), watched)


@dataclass(frozen=True, eq=False)
class Readout:
    """Next-token logits (..., vocabulary), float32: the model's, and those read off watched blocks."""

    logits: Tensor
    early: Mapping[int, Tensor]

    def at(self, *index: Tensor | slice | int) -> Readout:
        """Return the logits at these indices."""
        return Readout(self.logits[index], {layer: logits[index] for layer, logits in self.early.items()})


@dataclass(frozen=True, eq=False)
class Session:
    """A model that feels bindings: every forward pass names the rows' binding and where its tokens stand."""

    model: LoadedModel
    path: ClassVar[Path] = "library"

    def trunk(self, binding: Binding, alike: Tensor) -> Trunk | None:
        """Return what rows share that read the same tokens, `alike` (rows,); None: the library computes every row."""
        return None

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
        """Return the states of new `tokens` (rows, width), whose keys are appended to `cache`.

        mask: (rows, keys) 1 for real tokens, over all keys so far.  pad: (rows,) tokens of left padding.
        start: (rows,) position of the first token of the response; `UNWRITTEN` where there is none.
        trunk: what `trunk` gave for these rows; the same in every pass on a cache.
        """
        now = self.begin(tokens, mask, pad, binding, start, cache)
        with ExitStack() as undo:
            undo.callback(CURRENT.reset, CURRENT.set(now))
            for path in binding.modules:
                hook = self.model.network.get_submodule(path).register_forward_hook(_on_linear(path))
                undo.callback(hook.remove)
            return Hidden(self.model.hidden(tokens, mask, now.queries.clamp(min=0), cache), now.watched)

    @staticmethod
    def begin(tokens: Tensor, mask: Tensor, pad: Tensor, binding: Binding, start: Tensor, cache: Cache | None) -> Pass:
        """Return the pass that `forward` is asked for."""
        keys = torch.arange(mask.shape[1], device=mask.device)[None, :] - pad[:, None]
        return Pass(binding, keys[:, mask.shape[1] - tokens.shape[1] :], keys, start, cache, {}, {})

    def read(self, hidden: Hidden) -> Readout:
        """Return the next-token logits after these states."""
        early = {layer: self.model.early_logits(states) for layer, states in hidden.watched.items()}
        return Readout(self.model.logits(hidden.last), early)


def _first(states: States) -> Tensor:
    return states[0] if isinstance(states, tuple) else states


def _entering(inputs: Inputs, named: Mapping[str, object]) -> Tensor:
    found = inputs[0] if inputs else named["hidden_states"]
    if not isinstance(found, Tensor):
        raise TypeError("a block was called without hidden states")
    return found


def edit_stream(now: Pass, layer: int, hidden: Tensor, entering: Tensor | None) -> Tensor:
    """Return the residual stream (rows, tokens, width) at the output of block `layer` (-1: the embedding), edited.

    It is edited where the rows' doses are, and goes back to its block's device: blocks may lie on several GPUs.
    """
    there, home = hidden.device, now.queries.device
    hidden, entering = hidden.to(home), None if entering is None else entering.to(home)
    for span, table in now.binding.shifts.get(layer, ()):
        added, inside = table[:, None, :].to(hidden.dtype), now.span(span)
        hidden = hidden + added if inside is None else torch.where(inside, hidden + added, hidden)
    for effect, dose in now.binding.edits.get(layer, ()):
        hidden = effect(hidden, dose, now.place(layer, entering))
    if layer in now.binding.watched:
        now.watched[layer] = hidden
    return hidden.to(there)


def on_block(layer: int) -> Callable[[nn.Module, Inputs, Mapping[str, object], States], States | None]:
    """Return a forward hook that edits the output of block `layer` (-1: the embedding) as the current pass says."""

    def hook(_module: nn.Module, inputs: Inputs, named: Mapping[str, object], output: States) -> States | None:
        now = CURRENT.get()
        if now is None:
            return None
        binding = now.binding
        if layer not in binding.shifts and layer not in binding.edits and layer not in binding.watched:
            return None
        hidden = edit_stream(now, layer, _first(output), None if layer < 0 else _entering(inputs, named))
        return (hidden, *output[1:]) if isinstance(output, tuple) else hidden

    return hook


def _before(now: Pass, layer: int, logits: Tensor) -> Tensor:
    """Return the router logits of the token before each, (rows, tokens, experts); remember those of the last."""
    notes = {} if now.cache is None else now.cache.layers[layer].notes
    earlier = notes.get(ROUTED, logits[:, 0])
    before = torch.cat([earlier[:, None], logits[:, :-1]], dim=1)
    notes[ROUTED] = logits[:, -1].clone()
    return torch.where((now.queries == 0)[..., None], logits, before)


def on_router(layer: int, model: LoadedModel) -> Callable[[nn.Module, Inputs, tuple[Tensor, ...]], object]:
    """Return a forward hook that edits router logits and routes anew; undosed rows keep their route bit for bit."""

    def hook(_module: nn.Module, _inputs: Inputs, output: tuple[Tensor, ...]) -> tuple[Tensor, ...] | None:
        now = CURRENT.get()
        if now is None or not (effects := now.binding.of(RouterEffect)):
            return None
        there, home = output[0].device, now.queries.device
        flat, scores, indices = (part.to(home) for part in output)
        raw = flat.view(*now.queries.shape, -1)
        before, logits = _before(now, layer, raw), raw
        for effect, dose in effects:
            logits = effect(logits, before, dose, now.place(layer))
        chosen = route(logits.reshape(flat.shape), model.network.config)
        dosed_rows = torch.stack([dose != 0 for _, dose in effects]).any(0)
        edited = dosed_rows[:, None].expand(now.queries.shape).reshape(-1, 1)
        found = torch.where(edited, chosen.scores, scores), torch.where(edited, chosen.indices, indices)
        return output[0], *(part.to(there) for part in found)

    return hook


def _on_linear(path: str) -> Callable[[nn.Module, Inputs, Tensor], Tensor | None]:
    """Return a forward hook that edits the output of the linear module at `path` as the current pass says."""

    def hook(_module: nn.Module, inputs: Inputs, output: Tensor) -> Tensor | None:
        if (now := CURRENT.get()) is None:
            return None
        there, home = output.device, now.queries.device
        entering, output = _entering(inputs, {}).to(home), output.to(home)
        for effect, dose in now.binding.modules[path]:
            output = effect(path, entering, output, dose)
        return output.to(there)

    return hook
