"""Rows with different packs through one forward pass: generate, score, choose. Knows nothing of arms or studies."""

from neuromod_core.engine.dosed import best_path, dosed
from neuromod_core.engine.generate import Generation, generate
from neuromod_core.engine.rows import Row
from neuromod_core.engine.score import Choice, Likelihood, choose, score
from neuromod_core.engine.session import Session

__all__ = ["Choice", "Generation", "Likelihood", "Row", "Session", "best_path", "choose", "dosed", "generate", "score"]
