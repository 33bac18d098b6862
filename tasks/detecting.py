"""Detection models on closed studies."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from neuromod_core.kernel.errors import DataError
from neuromod_core.report.canvas import write_png
from neuromod_core.report.detection import reliability
from neuromod_core.store import open_store
from neuromod_core.store.compact import read_manifest
from neuromod_core.store.files import read_file
from neuromod_core.trial.archive import Archive, frame
from neuromod_core.trial.detection import Cells, cells_of, intensity, presence, together
from neuromod_core.trial.legacy import LEGACY, by_arm
from tasks.lab import Places, library

Line = dict[str, object]


def _table(archive: Archive, name: str) -> pd.DataFrame:
    file = read_manifest(archive.store).files[name]
    return frame(read_file(archive.store, f"dataset/{name}.parquet", name=name, file=file))


def cells(at: Sequence[str], reading: str) -> Cells:
    """Return the cells of closed studies, taken together."""
    archives = [Archive(open_store(place)) for place in at]
    return together([cells_of(archive.plan(), _table(archive, "scores"), reading) for archive in archives])


def told(found: Cells, picture: Path | None) -> list[Line]:
    """Return what the models of presence and intensity come to, one line each; a model not offered says why.

    picture: folder for the reliability diagram.
    """
    return [_presence(found, picture), _intensity(found)]


def _presence(found: Cells, picture: Path | None) -> Line:
    try:
        model = presence(found)
    except DataError as error:
        return {"model": "presence", "result": str(error)}
    if picture is not None:
        write_png(reliability(model), picture)
    ci = model.area.ci
    limits = "" if ci is None else f" [{ci.low:.2f}, {ci.high:.2f}]"
    text = (
        f"AUC {model.area.estimate:.2f}{limits} on packs held out, p = {model.pvalue:.3f}; Brier {model.brier:.3f} of "
        f"{model.base_brier:.3f}, slope {model.slope:.2f}, calibration error {model.error:.3f}; {model.packs} packs, "
        f"{model.units} units, {model.cells} cells ({model.left_out} without a score)"
    )
    packs = ", ".join(f"{pack} {area:.2f}" for pack, area in model.by_pack.items())
    verdict = "" if model.works else "No model of presence is offered: it does no better than chance. "
    return {"model": "presence", "result": f"{verdict}{text}; by pack {packs}"}


def _intensity(found: Cells) -> Line:
    try:
        model = intensity(found)
    except DataError as error:
        return {"model": "intensity", "result": str(error)}
    doses = ", ".join(f"{dose:g}" for dose in model.doses)
    text = f"rho {model.rho:.2f} of told and given dose on packs held out, p = {model.pvalue:.3f}; doses {doses}"
    verdict = "" if model.works else "No model of intensity is offered: it does no better than chance. "
    return {"model": "intensity", "result": f"{verdict}{text}; {model.cells} cells"}


def old(at: str, places: Places) -> list[Line]:
    """Return what the weights of earlier work say of every arm of a study, for comparison."""
    archive = Archive(open_store(at))
    registration, responses = archive.registration(), _table(archive, "responses")
    arms = {item.cell_code: item.arm for item in registration.allocation}
    names = [name for name in registration.plan.scales if name in LEGACY]
    texts = library(places.project)
    return [
        {"model": f"legacy, {line.scale}", "result": _old(line.arm, line.presence, line.intensity, line.reason)}
        for name in names
        for line in by_arm(registration.plan, texts.scale(name), responses, arms)
    ]


def _old(arm: str, presence_: float | None, intensity_: float | None, reason: str | None) -> str:
    if presence_ is None or intensity_ is None:
        return f"{arm}: missing ({reason})"
    return f"{arm}: presence {presence_:.2f}, intensity {intensity_:.2f}"
