"""The laws hold on every path through every architecture: the library's own modules, and the fast pass where known."""

from __future__ import annotations

import pytest

from neuromod_core.effects import Subject
from neuromod_core.engine.dosed import Path
from neuromod_core.models import TINY, LoadedModel, tiny
from neuromod_core.models.anatomy import ANATOMIES
from tests.conftest import subject_of

VARIANTS: list[tuple[str, Path]] = [(name, "library") for name in sorted(TINY)]
VARIANTS += [(name, "fused") for name in sorted(TINY) if ANATOMIES[name].fused]


@pytest.fixture(scope="session", params=VARIANTS, ids=lambda variant: "-".join(variant))
def variant(request: pytest.FixtureRequest) -> tuple[str, Path]:
    found: tuple[str, Path] = request.param
    return found


@pytest.fixture(scope="session")
def model(variant: tuple[str, Path]) -> LoadedModel:
    return tiny(variant[0], seed=3)


@pytest.fixture(scope="session")
def subject(model: LoadedModel) -> Subject:
    """The calibration of the model above: that of the other tests belongs to another `model`, and would be kept."""
    return subject_of(model)


@pytest.fixture(scope="session")
def path(variant: tuple[str, Path]) -> Path:
    return variant[1]
