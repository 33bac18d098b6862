"""The context in which a model is dosed. Leaving it restores the model bit for bit, also after an exception."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

from neuromod_core.engine.attention import NAMES
from neuromod_core.engine.fused import FusedSession, fuse
from neuromod_core.engine.session import Path, Session, on_block, on_router
from neuromod_core.models import LoadedModel

LARGEST = 2 * 2**30  # bytes of weights that are held twice


def best_path(model: LoadedModel) -> Path:
    """Return the path that a study takes: "fused" where it is known, on a processor, for models of modest size.

    The fused path lays out a second copy of the weights, which a large model cannot afford.
    """
    size = sum(parameter.numel() * parameter.element_size() for parameter in model.network.parameters())
    fits = model.device.type == "cpu" and size <= LARGEST
    return "fused" if model.anatomy.fused and fits else "library"


@contextmanager
def dosed(model: LoadedModel, path: Path = "library") -> Iterator[Session]:
    """Attach the engine to `model` for the duration of a `with`.

    path: "library" runs the library's own modules, with hooks on its parts and one attention function in place of its
    own; "fused" runs a forward pass of ours beside them, for the architectures it knows. Nothing is patched or
    replaced: leaving removes the hooks and the attention function's name.

    Raises:
        ModelError: for the fused path on an architecture it does not know.
    """
    if path == "fused":
        yield FusedSession(model, fuse(model))
        return
    before = model.network.config._attn_implementation
    with ExitStack() as undo:
        if model.anatomy.attention:
            undo.callback(model.network.set_attn_implementation, before)
            model.network.set_attn_implementation(NAMES["sdpa" if before == "sdpa" else "eager"])
        for layer, module in enumerate((model.embedding, *model.blocks), start=-1):
            undo.callback(module.register_forward_hook(on_block(layer), with_kwargs=True).remove)
        for layer, router in enumerate(model.routers):
            if router is not None:
                undo.callback(router.register_forward_hook(on_router(layer, model)).remove)
        yield Session(model)
