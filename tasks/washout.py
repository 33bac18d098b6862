"""A process in which no arm ever ran: it loads a registered study's model, reads the probe undosed, prints its hash.

Run as `python -m tasks.washout REGISTRATION PROJECT CACHE THREADS`. Gate G2 compares what it prints with the same probe
in the process that ran every arm. It holds a second copy of the weights while it runs.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Sequence

import torch

from neuromod_core.calibrate import shape_of
from neuromod_core.effects import Subject
from neuromod_core.engine import best_path, dosed
from neuromod_core.kernel.errors import IntegrityError
from neuromod_core.trial.gates import probe_hash
from neuromod_core.trial.prompts import Prompter
from neuromod_core.trial.room import Room
from tasks.lab import Run, library, model, read_registration, spec_of


def fresh_hash(run: Run) -> str:
    """Return the probe hash of a fresh process on this machine, with as many threads as this one.

    Raises:
        IntegrityError: when that process does not finish; its last line says why.
    """
    places = run.places
    arguments = [run.file, places.project, places.cache, str(torch.get_num_threads())]
    done = subprocess.run(
        [sys.executable, "-m", "tasks.washout", *arguments],
        cwd=places.project,
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        last = next(reversed(done.stderr.strip().splitlines()), f"exit code {done.returncode}")
        raise IntegrityError(f"The fresh process that gate G2 compares with did not finish: {last}")
    return done.stdout.strip().splitlines()[-1]


def main(arguments: Sequence[str]) -> int:
    """Print the probe hash of a registered study; what was calibrated for its arms is not even loaded."""
    file, project, cache, threads = arguments
    torch.set_num_threads(int(threads))
    plan = read_registration(file).public
    loaded = model(spec_of(plan), cache)
    subject = Subject(name=loaded.name, shape=shape_of(loaded))
    with dosed(loaded, best_path(loaded)) as session:
        prompter = Prompter(loaded, library(project))
        print(probe_hash(Room(session, subject, prompter, (), plan.batch, plan.story_tokens, plan.seed), plan))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
