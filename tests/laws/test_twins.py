"""Every effect equals its slow twin: many rows at once against one row at a time, in plain loops."""

from __future__ import annotations

import pytest
import torch

from neuromod_core.effects import EFFECTS
from neuromod_core.effects.kinds import ImageEffect
from neuromod_core.models import tiny
from tests.conftest import subject_of
from tests.laws.families import EXAMPLES, TWINS
from tests.laws.twins import compare

LANGUAGE = [name for name in EFFECTS if not issubclass(EFFECTS[name], ImageEffect)]


@pytest.mark.parametrize("name", LANGUAGE)
def test_an_effect_equals_its_slow_twin(name: str) -> None:
    assert name in TWINS, f"write a slow twin of {name!r} in tests/laws/families"
    kind = EFFECTS[name]
    subject = subject_of(tiny("mixtral" if kind.needs == "router" else "llama", seed=3))
    with torch.inference_mode():
        compare(name, kind(**EXAMPLES.get(name, {})), TWINS[name], subject)


def test_twins_belong_to_effects() -> None:
    assert set(TWINS) <= set(LANGUAGE)
    assert set(EXAMPLES) <= set(EFFECTS)
