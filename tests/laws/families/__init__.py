"""What the laws need to know of each family of effects, one module a family.

EXAMPLES: effect -> parameters it cannot do without.
OBSERVABLES: observable -> its measure, from (model, subject, pack) to a number.
TWINS: effect -> the same effect in slow, obvious steps, one row at a time; `tests.laws.twins` says what a twin is given
and returns. An effect without a twin fails `test_twins`.
"""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Callable

from neuromod_core.effects import Subject
from neuromod_core.models import LoadedModel
from neuromod_core.packs import Pack

Measure = Callable[[LoadedModel, Subject, Pack], float]
EXAMPLES: dict[str, dict[str, object]] = {}
OBSERVABLES: dict[str, Measure] = {}
TWINS: dict[str, Callable[..., object]] = {}

for found in pkgutil.iter_modules(__path__):
    family = importlib.import_module(f"{__name__}.{found.name}")
    EXAMPLES |= family.EXAMPLES
    OBSERVABLES |= family.OBSERVABLES
    TWINS |= family.TWINS
