"""A function of the user's on the residual stream."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import TypeAlias

from torch import Tensor

from neuromod_core.effects.base import EFFECTS
from neuromod_core.effects.kinds import StreamEffect
from neuromod_core.effects.own.files import has_layer, stamp, verify
from neuromod_core.effects.subject import Place, Subject
from neuromod_core.kernel.errors import MissingVector, PackError

Hook: TypeAlias = Callable[[Tensor, Tensor, Place], Tensor]
WHO = "python_hook"


@lru_cache(maxsize=16)
def _function(path: str, name: str, changed: int) -> Hook:
    spec = importlib.util.spec_from_file_location(f"neuromod_hook_{Path(path).stem}", path)
    if spec is None or spec.loader is None:
        raise MissingVector(f"{WHO}: {path!r} is not a Python file.")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    found = getattr(module, name, None)
    if not callable(found):
        raise MissingVector(f"{WHO}: {path!r} has no function {name!r}.")
    function: Hook = found
    return function


@EFFECTS.add("python_hook")
@dataclass(frozen=True, kw_only=True)
class PythonHook(StreamEffect):
    """Edit the residual stream with a function of yours:  h' = f(h, d, place),  at the output of block `layer`.

    `function` is "file.py:name". WARNING: checking a pack with this effect executes that file, with all your rights;
    take no such pack from a stranger. f gets states (n, tokens, width), doses (n,) and a `Place`, must return states of
    the same shape, not edit in place, and treat rows and positions alone, or results depend on the batch. `sha256`, if
    given, is checked before the file is executed; layer -1 is the embedding.  Source: this project.
    """

    function: str
    layer: int
    sha256: str = ""
    family = "own"
    observable, moves = "hook_distance", 1

    def __post_init__(self) -> None:
        if not all(self.function.rpartition(":")[::2]):
            raise PackError(f"{WHO}: function is {self.function!r}; allowed is 'file.py:name'.")

    @property
    def loaded(self) -> Hook:
        """The function."""
        path, _, name = self.function.rpartition(":")
        changed = stamp(path, WHO)
        verify(path, self.sha256, WHO)
        return _function(path, name, changed)

    def check(self, subject: Subject) -> None:
        """Raise NoSuchLayer, or MissingVector when there is no such file or function."""
        has_layer(self.layer, subject.shape.depth, WHO, subject.name, first=-1)
        _ = self.loaded

    def layers(self, subject: Subject) -> Sequence[int]:
        """See `StreamEffect.layers`."""
        return (self.layer,)

    def edit(self, hidden: Tensor, dose: Tensor, place: Place) -> Tensor:
        """See `StreamEffect.edit`."""
        edited = self.loaded(hidden, dose, place)
        if not isinstance(edited, Tensor) or edited.shape != hidden.shape:
            given = tuple(edited.shape) if isinstance(edited, Tensor) else type(edited).__name__
            raise PackError(f"{WHO}: {self.function!r} returned {given}; allowed is a tensor {tuple(hidden.shape)}.")
        return edited
