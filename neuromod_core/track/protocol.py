"""What is shown of a study, and who shows it. Knows no tracking system; arms are named, so record after unblinding."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol, TypeAlias

from neuromod_core.kernel.errors import DataError, DuplicateName

Scalar: TypeAlias = "str | int | float | bool | None"


@dataclass(frozen=True, kw_only=True)
class ArmRecord:
    """One arm: what it was given, what came out, and files or folders to keep with it. A missing metric is left out."""

    name: str
    params: Mapping[str, Scalar] = field(default_factory=dict)
    metrics: Mapping[str, float] = field(default_factory=dict)
    tags: Mapping[str, str] = field(default_factory=dict)
    artifacts: tuple[Path, ...] = ()

    def __post_init__(self) -> None:
        _check_finite(self.metrics, f"arm {self.name!r}")


@dataclass(frozen=True, kw_only=True)
class StudyRecord:
    """A study and its arms; `registration` (the registration's hash) tells two runs of one study apart.

    title: what its run is called in lists, the study's name where there is none.  description: shown above its numbers.
    finished: whether no more is to come.
    """

    name: str
    registration: str
    title: str | None = None
    description: str = ""
    finished: bool = True
    params: Mapping[str, Scalar] = field(default_factory=dict)
    metrics: Mapping[str, float] = field(default_factory=dict)
    tags: Mapping[str, str] = field(default_factory=dict)
    artifacts: tuple[Path, ...] = ()
    arms: tuple[ArmRecord, ...] = ()

    def __post_init__(self) -> None:
        _check_finite(self.metrics, f"study {self.name!r}")
        names = [arm.name for arm in self.arms]
        for name in names:
            if names.count(name) > 1:
                raise DuplicateName(f"Two arms of the study {self.name!r} are called {name!r}.")


class Tracker(Protocol):
    """Whoever keeps records of studies."""

    def record_study(self, study: StudyRecord) -> str:
        """Keep `study` with its arms nested in it, and return the tracker's name for it; again changes nothing.

        Raises:
            StorageUnavailable: the tracker did not take it; the study is none the worse, and can be recorded later.
        """
        ...


def _check_finite(metrics: Mapping[str, float], where: str) -> None:
    for name, value in metrics.items():
        if not math.isfinite(value):
            raise DataError(f"Metric {name!r} is {value}; a metric is finite, a missing one is left out. ({where})")
