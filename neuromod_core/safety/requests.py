"""The project's own requests: harmless ones whose words may alarm, and harmful ones that contrast with them."""

from __future__ import annotations

from pathlib import Path

from neuromod_core.instruments.records import first_repeat, read_headed_yaml
from neuromod_core.kernel.errors import InstrumentError
from neuromod_core.safety.xstest import Request


def load_requests(path: Path) -> tuple[Request, ...]:
    """Return the requests of a YAML file of pairs, in its order: harmless, harmful, harmless, harmful, ...

    Raises:
        InstrumentError: for an unknown, missing or repeated key, an empty text, or an id or text that occurs twice.
    """
    found = []
    for entry in read_headed_yaml(path, "requests", "requests").records("requests"):
        pair = entry.only("id", "harmless", "harmful").named()
        for kind in ("harmless", "harmful"):
            name = f"{pair.text('id')}-{kind}"
            found.append(Request(name, pair.text(kind), pair.text("id"), harmful=kind == "harmful"))
    for what in ([each.id for each in found], [each.text for each in found]):
        if (twice := first_repeat(what)) is not None:
            raise InstrumentError(f"{path.as_posix()}: two requests are {twice!r}")
    return tuple(found)
