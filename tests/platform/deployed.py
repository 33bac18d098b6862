"""The deployed flow `study`, for a tiny model: its process is given a calibration, as all workers here are."""

from __future__ import annotations

import pytest

from flows.study import study
from tests.platform.studies import give_calibration

give_calibration(pytest.MonkeyPatch())

__all__ = ["study"]
