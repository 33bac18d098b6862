"""A view of a finished study for people who compare runs. It can be lost and made again from the store."""

from __future__ import annotations

from neuromod_core.track.protocol import ArmRecord, StudyRecord, Tracker

__all__ = ["ArmRecord", "StudyRecord", "Tracker"]
