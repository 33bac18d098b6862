"""Rows with different packs through one forward pass: generate, score, choose. Knows nothing of arms or studies."""

from neuromod_core.engine.generate import Generation, generate
from neuromod_core.engine.rows import Row
from neuromod_core.engine.score import Choice, Likelihood, choose, score
from neuromod_core.engine.session import Session, dosed

__all__ = ["Choice", "Generation", "Likelihood", "Row", "Session", "choose", "dosed", "generate", "score"]
