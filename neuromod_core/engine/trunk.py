"""Rows that read the same tokens share every block before the first one that an effect lets them differ in.

A pack that steers the output of block 14 leaves blocks 0 to 13 as they are. Rows with the same prompt and the same
text, whatever their packs, are one line of computation up to there, and one line each from there on.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from neuromod_core.effects.kinds import HeadEffect, QueryEffect, ShiftEffect, StreamEffect
from neuromod_core.packs import Binding, leaves_the_pass


@dataclass(frozen=True, eq=False)
class Stage:
    """From block `block` on, row r is computed as line `of[r]`, and line l is computed as row `rows[l]`."""

    block: int
    rows: Tensor
    of: Tensor


@dataclass(frozen=True, eq=False)
class Trunk:
    """The stages of a batch, by rising block; the first begins at block 0."""

    stages: Sequence[Stage]

    @property
    def shares(self) -> bool:
        """Whether any block has fewer lines than there are rows."""
        return len(self.stages[0].rows) < len(self.stages[0].of)

    def at(self, block: int) -> Stage:
        """Return the stage that a block belongs to."""
        return next(stage for stage in reversed(self.stages) if stage.block <= block)


def first_blocks(binding: Binding, depth: int) -> Tensor:
    """Return, per row (rows,), the first block whose output an effect of the row can change; `depth` where none can.

    Effects whose sites are not blocks by number (attention in the open, the cache, routers, linear modules) count from
    block 0.
    """
    first = torch.full((binding.rows,), depth)

    def own(moved: Tensor, block: int) -> None:
        first.copy_(torch.where(moved.cpu(), first.clamp(max=block), first))

    for layer, tables in binding.shifts.items():
        for _, vectors in tables:
            own((vectors != 0).any(-1), max(layer, 0))
    for factors in (binding.gains, binding.gates):
        if factors is not None:
            for block, moved in enumerate((factors != 1).any(-1).unbind(1)):
                own(moved, block)
    for effect, dose in binding.effects:
        if isinstance(effect, (ShiftEffect, QueryEffect, HeadEffect)) or leaves_the_pass(effect):
            continue
        own(dose != 0, max(min(effect.layers(binding.subject)), 0) if isinstance(effect, StreamEffect) else 0)
    return first


def trunk_of(binding: Binding, alike: Tensor, depth: int) -> Trunk:
    """Return the stages of rows; `alike` (rows,) gives one number to all rows that read the same tokens.

    A row is a line of its own from its first block on; before it, it is the line of all rows alike that are not on
    their own yet.
    """
    first, device = first_blocks(binding, depth), alike.device
    number, stages = torch.arange(binding.rows), []
    for block in sorted({0, *first[first < depth].tolist()}):
        shared = torch.where(first <= block, int(alike.max()) + 1 + number, alike.cpu())
        names, of = torch.unique(shared, return_inverse=True)
        rows = torch.full((len(names),), binding.rows).scatter_reduce(0, of, number, "amin")
        stages.append(Stage(block, rows.to(device), of.to(device)))
    return Trunk(stages)
