"""Where in the depth of a model an effect acts, when no calibration says so. Knows nothing of vectors."""

from __future__ import annotations

from neuromod_core.effects.subject import Shape


def block_at(shape: Shape, share: float) -> int:
    """Return the block at a share of depth, from 0 (the first) to 1 (the last)."""
    return round(share * (shape.depth - 1))


def middle(shape: Shape) -> tuple[int, ...]:
    """Return the middle third of the blocks, rounded outwards."""
    return tuple(range(shape.depth // 3, -(-2 * shape.depth // 3)))
