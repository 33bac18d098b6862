"""From the text in a configuration to a store. A new kind of store is one more line in `SCHEMES`."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from pathlib import Path
from urllib.parse import unquote

from neuromod_core.kernel.errors import ConfigError
from neuromod_core.store.local import LocalStore
from neuromod_core.store.protocol import SweptStore


def open_store(uri: str) -> SweptStore:
    """Return the store at a local path or at a URI of a known scheme; nothing is read or written yet.

    Raises:
        ConfigError: an empty text, a scheme that is not known, or a `file:` URI of another host.
    """
    if not uri:
        raise ConfigError(f"The store is '' (empty); allowed: {_ALLOWED}.")
    scheme, colon, rest = uri.partition(":")
    if not colon or "/" in scheme:
        return LocalStore(Path(uri).absolute())
    if scheme not in SCHEMES:
        raise ConfigError(f"Cannot open the store {uri!r}: scheme {scheme!r} is not known; allowed: {_ALLOWED}.")
    return SCHEMES[scheme](rest)


def folder_of(uri: str) -> Path | None:
    """Return the folder that a store is kept in, None for one that is elsewhere; errors are those of `open_store`."""
    store = open_store(uri)
    return store.root if isinstance(store, LocalStore) else None


def _local(rest: str) -> LocalStore:
    """Return the store of `file:` + `rest`, where rest is `/path`, `///path` or `//localhost/path` (RFC 8089)."""
    path = re.fullmatch(r"(?://(?:localhost)?)?(/(?!/).*)", rest)
    if path is None:
        raise ConfigError(f"Cannot open the store {'file:' + rest!r}; allowed: an absolute path, file:///path.")
    return LocalStore(Path(unquote(path[1])))


def _s3(rest: str) -> SweptStore:
    """Return the store of `s3:` + `rest`; botocore is imported by those who use it."""
    from neuromod_core.store.s3 import open_s3

    return open_s3(rest)


def _s3_by_path(rest: str) -> SweptStore:
    """Return the store of `s3+path:` + `rest`: the bucket in the path, for servers that know no `bucket.` hosts."""
    from neuromod_core.store.s3 import open_s3

    return open_s3(rest, "path")


SCHEMES: Mapping[str, Callable[[str], SweptStore]] = {
    "file": _local,
    "s3": _s3,
    "s3+path": _s3_by_path,
}
_ALLOWED = ", ".join(["a local path", *(f"{scheme}://" for scheme in sorted(SCHEMES))])
