"""The context in which a model is dosed. Leaving it restores the model bit for bit, also after an exception."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from transformers.cache_utils import Cache

from neuromod_core.engine.attention import CURRENT, NAME, Pass
from neuromod_core.models import LoadedModel
from neuromod_core.packs import Binding
from neuromod_core.packs.binding import Phase

States = Tensor | tuple[Tensor, ...]


@dataclass(frozen=True, eq=False)
class Session:
    """A model that feels bindings: every forward pass names the rows' binding and where its tokens stand."""

    model: LoadedModel

    def forward(
        self, tokens: Tensor, mask: Tensor, *, pad: Tensor, binding: Binding, phase: Phase, cache: Cache
    ) -> Tensor:
        """Return last hidden states (rows, tokens, width) of new `tokens`, whose keys are appended to `cache`.

        mask: (rows, keys) 1 for real tokens, over all keys so far.  pad: (rows,) tokens of left padding.
        """
        slots = mask.shape[1]
        keys = torch.arange(slots, device=mask.device)[None, :] - pad[:, None]
        queries = keys[:, slots - tokens.shape[1] :]
        token = CURRENT.set(Pass(binding=binding, queries=queries, keys=keys, phase=phase))
        try:
            return self.model.hidden(tokens, mask, queries.clamp(min=0), cache)
        finally:
            CURRENT.reset(token)


def _edit_output(layer: int) -> Callable[[nn.Module, object, States], States | None]:
    """Return a forward hook that edits the output of block `layer` (-1: the embedding) as the current pass says."""

    def hook(_module: nn.Module, _inputs: object, output: States) -> States | None:
        now = CURRENT.get()
        if now is None:
            return None
        shift, edits = now.binding.shifts[now.phase].get(layer), now.binding.edits.get(layer, ())
        if shift is None and not edits:
            return None
        hidden = output[0] if isinstance(output, tuple) else output
        if shift is not None:
            hidden = hidden + shift[:, None, :].to(hidden.dtype)
        for effect, dose in edits:
            hidden = effect(hidden, dose, now.place(layer))
        return (hidden, *output[1:]) if isinstance(output, tuple) else hidden

    return hook


@contextmanager
def dosed(model: LoadedModel) -> Iterator[Session]:
    """Attach the engine to `model` for the duration of a `with`: hooks on blocks and embedding, one attention function.

    Nothing is patched or replaced: leaving removes the hooks and the attention function's name.
    """
    before = model.network.config._attn_implementation
    with ExitStack() as undo:
        undo.callback(model.network.set_attn_implementation, before)
        model.network.set_attn_implementation(NAME)
        for layer, module in enumerate((model.embedding, *model.blocks), start=-1):
            undo.callback(module.register_forward_hook(_edit_output(layer)).remove)
        yield Session(model)
