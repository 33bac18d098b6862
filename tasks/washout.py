"""A process in which no arm ever ran: it loads a registered study's model, reads the probe undosed, prints its hash.

Run as `python -m tasks.fresh REGISTRATION PROJECT CACHE [THREADS]`; it prints its threads and the hash. Gate G2
compares it with the hash of the same probe in the process that ran every arm. It holds a second copy of the weights
while it runs.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch

from neuromod_core.calibrate import shape_of
from neuromod_core.effects import Subject
from neuromod_core.engine import best_path, dosed
from neuromod_core.trial.gates import probe_hash
from neuromod_core.trial.prompts import Prompter
from neuromod_core.trial.room import Room
from tasks.lab import library, model, read_registration, spec_of


def main(arguments: Sequence[str]) -> int:
    """Print the probe hash of a registered study; what was calibrated for its arms is not even loaded."""
    file, project, cache, *threads = arguments
    if not threads and torch.cuda.is_available():
        return 0
    for count in threads:
        torch.set_num_threads(int(count))
    plan = read_registration(file).public
    loaded = model(spec_of(plan), cache)
    subject = Subject(name=loaded.name, shape=shape_of(loaded))
    with dosed(loaded, best_path(loaded)) as session:
        prompter = Prompter(loaded, library(project))
        room = Room(session, subject, prompter, (), plan.batch, plan.story_tokens, plan.seed)
        print(torch.get_num_threads(), probe_hash(room, plan))
    return 0
