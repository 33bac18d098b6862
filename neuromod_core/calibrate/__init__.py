"""From a model to a subject: steering vectors, head sets, stream norms, word lists, entropy-matched doses.

Each part is computed once per (model, data, method) and kept under that fingerprint.
"""

from neuromod_core.calibrate.entropy import match_entropy, mean_entropy
from neuromod_core.calibrate.keep import Cache
from neuromod_core.calibrate.subject import Calibration, Request, calibrate, shape_of
from neuromod_core.calibrate.vectors import Card

__all__ = ["Cache", "Calibration", "Card", "Request", "calibrate", "match_entropy", "mean_entropy", "shape_of"]
