"""Public data sets on this machine: what is here, what is not and why, and getting it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from neuromod_core.instruments.tasks import PUBLIC, fetch, place, shorten_blimp, why_absent
from neuromod_core.kernel.errors import ConfigError
from neuromod_core.kernel.register import unknown
from tasks import progress
from tasks.bench import data_folder

FOLDERS = ("blimp",)  # data sets whose address is a folder, not a file


def known(cache: str) -> list[Mapping[str, object]]:
    """Return one row per data set: whether it is here, its licence, where it is public."""
    folder = data_folder(cache)
    return [
        {
            "data": name,
            "here": "yes" if why_absent(folder, name) is None else "no",
            "licence": file.licence,
            "source": file.source,
            "public at": file.url,
        }
        for name, file in PUBLIC.items()
    ]


def fetched(cache: str, names: Sequence[str]) -> list[str]:
    """Download data sets (all that are one file, where none is named) that are not here; return their names.

    Raises:
        UnknownName: for a data set that is not in the table.
        ConfigError: for one whose address is a folder.
        DataError, IntegrityError: see `fetch`.
    """
    for name in names:
        if name not in PUBLIC:
            raise unknown("public data set", name, list(PUBLIC))
        if name in FOLDERS:
            raise ConfigError(f"{PUBLIC[name].url} is a folder: copy it, then `neuromod data add {name} FOLDER`.")
    folder = data_folder(cache)
    wanted = [name for name in names or PUBLIC if name not in FOLDERS and why_absent(folder, name) is not None]
    progress.stage("fetching", len(wanted))
    for name in wanted:
        progress.say(name)
        fetch(PUBLIC[name], folder)
        progress.tick(1)
    return wanted


def added(cache: str, name: str, source: str) -> Path:
    """Put a data set that is on this machine into the data folder, as pinned; return where it is.

    source: the file; for BLiMP the folder of its 67 published files, which is shortened.

    Raises:
        UnknownName: for a data set that is not in the table.
        ConfigError: when there is no such file or folder.
        IntegrityError: for a file that is not the pinned one.
    """
    if name not in PUBLIC:
        raise unknown("public data set", name, list(PUBLIC))
    path = Path(source)
    if not path.exists():
        raise ConfigError(f"There is no {source}.")
    if path.is_dir() and name not in FOLDERS:
        raise ConfigError(f"{source} is a folder; {name} is one file.")
    data = shorten_blimp(path) if path.is_dir() else path.read_bytes()
    return place(PUBLIC[name], data_folder(cache), data, source)
