"""Eight emotions, and which labels of GoEmotions mean them.

A label counts for an emotion where Plutchik's wheel has it as that emotion or as a stronger or milder form of it, or
where the annotators' guide defines it by that emotion. No label of GoEmotions means trust or anticipation: admiration
is for what impresses, approval is agreement, and optimism and desire are wishes, not waiting.
Source: Plutchik 1980, Emotion: A Psychoevolutionary Synthesis; Demszky et al. 2020, ACL (GoEmotions).
"""

from __future__ import annotations

from collections.abc import Mapping

DIMENSIONS = ("joy", "sadness", "anger", "fear", "surprise", "disgust", "trust", "anticipation")

LABELS: Mapping[str, tuple[str, ...]] = {
    "joy": ("amusement", "excitement", "gratitude", "joy", "love", "pride", "relief"),
    "sadness": ("disappointment", "grief", "remorse", "sadness"),
    "anger": ("anger", "annoyance"),
    "fear": ("fear", "nervousness"),
    "surprise": ("surprise",),
    "disgust": ("disgust",),
}
"""Emotion -> the labels of GoEmotions that count for it."""

UNSUPPORTED: Mapping[str, str] = {
    name: f"no label of GoEmotions means {name}" for name in DIMENSIONS if name not in LABELS
}
"""Emotion -> why no reader trained on GoEmotions can tell it."""
