"""Looking at runs without changing them: what was found, whether it holds, what this machine is."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import pandas as pd

from neuromod_core.kernel.errors import IntegrityError
from neuromod_core.models.loading import best_dtype, convert_embedded
from neuromod_core.report.build import build
from neuromod_core.report.findings import findings
from neuromod_core.report.page import render
from neuromod_core.store import folder_of, open_store
from neuromod_core.store.compact import read_manifest
from neuromod_core.store.files import read_file
from neuromod_core.trial.amend import amend, parse_changes
from neuromod_core.trial.archive import Archive, frame
from neuromod_core.trial.plan import Registration
from neuromod_core.trial.verify import verify
from tasks.lab import Places, Run, code_commit, library, read_registration
from tasks.provenance import engine
from tasks.reporting import REPORT, data_of

Row = Mapping[str, object]
BARRING = ("G1", "G2", "G5")  # gates without which a study has no result at all


def _table(archive: Archive, name: str) -> pd.DataFrame:
    file = read_manifest(archive.store).files[name]
    return frame(read_file(archive.store, f"dataset/{name}.parquet", name=name, file=file))


def summary(run: Run) -> list[str]:
    """Return what a closed study found, in sentences."""
    return findings(build(run.archive()))


def failed_gates(run: Run) -> list[str]:
    """Return the failed gates that leave a study without a result, as text."""
    gates = _table(run.archive(), "gates")
    failed = gates[(gates["state"] == "failed") & gates["code"].isin(BARRING)]
    return [f"{row['code']} {row['title']}" for row in failed.to_dict("records")]


def point_latest(run: Run) -> None:
    """Make `latest` name this run: a link in the storage root; for a bucket, a file here with the address."""
    latest = run.places.private / "latest"
    latest.parent.mkdir(parents=True, exist_ok=True)
    made = latest.with_name(f".latest-{Path(run.folder()).name}")  # renamed at once: studies may end together
    made.unlink(missing_ok=True)
    if folder_of(run.folder()) is None:
        made.write_text(run.folder() + "\n", encoding="utf-8")
    else:
        made.symlink_to(Path(run.folder()).name)
    made.replace(latest)


def verified(at: str, places: Places) -> str:
    """Verify a closed study, and its report where one lies beside the records; return the root hash."""
    archive = Archive(open_store(at))
    root = verify(archive).root
    if archive.store.holds(REPORT):
        page = render(data_of(archive, places.project), Path(places.project) / "analysis" / "templates")
        if page.encode() != archive.store.get(REPORT):
            raise IntegrityError(f"{at}/{REPORT} does not follow from the data it reports.")
    return root


def allocation(at: str, file: str | None, places: Places) -> list[Row]:
    """Return what each cell code stands for, once the ledger permits it.

    file: the registration; not needed for a study that was unblinded before, nor where `registrations` in the private
    folder of `places` holds it.
    """
    archive, code = Archive(open_store(at)), code_commit(places.project)
    found = read_registration(file) if file is not None else _kept(places.private / "registrations", archive)
    registration = archive.unblind(found, code=code)
    return [{"cell": item.cell_code, "arm": item.arm, "member": item.member} for item in registration.allocation]


def _kept(folder: Path, archive: Archive) -> Registration | None:
    """Return the registration of a run from the files of a folder, None where there is none."""
    wanted = archive.entry("registered")["plan"]
    for file in sorted(folder.glob("*.json")):
        kept = read_registration(str(file))
        if kept.public.fingerprint == wanted:
            return kept
    return None


def amended(at: str, reason: str, texts: Sequence[str], *, exploratory: bool) -> list[Row]:
    """Append an amendment to a run's ledger; return it with both plan hashes."""
    made = amend(Archive(open_store(at)), reason, parse_changes(texts), exploratory=exploratory)
    changes = {key: f"{value:g}" for key, value in made.changes.items()}
    values = {"kind": made.kind, "reason": made.reason, **changes, "plan": made.registered, "amended plan": made.plan}
    return [{"what": key, "value": value} for key, value in values.items()]


def doctor(places: Places) -> list[Row]:
    """Return what this machine offers; prepares the embedded model and reads every text, so that errors show here."""
    texts = library(places.project)
    facts: dict[str, object] = {
        "packs": len(texts.packs),
        "scales": ", ".join(texts.scales),
        "embedded model": str(convert_embedded(Path(places.cache) / "models")),
        "best number format": str(best_dtype()).removeprefix("torch."),
        **engine(places.project),
    }
    return [{"what": key, "value": value} for key, value in facts.items()]
