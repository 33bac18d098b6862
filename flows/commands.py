"""What each command of `neuromod` does."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path

from rich.console import Console
from rich.table import Table

from flows import audit
from flows import records as keeping
from flows.settings import PROJECT, Settings, places_here, settings, sweep
from neuromod_core.kernel.errors import ConfigError
from neuromod_core.kernel.types import canonical, plain
from neuromod_core.packs import load_pack, schema
from neuromod_core.report.effects import entries
from tasks import calibrating, document, lab, looks, progress, records, steps
from tasks.lab import Run

OUT, ERR = Console(soft_wrap=True), Console(stderr=True)


def run(given: argparse.Namespace, cache: Path) -> int:
    """Run the command that was given; return its exit code."""
    verbs: Mapping[str, Callable[[argparse.Namespace, Path], int]] = {
        "run": _run,
        "plan": _plan,
        "register": _register,
        "verify": _verify,
        "unblind": _unblind,
        "amend": _amend,
        "doctor": _doctor,
        "calibrate": _calibrate,
        "effects": _effects,
        "packs": _packs,
        **keeping.verbs(_rows),
        **audit.verbs(_rows),
    }
    return verbs[given.verb](given, cache)


def _rows(rows: Sequence[Mapping[str, object]], as_json: bool) -> int:
    """Print rows as JSON, or as a table."""
    if as_json:
        print(json.dumps(rows, indent=2, ensure_ascii=False))
        return 0
    table = Table(*(rows[0] if rows else ()), box=None, header_style="bold")
    for row in rows:
        table.add_row(*(str(value) for value in row.values()))
    OUT.print(table)
    return 0


def _registrations(chosen: Settings) -> Path:
    """Return the folder of the registrations that `run` made."""
    return Path(chosen.storage.root) / "registrations"


def _config_file(chosen: Settings) -> Path:
    """Return where the registration of these settings is kept: the same study and texts give the same name.

    The name is keyed: a plain hash of packs could be looked up by hashing all packs.
    """
    config, texts = chosen.config(), lab.library(str(PROJECT))
    packs = {name: texts.pack(name).fingerprint for name in config.arms}
    folder = _registrations(chosen)
    name = lab.keyed(folder, canonical([plain(config), dict(texts.fingerprints()), packs]))[:12]
    return folder / f"{config.name}-{name}.json"


def _registered(chosen: Settings, cache: Path) -> str:
    """Return the registration file of these settings; register now where there is none yet."""
    if chosen.registration is not None:
        if not Path(chosen.registration).is_file():
            raise ConfigError(f"There is no registration file {chosen.registration}.")
        return chosen.registration
    chosen.config().check(lab.library(str(PROJECT)))
    file = _config_file(chosen)
    if chosen.fresh:
        count = len(list(file.parent.glob(f"{file.stem}*.json")))
        file = file.with_stem(f"{file.stem}-{count}") if count else file
    if not file.is_file():
        _freeze(chosen, cache, file)
    return str(file)


def _freeze(chosen: Settings, cache: Path, file: Path) -> None:
    config, places = chosen.config(), chosen.places(cache)
    readiness = steps.ready.fn(config, places)
    steps.make_registration.fn(config, places, readiness, str(file))


def _study(overrides: Sequence[str], cache: Path) -> int:
    """Register and run, or resume, one study; print where its report is and what it found."""
    from flows.study import conduct, study

    chosen = settings(overrides)
    with progress.shown(ERR):
        file = str(Path(_registered(chosen, cache)).absolute())
        this = Run(file, chosen.places(cache))
        if chosen.runtime.kind == "prefect":
            root = study(file, storage=this.places.runs, tracking=this.places.tracking)
        else:
            root = conduct(this, prefect=False)
    looks.point_latest(this)
    for line in looks.summary(this):
        OUT.print(line, highlight=False, markup=False)
    OUT.print(f"root hash  {root}", highlight=False)
    OUT.print(f"report     {this.folder()}/report.html", highlight=False)
    failed = looks.failed_gates(this)
    if failed:
        print(f"GATE FAILED: {'; '.join(failed)}")
    return 3 if failed else 0


def _run(given: argparse.Namespace, cache: Path) -> int:
    jobs = sweep(given.overrides) if given.multirun else [list(given.overrides)]
    return max(_study(job, cache) for job in jobs)


def _plan(given: argparse.Namespace, cache: Path) -> int:
    chosen = settings(given.overrides)
    config = chosen.config()
    config.check(lab.library(str(PROJECT)))
    done = 0
    file = None if chosen.registration is None else Path(chosen.registration)
    if file is None and lab.has_key(_registrations(chosen)):
        file = _config_file(chosen)
    if file is not None and file.is_file():
        this = Run(str(file), chosen.places(cache))
        done = len(this.archive().done(this.registration()))
    return _rows(looks.cost(config, lab.library(str(PROJECT)), done), given.json)


def _register(given: argparse.Namespace, cache: Path) -> int:
    files = [text.removeprefix("out=") for text in given.overrides if text.startswith("out=")]
    if len(files) != 1:
        raise ConfigError("neuromod register needs one out=FILE.")
    if Path(files[0]).exists():
        raise ConfigError(f"{files[0]} exists already; a registration is never overwritten.")
    chosen = settings([text for text in given.overrides if not text.startswith("out=")])
    chosen.config().check(lab.library(str(PROJECT)))
    with progress.shown(ERR):
        _freeze(chosen, cache, Path(files[0]))
    registered = lab.read_registration(files[0])
    print(f"registered {registered.registration_id} in {files[0]}; plan {registered.public.fingerprint}")
    return 0


def _verify(given: argparse.Namespace, cache: Path) -> int:
    print(looks.verified(keeping.run_at(given.run), places_here("runs", None, cache=cache)))
    return 0


def _unblind(given: argparse.Namespace, cache: Path) -> int:
    if given.registration is not None and not Path(given.registration).is_file():
        raise ConfigError(f"There is no registration file {given.registration}.")
    places = places_here("runs", None, cache=cache)
    return _rows(looks.allocation(keeping.run_at(given.run), given.registration, places), as_json=False)


def _amend(given: argparse.Namespace, cache: Path) -> int:
    at = keeping.run_at(given.run)
    return _rows(looks.amended(at, given.reason, given.changes, exploratory=given.exploratory), given.json)


def _doctor(given: argparse.Namespace, cache: Path) -> int:
    root = given.storage or settings(given.overrides).storage.root
    facts = looks.doctor(places_here("runs", None, cache=cache))
    return _rows([*facts, *records.tested(keeping.place(root))], given.json)


def _calibrate(given: argparse.Namespace, cache: Path) -> int:
    chosen = settings(given.overrides)
    places = chosen.places(cache)
    known = calibrating.concepts_of(places)
    concepts = known if given.concepts is None else tuple(given.concepts.split(","))
    folder = None if given.document is None else Path(given.document)
    if folder is not None and not folder.is_dir():
        raise ConfigError(f"There is no folder {folder} to write the pages to.")
    with progress.shown(ERR):
        found = calibrating.evidence(chosen.config().model, places, concepts, given.method)
        calibrating.write_cards(found, Path(places.runs) / "calibration" / found.model.name)
        if folder is not None:
            calibrating.document(found, places, folder)
    if given.gguf is not None:
        print(f"wrote {calibrating.write_gguf(found, Path(given.gguf))} control vectors in {given.gguf}")
    if given.ship:
        print(f"shipped {calibrating.ship(found)} files in datasets/calibration")
    return _rows([calibrating.row(card) for card in found.evidence.cards], given.json)


def _effects(given: argparse.Namespace, cache: Path) -> int:
    if given.document:
        if not Path(given.document).absolute().parent.is_dir():
            raise ConfigError(f"There is no folder for {given.document}.")
        with progress.shown(ERR):
            text = document.effects_page(places_here("runs", None, cache=cache))
        Path(given.document).write_text(text, encoding="utf-8")
        print(f"wrote {given.document}")
        return 0
    shown = ("effect", "family", "doses", "architectures", "formula")
    rows = [asdict(one) for one in entries()]
    return _rows(rows if given.json else [{key: row[key] for key in shown} for row in rows], given.json)


def _packs(given: argparse.Namespace, cache: Path) -> int:
    if given.action == "schema":
        print(json.dumps(schema(), indent=2, sort_keys=True))
        return 0
    if given.action == "validate":
        pack = load_pack(Path(given.file))
        print(f"{given.file}: {pack} (fingerprint {pack.fingerprint[:12]})")
        return 0
    packs = lab.library(str(PROJECT)).packs
    if given.action == "show":
        pack = lab.library(str(PROJECT)).pack(given.name)
        sys.stdout.write((PROJECT / "packs" / f"{pack.name}.json").read_text(encoding="utf-8"))
        print(f"role {pack.role}, fingerprint {pack.fingerprint}")
        return 0
    return _rows(
        [
            {"pack": name, "class": pack.kind, "role": pack.role, "target": pack.target_scale or "", "what": str(pack)}
            for name, pack in packs.items()
        ],
        given.json,
    )
