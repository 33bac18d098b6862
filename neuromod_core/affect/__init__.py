"""Emotions in texts: readers, how well they read, and the course of a story.

A reader is trained on labelled text and judged on labelled text that it has not seen. What it cannot tell it does not
say: an emotion that no label supports, or that held-out text shows it cannot tell, is gated out with the reason.
"""

from neuromod_core.affect.lexicon import Lexicon
from neuromod_core.affect.plutchik import DIMENSIONS, LABELS, UNSUPPORTED
from neuromod_core.affect.reader import Reader, Trained, train
from neuromod_core.affect.reliability import Reliability, reliability
from neuromod_core.affect.story import Course, course, sentences

__all__ = [
    "DIMENSIONS",
    "LABELS",
    "UNSUPPORTED",
    "Course",
    "Lexicon",
    "Reader",
    "Reliability",
    "Trained",
    "course",
    "reliability",
    "sentences",
    "train",
]
