"""Fixtures every test may use: tiny real models, a calibrated subject for them, the data folder where there is one."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
import torch

from neuromod_core.calibrate import shape_of
from neuromod_core.effects import Subject, Vector
from neuromod_core.models import TINY, LoadedModel, tiny

torch.set_num_threads(1)  # two-layer models: a second thread only waits at barriers

ROOT = Path(__file__).resolve().parents[1]
LEXICONS = {
    "calm": [65, 70, 75],
    "prosocial": [80, 85],
    "professional": [90, 95, 100],
    "friendly": [105, 110],
    "authoritative": [115, 120],
    "creative": [125, 130, 135],
}


def subject_of(model: LoadedModel) -> Subject:
    """A stand-in calibration: fixed random vectors, a few heads and words: enough for laws about any vector."""
    generator = torch.Generator().manual_seed(7)
    vectors = {}
    for name in ("visionary", "calm", "synesthesia", "creative"):
        drawn = torch.randn(5, model.width, generator=generator)
        unit = drawn / drawn.norm(dim=-1, keepdim=True)
        vectors[name] = Vector(name, 0, unit[0], stream_norm=4.0, valid=True, midpoint=0.0, shuffled=unit[1:])
    heads = torch.zeros(3, model.depth, model.heads, dtype=torch.bool)
    heads[0, 0, 1] = heads[0, 1, 2] = heads[1, 0, 0] = heads[1, 1, 3] = heads[2, 0, 2] = heads[2, 1, 0] = True
    return Subject(
        name=model.name,
        shape=shape_of(model),
        vectors=vectors,
        head_sets=dict(zip(("induction", "previous_token", "duplicate_token"), heads, strict=True)),
        lexicons={name: torch.tensor(words) for name, words in LEXICONS.items()},
        stream_norms=torch.full((model.depth,), 4.0),
        reader=model,
    )


@pytest.fixture(scope="session", params=sorted(TINY))
def model(request: pytest.FixtureRequest) -> LoadedModel:
    return tiny(request.param, seed=3)


@pytest.fixture(scope="session")
def llama() -> LoadedModel:
    return tiny("llama", seed=3)


@pytest.fixture(scope="session")
def subject(model: LoadedModel) -> Subject:
    return subject_of(model)


@pytest.fixture(scope="session")
def data_folder() -> Path:
    """Public data sets, where the machine has them."""
    folder = os.environ.get("NEUROMOD_DATA")
    if not folder or not Path(folder).is_dir():
        pytest.skip("public data sets are not on this machine (set NEUROMOD_DATA to their folder)")
    return Path(folder)
