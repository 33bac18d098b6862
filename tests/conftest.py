"""Fixtures every test may use: tiny real models, a calibrated subject for them, the data folder where there is one."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
import torch

from neuromod_core.effects import Shape, Subject, Vector
from neuromod_core.models import TINY, LoadedModel, tiny

torch.set_num_threads(1)  # two-layer models: a second thread only waits at barriers

ROOT = Path(__file__).resolve().parents[1]


def subject_of(model: LoadedModel) -> Subject:
    """A stand-in calibration: fixed random vectors, two heads, a few words: enough for laws about any vector."""
    generator = torch.Generator().manual_seed(7)
    vectors = {}
    for name in ("visionary", "calm"):
        direction = torch.randn(model.width, generator=generator)
        vectors[name] = Vector(name, 0, direction / direction.norm(), stream_norm=4.0, valid=True)
    heads = torch.zeros(model.depth, model.heads, dtype=torch.bool)
    heads[0, 1] = heads[1, 2] = True
    return Subject(
        name=model.name,
        shape=Shape(model.depth, model.heads, model.width, model.vocabulary),
        vectors=vectors,
        head_sets={"induction": heads},
        lexicons={"calm": torch.tensor([65, 70, 75]), "prosocial": torch.tensor([80, 85])},
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
