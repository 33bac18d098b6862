"""Which models there are, where their parts live, and how they are loaded. Knows nothing of effects or studies."""

from neuromod_core.models.anatomy import Anatomy, anatomy
from neuromod_core.models.loaded import LoadedModel
from neuromod_core.models.loading import load
from neuromod_core.models.spec import ModelSpec
from neuromod_core.models.tiny import TINY, tiny

__all__ = ["TINY", "Anatomy", "LoadedModel", "ModelSpec", "anatomy", "load", "tiny"]
