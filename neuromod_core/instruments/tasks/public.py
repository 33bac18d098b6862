"""Public data sets that are not shipped: where they are public, their SHA-256, their licence, and reading them.

Who has a file puts it under the data folder at the path named here. A machine without it is told so in a sentence, and
what would have been measured is missing with that reason.
"""

from __future__ import annotations

import csv
import io
import json
import urllib.request
from dataclasses import dataclass
from pathlib import Path
from urllib.error import URLError

from neuromod_core.instruments.texts import Text
from neuromod_core.kernel.errors import DataError, IntegrityError
from neuromod_core.kernel.register import unknown
from neuromod_core.kernel.types import digest, file_digest

_RAW = "https://raw.githubusercontent.com"
_GITHUB = "https://github.com"
_COLUMNS = {
    "uid": "UID",
    "field": "field",
    "term": "linguistics_term",
    "pair_id": "pairID",
    "good": "sentence_good",
    "bad": "sentence_bad",
}
PAIRS_EACH = 100
TIMEOUT = 30.0  # seconds


@dataclass(frozen=True)
class PublicFile:
    """A file under the data folder, pinned by its SHA-256; `url` is where it, or what it was made from, is public."""

    path: str
    sha256: str
    url: str
    licence: str
    source: str


PUBLIC = {
    "blimp": PublicFile(
        path="blimp/blimp_100.csv",
        sha256="226cff42211fe880c122ac733857f8f0a53ee5aa1758a332fde2a11d94a81126",
        url=f"{_GITHUB}/alexwarstadt/blimp/tree/3e56b06fcabca9b30822fc66435fca6b1aa40bb1/data",
        licence="CC BY 4.0",
        source="Warstadt et al. 2020, TACL 8:377; the first 100 pairs of each paradigm, see `shorten_blimp`",
    ),
    "empath": PublicFile(
        path="empath/categories.tsv",
        sha256="592c6974c183b65b56248628316631f938c29c2ab90334022cdbfdcda45ef1f7",
        url=f"{_RAW}/Ejhfast/empath-client/3f77509adf4e48a5f90aa991e2169ef23a0393dd/empath/data/categories.tsv",
        licence="MIT",
        source="Fast, Chen & Bernstein 2016, CHI (Empath)",
    ),
    **{
        f"goemotions-{name.partition('.')[0]}": PublicFile(
            path=f"goemotions/{name}",
            sha256=sha256,
            url=f"{_RAW}/monologg/GoEmotions-pytorch/b75f9d3a8b76bc1060687925b04ca98a1b8ea66b/data/original/{name}",
            licence="Apache-2.0",
            source="Demszky et al. 2020, ACL (GoEmotions; a mirror of its original split)",
        )
        for name, sha256 in (
            ("dev.tsv", "575489c079c9de1097062a01738f998590d6b7ead66dd1c9fd1d2ba01fd8bc62"),
            ("labels.txt", "45c3ef86782d2a4d7fedcd6d8c111aa0d0e94720689bd164fac94fefb4495a89"),
            ("test.tsv", "0587b2dd8b27b97352adbfc3fb083d46005c8946657fdc2b1ca8b1cc7f1f8be4"),
            ("train.tsv", "1c254a142be5c00e80d819b9ae1bbd36d94b2eeb8f4b1271846508d57e57d9c5"),
        )
    },
    "ldnoobw": PublicFile(
        path="ldnoobw/en.txt",
        sha256="af851ecef1d5f212caba17339b12ac39cc2fef7d78c74876f67237644fcee8bd",
        url=f"{_RAW}/LDNOOBW/List-of-Dirty-Naughty-Obscene-and-Otherwise-Bad-Words/"
        "5faf2ba42d7b1c0977169ec3611df25a3c08eb13/en",
        licence="CC BY 4.0",
        source="LDNOOBW, List of Dirty, Naughty, Obscene, and Otherwise Bad Words, 2020",
    ),
    "wikitext2": PublicFile(
        path="wikitext2/test.txt",
        sha256="d790b833ef8cf03a90db7bf1271b7520b83c45ce07ba3c1a9699df81e239eca0",
        url=f"{_RAW}/pytorch/examples/77f55b912142e11fcfdf5b530231fb9c52f181e8/word_language_model/data/wikitext-2/"
        "test.txt",
        licence="CC BY-SA 3.0",
        source="Merity et al. 2017 (WikiText-2, test split)",
    ),
    "xstest": PublicFile(
        path="xstest/xstest_prompts.csv",
        sha256="11783fb294ed017473ee53c207d71f2161c7672c8d0b037501e78387f801cb5a",
        url=f"{_RAW}/paul-rottger/xstest/d7bb5bd738c1fcbc36edd83d5e7d1b71a3e2d84d/xstest_prompts.csv",
        licence="CC BY 4.0",
        source="Röttger et al. 2024, NAACL",
    ),
}


def why_absent(folder: Path | None, name: str) -> str | None:
    """Return the reason why a data set cannot be read on this machine; None if it is there.

    Raises:
        UnknownName: for a data set that is not in the table.
    """
    if name not in PUBLIC:
        raise unknown("public data set", name, list(PUBLIC))
    file = PUBLIC[name]
    if folder is None:
        return f"no data folder was named; {name} is public at {file.url} ({file.licence})"
    if not (folder / file.path).is_file():
        return f"there is no {file.path} in the data folder; it is public at {file.url} ({file.licence})"
    return None


def read_public(folder: Path | None, name: str) -> str:
    """Return the text of a data set under the data folder.

    Raises:
        UnknownName: for a data set that is not in the table.
        DataError: if it is not there.
        IntegrityError: if it is not the pinned file.
    """
    reason = why_absent(folder, name)
    if reason is not None or folder is None:
        raise DataError(f"{name}: {reason}.")
    path, pin = folder / PUBLIC[name].path, PUBLIC[name].sha256
    if (found := file_digest(path)) != pin:
        raise IntegrityError(f"{PUBLIC[name].path} has SHA-256 {found[:12]}...; {pin[:12]}... was pinned.")
    return path.read_text(encoding="utf-8")


def place(file: PublicFile, folder: Path, data: bytes, origin: str) -> Path:
    """Write a public file into a data folder, complete and as pinned, or not at all; return where it is.

    Raises:
        IntegrityError: for other bytes than the pinned ones, naming where they came from.
    """
    if (found := digest(data)) != file.sha256:
        raise IntegrityError(f"{origin} gives a file of SHA-256 {found[:12]}...; {file.sha256[:12]}... is pinned.")
    path = folder / file.path
    path.parent.mkdir(parents=True, exist_ok=True)
    scratch = path.with_suffix(".part")
    scratch.write_bytes(data)
    scratch.replace(path)
    return path


def fetch(file: PublicFile, folder: Path) -> Path:
    """Download a public file into a data folder, complete and as pinned, or not at all; return where it is.

    Raises:
        DataError: if its address does not answer.
        IntegrityError: if it gives another file.
    """
    try:
        with urllib.request.urlopen(file.url, timeout=TIMEOUT) as answer:  # an address of a table of pinned files
            data: bytes = answer.read()
    except (URLError, TimeoutError) as cause:
        raise DataError(f"{file.url} does not answer ({cause}); put the file at {file.path} by hand.") from None
    return place(file, folder, data, file.url)


def adopt(source: Path, folder: Path) -> tuple[str, ...]:
    """Copy the public files that lie in another folder and not yet in the data folder; return their names.

    Raises:
        IntegrityError: for a file that is not the pinned one.
    """
    found = [name for name, file in PUBLIC.items() if (source / file.path).is_file()]
    new = [name for name in found if not (folder / PUBLIC[name].path).is_file()]
    for name in new:
        path = source / PUBLIC[name].path
        place(PUBLIC[name], folder, path.read_bytes(), path.as_posix())
    return tuple(new)


@dataclass(frozen=True)
class MinimalPair(Text):
    """Two sentences that differ in one thing; only `good` is grammatical.  uid: the paradigm, field: its area."""

    uid: str
    field: str
    good: str
    bad: str


def load_blimp(folder: Path | None, *, per_paradigm: int = PAIRS_EACH) -> tuple[MinimalPair, ...]:
    """Return the first `per_paradigm` minimal pairs of each of the 67 paradigms.

    Raises:
        DataError, IntegrityError: as `read_public`, and DataError for other than 1 ... 100 pairs a paradigm.
    """
    if not 1 <= per_paradigm <= PAIRS_EACH:
        raise DataError(f"{per_paradigm} pairs a paradigm were asked for; 1 ... {PAIRS_EACH} are there.")
    rows = csv.DictReader(io.StringIO(read_public(folder, "blimp")))
    return tuple(
        MinimalPair(row["uid"], row["field"].replace("/", "_"), row["good"], row["bad"])
        for row in rows
        if int(row["pair_id"]) < per_paradigm
    )


def shorten_blimp(upstream: Path) -> bytes:
    """Return the bytes of `blimp/blimp_100.csv` from the folder of the 67 published JSON-lines files."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(_COLUMNS)
    for path in sorted(upstream.glob("*.jsonl")):
        for line in path.read_text(encoding="utf-8").splitlines()[:PAIRS_EACH]:
            record = json.loads(line)
            writer.writerow([record[key] for key in _COLUMNS.values()])
    return out.getvalue().encode()


def load_wikitext(folder: Path | None, *, count: int, words: int = 40) -> tuple[str, ...]:
    """Return the first `count` paragraphs of WikiText-2's test split that have at least `words` words, as they stand.

    Headings and blank lines are left out. Perplexities are comparable only with the same marks (" @-@ ", "<unk>").

    Raises:
        DataError, IntegrityError: as `read_public`, and DataError if there are fewer such paragraphs.
    """
    lines = (line.strip() for line in read_public(folder, "wikitext2").splitlines())
    found = [line for line in lines if line and not line.startswith("= ") and len(line.split()) >= words]
    if not 1 <= count <= len(found):
        raise DataError(f"{count} paragraphs were asked for; 1 ... {len(found)} are there.")
    return tuple(found[:count])
