"""What each command of `neuromod` does. Each loads what it needs: the frameworks together take seconds."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path

from rich.console import Console
from rich.table import Table

from flows import audit, calibrate, data, detect, instruments, signature, status, story, sweeping, tracking
from flows import records as keeping
from flows.settings import PROJECT, Settings, places_here, settings, sweep
from neuromod_core.kernel import garbage
from neuromod_core.kernel.errors import ConfigError
from neuromod_core.kernel.types import canonical, plain
from tasks import fresh, progress

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
        "effects": _effects,
        "packs": _packs,
        **keeping.verbs(_rows),
        **audit.verbs(_rows),
        **signature.verbs(_rows),
        **calibrate.verbs(_rows),
        **data.verbs(_rows),
        **status.verbs(_rows),
        **tracking.verbs(_rows),
        **instruments.verbs(_rows),
        **story.verbs(_rows),
        **detect.verbs(_rows),
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
    return places_here(chosen.storage.root, None).private / "registrations"


def _config_file(chosen: Settings) -> Path:
    """Return where the registration of these settings is kept: the same study and texts give the same name.

    The name is keyed: a plain hash of packs could be looked up by hashing all packs.
    """
    from tasks import lab

    config, texts = chosen.config(), lab.library(str(PROJECT))
    packs = {name: texts.pack(name).fingerprint for name in config.arms}
    folder = _registrations(chosen)
    name = lab.keyed(folder, canonical([plain(config), dict(texts.fingerprints()), packs]))[:12]
    return folder / f"{config.name}-{name}.json"


def _registered(chosen: Settings, cache: Path) -> str:
    """Return the registration file of these settings; register now where there is none yet."""
    from tasks import lab

    if chosen.registration is not None:
        return _given(chosen.registration)
    chosen.config().check(lab.library(str(PROJECT)))
    file = _config_file(chosen)
    if chosen.fresh:
        count = len(list(file.parent.glob(f"{file.stem}*.json")))
        file = file.with_stem(f"{file.stem}-{count}") if count else file
    if not file.is_file():
        _freeze(chosen, cache, file)
    return str(file)


def _given(file: str) -> str:
    """Return the name of a registration file, which must be there."""
    if not Path(file).is_file():
        raise ConfigError(f"There is no registration file {file}.")
    return file


def _freeze(chosen: Settings, cache: Path, file: Path) -> None:
    from tasks import steps

    config, places = chosen.config(), chosen.places(cache)
    readiness = steps.ready.fn(config, places)
    steps.make_registration.fn(config, places, readiness, str(file))


def _study(overrides: Sequence[str], cache: Path) -> int:
    """Register and run, or resume, one study; print where its report is and what it found."""
    chosen = settings(overrides)
    if chosen.registration is not None:
        fresh.begin(str(Path(_given(chosen.registration)).absolute()), str(PROJECT), str(cache))
    with garbage.loading():
        from flows.study import conduct, served
        from tasks.lab import Run
    with progress.shown(ERR):
        file = str(Path(_registered(chosen, cache)).absolute())
        this = Run(file, chosen.places(cache))
        root = served(this) if chosen.runtime.kind == "prefect" else conduct(this)
    from tasks import looks  # with what draws a report: a study that begins does not wait for it
    from tasks.reporting import REPORT

    looks.point_latest(this)
    for line in looks.summary(this):
        OUT.print(line, highlight=False, markup=False)
    OUT.print(f"root hash  {root}", highlight=False)
    OUT.print(f"report     {this.folder()}/{REPORT}", highlight=False)
    failed = looks.failed_gates(this)
    if failed:
        print(f"GATE FAILED: {'; '.join(failed)}")
    return 3 if failed else 0


def _run(given: argparse.Namespace, cache: Path) -> int:
    jobs = sweep(given.overrides) if given.multirun else [list(given.overrides)]
    chosen = [settings(job) for job in jobs]  # a mistake in the last one is told before the first one runs
    if given.multirun and chosen[0].runtime.launcher != "serial":
        return sweeping.launch(jobs, chosen[0].runtime, chosen[0].places(cache).private / "jobs")
    return max(_study(job, cache) for job in jobs)


def _plan(given: argparse.Namespace, cache: Path) -> int:
    from tasks import costing, estimating, lab
    from tasks.lab import Run

    chosen, texts = settings(given.overrides), lab.library(str(PROJECT))
    config, places = chosen.config(), chosen.places(cache)
    this = None if (file := _known(chosen)) is None else Run(file, places)
    if this is None:
        config.check(texts)
    size = costing.size_of(config, texts) if this is None else costing.size_of_plan(this.registration().plan, texts)
    done = () if this is None else tuple(this.archive().done(this.registration()))
    measured = None
    if given.measure:
        with progress.shown(ERR):
            measured = estimating.estimate(config if this is None else this, places)
    return _rows(costing.rows(size, done, measured), given.json)


def _known(chosen: Settings) -> str | None:
    """Return the registration file of these settings, None where the study was not registered."""
    from tasks import lab

    if chosen.registration is not None:
        return _given(chosen.registration)
    file = _config_file(chosen) if lab.has_key(_registrations(chosen)) else None
    return str(file) if file is not None and file.is_file() else None


def _register(given: argparse.Namespace, cache: Path) -> int:
    from tasks import lab

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
    from tasks import looks

    print(looks.verified(keeping.run_at(given.run), places_here("runs", None, cache=cache)))
    return 0


def _unblind(given: argparse.Namespace, cache: Path) -> int:
    from tasks import looks

    if given.registration is not None and not Path(given.registration).is_file():
        raise ConfigError(f"There is no registration file {given.registration}.")
    at = keeping.run_at(given.run)
    places = places_here(at.rpartition("/")[0], None, cache=cache)
    return _rows(looks.allocation(at, given.registration, places), as_json=False)


def _amend(given: argparse.Namespace, cache: Path) -> int:
    from tasks import looks

    at = keeping.run_at(given.run)
    return _rows(looks.amended(at, given.reason, given.changes, exploratory=given.exploratory), given.json)


def _doctor(given: argparse.Namespace, cache: Path) -> int:
    from tasks import looks, records

    root = given.storage or settings(given.overrides).storage.root
    facts = looks.doctor(places_here("runs", None, cache=cache))
    return _rows([*facts, *records.tested(keeping.place(root))], given.json)


def _effects(given: argparse.Namespace, cache: Path) -> int:
    from neuromod_core.report.effects import entries
    from tasks import document

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
    from neuromod_core.packs import load_pack, schema
    from tasks import lab

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
