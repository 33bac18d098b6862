"""Instruments of a user's own: read, checked, and asked of a model."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

from neuromod_core.engine import best_path, dosed
from neuromod_core.instruments import Scale, forbidden_words, leaks
from neuromod_core.instruments.adapters import HARNESS, INSPECT, Task, read_instrument
from neuromod_core.models import ModelSpec
from neuromod_core.stats import Estimate
from neuromod_core.trial.imported import TaskCard, ask
from neuromod_core.trial.prompts import Prompter
from tasks import progress
from tasks.lab import Places, calibration, library, model


def read(source: str, data: str | None = None) -> Scale | Task:
    """Return the instrument that a source names."""
    return read_instrument(source, data)


def is_source(name: str) -> bool:
    """Return whether a name is a file to import, and not a scale of the project."""
    return name.startswith((INSPECT, HARNESS)) or Path(name).suffix != ""


def sorted_out(names: Sequence[str], places: Places) -> tuple[list[str], tuple[Scale, ...], tuple[Task, ...]]:
    """Return the scales of the project that were named, the imported scales, and the imported tasks.

    Raises:
        UnknownName: for a scale that does not exist.
        InstrumentError: for a file that cannot be read.
    """
    known = [library(places.project).scale(name).name for name in names if not is_source(name)]
    found = [read(name) for name in names if is_source(name)]
    scales = tuple(one for one in found if isinstance(one, Scale))
    return known, scales, tuple(one for one in found if isinstance(one, Task))


def facts(found: Scale | Task, project: str) -> list[dict[str, object]]:
    """Return what an import found, as rows: its size, and the words in it that would tell a model what is studied."""
    sizes: Mapping[str, object]
    if isinstance(found, Scale):
        texts = {item.id: f"{wording.keyed} {wording.antonym}" for item in found.items for wording in item.wordings}
        sizes = {
            "kind": "scale",
            "name": found.name,
            "items": len(found.items),
            "wordings": min(len(item.wordings) for item in found.items),
            "subscales": ", ".join(each.name for each in found.subscales),
        }
    else:
        texts = {each.id: each.prompt for each in found.problems} | {each.id: each.prompt for each in found.written}
        kind = "options ranked by likelihood" if found.problems else "written answers matched exactly"
        sizes = {"kind": kind, "name": found.name, "items": found.size}
    words = leaks(texts, forbidden_words(Path(project) / "datasets" / "instruments" / "hygiene.yaml"))
    told = ", ".join(f"{leak.word} ({leak.where})" for leak in words[:8]) or "none"
    return [
        *({"what": key, "value": value} for key, value in sizes.items()),
        {"what": "words that name the study", "value": told},
        {"what": "fingerprint", "value": found.fingerprint},
    ]


def task_cards(tasks: Sequence[Task], spec: ModelSpec, places: Places) -> list[TaskCard]:
    """Return the cards of imported tasks on an undosed model, written as JSON beside the runs."""
    if not tasks:
        return []
    progress.stage("loading the model")
    loaded = model(spec, places.cache)
    subject = calibration(loaded, (), places).subject
    made = []
    with dosed(loaded, best_path(loaded)) as session:
        prompter = Prompter(loaded, library(places.project))
        for task in tasks:
            progress.stage(task.name, task.size)
            made.append(ask(task, session, subject, prompter, progress.tick))
    folder = places.private / "instruments" / loaded.name
    folder.mkdir(parents=True, exist_ok=True)
    for card in made:
        text = json.dumps(card.as_json(), indent=2, ensure_ascii=False) + "\n"
        (folder / f"{card.task}.json").write_text(text, encoding="utf-8")
    return made


def row(card: TaskCard) -> dict[str, object]:
    """Return one line of the table of imported tasks."""
    return {
        "task": card.task,
        "valid": f"{card.n_valid} of {card.n_items}",
        "chance": "" if card.chance is None else f"{card.chance:.2f}",
        "right": _shown(card.accuracy),
        "right, by length": _shown(card.by_length),
        "margin, nats": "" if card.margin is None else f"{card.margin.estimate:.2f}",
    }


def _shown(found: Estimate | None) -> str:
    if found is None or found.ci is None:
        return ""
    return f"{found.estimate:.2f} [{found.ci.low:.2f}, {found.ci.high:.2f}]"
