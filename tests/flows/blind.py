"""A real study that stands before unblinding: run by the command line on a tiny model, with all it wrote and said."""

from __future__ import annotations

import dataclasses
import io
import logging
import pickle
import shutil
from collections.abc import Callable
from contextlib import ExitStack, redirect_stderr, redirect_stdout
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from flows import cli, study
from neuromod_core.calibrate.subject import Calibration
from neuromod_core.kernel.errors import IntegrityError
from neuromod_core.trial.plan import Control, Registration, parse_registration
from neuromod_core.trial.register import Readiness
from tasks import steps
from tests.conftest import subject_of

RUN = ["run", "study=smoke", "model=tiny-llama", "design.units=4", "design.units_per_shard=2"]
RUN += ["design.option_units=0", "design.sampled_units=0"]
RUN += ["instruments.foil_items=1", "instruments.story_tokens=3", "analysis.draws=999", "analysis.resamples=999"]


class StopError(IntegrityError):
    """Raised in place of unblinding."""


@dataclasses.dataclass
class Blind:
    """A real study that stands before unblinding, with all that it wrote and said."""

    root: Path
    folder: Path
    file: Path
    told: str
    parameters: list[str]
    steps: list[str]

    @property
    def registration(self) -> Registration:
        return parse_registration(self.file.read_bytes(), "file")

    def copy(self, to: Path) -> Path:
        shutil.copytree(self.root, to / "runs", symlinks=True)
        return to / "runs" / self.folder.name


def calibrated(patch: pytest.MonkeyPatch) -> None:
    """Give the tiny model, whose weights are random, a calibration: finding one takes half a minute, and finds none."""
    factors = {"sham_vectors": {f"{draw:02d}": 0.5 for draw in range(24)}}
    factors |= {"creative_plus": {"": 0.8}, "creative_minus": {"": 0.9}}
    control = Control("statement", "pdq_s", 2.0, 0.01, 8, True, "given")
    ready = Readiness("given", factors, {}, (control,))
    patch.setattr(steps, "ready", SimpleNamespace(fn=lambda _config, _places: ready))
    patch.setattr(
        steps,
        "calibration",
        lambda loaded, _packs, _places: Calibration(
            subject_of(loaded), (), torch.zeros(loaded.depth, loaded.heads), 1.0, "given"
        ),
    )


def run_blind(root: Path) -> Blind:
    """Run a study by the command line on a tiny model, and stop where it would be unblinded."""
    seen: list[tuple[str, str]] = []

    def recorded(step: object) -> Callable[..., object]:
        def call(*given: object) -> object:
            name = str(step.name)  # type: ignore[attr-defined]
            seen.append((name, repr(given) + str(pickle.dumps(given))))
            if name == "unblind":
                raise StopError("stopped")
            return step.fn(*given)  # type: ignore[attr-defined]

        return call

    with pytest.MonkeyPatch.context() as patch, CaptureAll() as told:
        patch.chdir(root)
        patch.setenv("NEUROMOD_CACHE", str(root / "cache"))
        patch.setattr(study, "plainly", recorded)
        calibrated(patch)
        assert cli.main(RUN) == 2
    (folder,) = [path.parent for path in (root / "runs").glob("*/plan.json")]
    (file,) = (path for path in (root / "runs" / "registrations").glob("*.json"))
    return Blind(root / "runs", folder, file, told.text(), [text for _, text in seen], [name for name, _ in seen])


class CaptureAll:
    """Everything said on the console, and every log record of any level."""

    def __enter__(self) -> CaptureAll:
        self.said, self.stack = io.StringIO(), ExitStack()
        self.stack.enter_context(redirect_stdout(self.said))
        self.stack.enter_context(redirect_stderr(self.said))
        self.handler = logging.StreamHandler(self.said)
        self.before = logging.root.level
        logging.root.addHandler(self.handler)
        logging.root.setLevel(logging.DEBUG)
        return self

    def __exit__(self, *_: object) -> None:
        logging.root.removeHandler(self.handler)
        logging.root.setLevel(self.before)
        self.stack.close()

    def text(self) -> str:
        return self.said.getvalue()
