"""What attention heads write: the linear maps from the residual stream through every head and back, and copying scores.

The maps are read off the model by what it does, not by where an architecture keeps its weights: every block is given
the axes of the residual stream, and every attention module the axes of its heads' outputs. Fused projections, shared
values and gains of norms need no case of their own.

Source: Elhage et al. 2021 (OV circuits); Olsson et al. 2022.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from contextvars import ContextVar
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from transformers.masking_utils import AttentionMaskInterface, eager_mask, sdpa_mask
from transformers.modeling_utils import AttentionInterface

from neuromod_core.engine.attention import attend, attend_eager
from neuromod_core.kernel.errors import NotOnThisModel
from neuromod_core.models import LoadedModel

Tap = Callable[[nn.Module, Tensor, Tensor], Tensor]
TAP: ContextVar[Tap | None] = ContextVar("neuromod_tap", default=None)
TAPPED = {"sdpa": "neuromod_tap", "eager": "neuromod_tap_eager"}


def _tapped(attention: Callable[..., tuple[Tensor, None]]) -> Callable[..., tuple[Tensor, None]]:
    def attended(
        module: nn.Module, query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None, **kwargs: object
    ) -> tuple[Tensor, None]:
        output, _ = attention(module, query, key, value, mask, **kwargs)
        tap = TAP.get()
        return (output if tap is None else tap(module, value, output)), None

    return attended


for _name, _attention, _mask in (("sdpa", attend, sdpa_mask), ("eager", attend_eager, eager_mask)):
    AttentionInterface.register(TAPPED[_name], _tapped(_attention))
    AttentionMaskInterface.register(TAPPED[_name], _mask)


@contextmanager
def tapped(model: LoadedModel, tap: Tap) -> Iterator[None]:
    """Let `tap` see, and give back, what the heads of every block write, for the duration of a `with`.

    tap: (attention module, values (rows, kv heads, keys, size), outputs (rows, queries, heads, size)) -> outputs.

    Raises:
        NotOnThisModel: where attention does not go through the attention interface.
    """
    if not model.anatomy.attention:
        raise NotOnThisModel(
            f"What the heads of {model.name} write is out of reach: {model.network.config.model_type!r} models do not "
            "use the attention interface of transformers."
        )
    before = model.network.config._attn_implementation
    with ExitStack() as undo:
        undo.callback(model.network.set_attn_implementation, before)
        model.network.set_attn_implementation(TAPPED["sdpa" if before == "sdpa" else "eager"])
        undo.callback(TAP.reset, TAP.set(tap))
        yield


@dataclass(frozen=True, eq=False)
class Circuits:
    """The linear maps of every head, as the model itself computes them.

    reads: (depth, kv heads, width, size), input norm to value.  writes: (depth, heads, size, width), head to residual
    stream. Gains of norms are folded in, and the centring of layer norms; biases, which no token changes, are left out,
    and so is the factor by which a norm scales a token.
    """

    reads: Tensor
    writes: Tensor

    def of(self, layer: int) -> tuple[Tensor, Tensor]:
        """Return reads (heads, width, size) and writes (heads, size, width) of the query heads of a block."""
        writes, reads = self.writes[layer], self.reads[layer]
        return reads.repeat_interleave(len(writes) // len(reads), dim=0), writes


def _one_token_rows(model: LoadedModel, rows: int) -> None:
    tokens = torch.zeros(rows, 1, dtype=torch.long, device=model.device)
    model.hidden(tokens, torch.ones_like(tokens), tokens, None)


def _reads(model: LoadedModel) -> tuple[Tensor, dict[int, nn.Module]]:
    """Return (depth, kv heads, width, size) and the attention modules: half the difference of the values at +x and -x,
    for x the axes of the residual stream, which every block is given in place of its input."""
    axes = torch.eye(model.width, device=model.device, dtype=model.dtype) * model.width**0.5
    entering = torch.cat([axes, -axes])[:, None]
    found, modules = {}, {}

    def enter(
        _module: nn.Module, inputs: tuple[object, ...], named: dict[str, object]
    ) -> tuple[tuple[object, ...], dict[str, object]]:
        return ((entering, *inputs[1:]), named) if inputs else (inputs, {**named, "hidden_states": entering})

    def tap(module: nn.Module, value: Tensor, output: Tensor) -> Tensor:
        plus, minus = value[:, :, 0].float().chunk(2)
        layer = int(module.layer_idx)  # type: ignore[arg-type]
        modules[layer], found[layer] = module, ((plus - minus) / (2 * model.width**0.5)).transpose(0, 1).cpu()
        return output

    with ExitStack() as undo:
        for block in model.blocks:
            undo.callback(block.register_forward_pre_hook(enter, with_kwargs=True).remove)
        undo.enter_context(tapped(model, tap))
        _one_token_rows(model, len(entering))
    reads = torch.stack([found[layer] for layer in range(model.depth)])
    sums, sizes = (part.sum(2, keepdim=True).abs().amax((1, 3), keepdim=True) for part in (reads, reads.abs()))
    centring = sums < 0.001 * sizes
    return torch.where(
        centring, (1 - 1 / model.width) ** 0.5, 1.0
    ) * reads, modules  # the size of an axis less its mean


def _folds(norm: nn.Module, model: LoadedModel) -> tuple[Tensor, bool]:
    """Return the gain (width,) of a norm, and whether it takes off the mean: from what it does to vectors of +-1."""
    ones = torch.ones(1, model.width, device=model.device, dtype=model.dtype)
    signs = ones - 2 * (torch.arange(model.width, device=model.device) % 2).to(model.dtype)
    gain = ((norm(signs) - norm(-signs)) / 2 * signs)[0].float().cpu()
    mean = (norm(ones) - norm(-ones)).float().abs().max() / 2
    return gain, bool(mean < 0.01 * gain.abs().max())


def _centred(states: Tensor, centring: bool) -> Tensor:
    return states - states.mean(-1, keepdim=True) if centring else states


def _writes(model: LoadedModel, size: int, modules: dict[int, nn.Module]) -> Tensor:
    """Return (depth, heads, size, width): what attention adds to the stream for the axes of its heads' outputs."""
    count = model.heads * size
    axes = torch.cat([torch.eye(count), torch.zeros(1, count)]).to(model.device, model.dtype)
    left: dict[int, Tensor] = {}
    norms: dict[int, nn.Module] = {}  # of blocks that normalise what attention writes

    def leave(module: nn.Module, _inputs: object, output: Tensor | tuple[Tensor, ...]) -> None:
        left[int(module.layer_idx)] = output[0] if isinstance(output, tuple) else output  # type: ignore[arg-type]

    def after(layer: int) -> Callable[[nn.Module, tuple[object, ...]], None]:
        def enter(module: nn.Module, inputs: tuple[object, ...]) -> None:
            if inputs and inputs[0] is left.get(layer):
                norms[layer] = module

        return enter

    with ExitStack() as undo:
        for layer, block in enumerate(model.blocks):
            undo.callback(modules[layer].register_forward_hook(leave).remove)
            for child in block.children():
                undo.callback(child.register_forward_pre_hook(after(layer)).remove)
        undo.enter_context(tapped(model, lambda _m, _v, output: axes.view(-1, 1, model.heads, size).to(output.dtype)))
        _one_token_rows(model, count + 1)
    found = []
    for layer in range(model.depth):
        rows = (left[layer][:-1, 0].float() - left[layer][-1:, 0].float()).cpu()
        if layer in norms:
            gain, centring = _folds(norms[layer], model)
            rows = _centred(rows, centring) * gain
        found.append(rows.view(model.heads, size, model.width))
    return torch.stack(found)


@torch.inference_mode()
def circuits(model: LoadedModel) -> Circuits:
    """Return the linear maps of all heads; the model is as before.

    Raises:
        NotOnThisModel: where attention does not go through the attention interface.
    """
    reads, modules = _reads(model)
    return Circuits(reads, _writes(model, reads.shape[-1], modules))


@dataclass(frozen=True, eq=False)
class Copying:
    """How much every head raises the token that it attends to, (depth, heads) each, from -1 (lowers it) to 1.

    With embeddings E (tokens, width), unembeddings U (tokens, width) with the gain of the final norm, less their mean
    over tokens, which no probability depends on, and a head's maps R (width, size) and W (size, width):

        M = E R W U^T            what attending to each token adds to the logit of each
        eigen = sum(l) / sum|l|  l: eigenvalues of M, those of the (size, size) matrix  W U^T E R
        logit = sum(a) / sum|a|  a: diagonal of M, what a token adds to its own logit, above the mean of all tokens

    eigen is over the whole vocabulary but special tokens, logit over a sample of it.
    Source: Elhage et al. 2021 (eigen); Olsson et al. 2022 (logit, as the share of what is raised, scaled to -1 .. 1).
    """

    eigen: Tensor
    logit: Tensor


def _share(values: Tensor) -> Tensor:
    return values.real.sum(-1) / values.abs().sum(-1)


@torch.inference_mode()
def copying(model: LoadedModel, vocabulary: Sequence[int], sample: Sequence[int]) -> Copying:
    """Return the copying scores of all heads over the tokens of `vocabulary`; `sample` are some of them.

    Raises:
        NotOnThisModel: where attention does not go through the attention interface.
    """
    maps, words = circuits(model), torch.tensor(vocabulary, device=model.device)
    gain, centring = _folds(model.anatomy.find(model.network, "norm"), model)
    embedding = model.embedding(words).float().cpu()
    unembedding = model.anatomy.find(model.network, "head").weight[words].float().cpu()  # type: ignore[index]
    unembedding = _centred(unembedding * gain, centring)
    unembedding = unembedding - unembedding.mean(0)
    among = torch.isin(words.cpu(), torch.tensor(sample))
    between = (unembedding.T @ embedding).double()
    eigen, logit = [], []
    for layer in range(model.depth):
        reads, writes = maps.of(layer)
        eigen.append(_share(torch.linalg.eigvals(writes.double() @ between @ reads.double())))
        own = ((embedding[among] @ reads) * (unembedding[among] @ writes.transpose(1, 2))).sum(-1)
        logit.append(_share(own))
    return Copying(torch.stack(eigen).float(), torch.stack(logit))
