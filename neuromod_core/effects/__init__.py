"""What a pack does to a tensor: one small frozen class per effect, one folder per site. Knows nothing of studies.

Adding a module below this package is all it takes to add an effect: the register discovers it, and the laws, the table
of effects and the pack schema are derived from the register.
"""

import sys

from neuromod_core.effects.base import EFFECTS, Effect, Stage
from neuromod_core.effects.subject import Place, Shape, Step, Stream, Subject, Vector

EFFECTS.discover(sys.modules[__name__])

__all__ = ["EFFECTS", "Effect", "Place", "Shape", "Stage", "Step", "Stream", "Subject", "Vector"]
