"""The report of a closed study: made from its records, kept beside them in a folder or a bucket, handed to others."""

from __future__ import annotations

from pathlib import Path
from tempfile import TemporaryDirectory

from neuromod_core.report.build import build, write_report
from neuromod_core.report.consort import PAGE as CONSORT
from neuromod_core.report.consort import write_consort
from neuromod_core.report.data import ReportData
from neuromod_core.store import open_store
from neuromod_core.store.views import copy_to, show_folder
from neuromod_core.trial.archive import Archive
from tasks.lab import library

REPORT, FIGURES = "report.html", "figures/"


def data_of(archive: Archive, project: str) -> ReportData:
    """Return what the report of a closed study shows."""
    return build(archive, sum(vignette.split == "study" for vignette in library(project).vignettes))


def write(archive: Archive, folder: Path, project: str) -> None:
    """Write report.html, consort.md and the pictures of both into a folder.

    Raises:
        UnblindRefused: before unblinding.
    """
    data = data_of(archive, project)
    if data.consort is not None:
        write_consort(data.consort, folder)
    write_report(data, folder, Path(project) / "analysis" / "templates")


def publish(at: str, project: str) -> str:
    """Make the report of the closed study at an address and keep it beside its records; return the report's address."""
    store = open_store(at)
    with TemporaryDirectory(prefix="neuromod-") as made:
        write(Archive(store), Path(made), project)
        show_folder(store, Path(made), last=REPORT)
    return f"{at}/{REPORT}"


def hand_out(at: str, folder: Path, project: str) -> None:
    """Write the report of a closed study into a folder: the one beside its records, or a new one where none is."""
    store = open_store(at)
    if store.holds(REPORT):
        copy_to(store, folder, keys=[REPORT, *(key for key in (CONSORT,) if store.holds(key)), *store.keys(FIGURES)])
    else:
        write(Archive(store), folder, project)
