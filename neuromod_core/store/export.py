"""A closed dataset as a folder that others read: the layout of the Hugging Face hub, or CSV. Knows nothing of arms."""

from __future__ import annotations

import io
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import pyarrow.csv
import yaml

from neuromod_core.kernel.errors import ConfigError
from neuromod_core.store.compact import Manifest, verify_manifest
from neuromod_core.store.files import File
from neuromod_core.store.local import LocalStore
from neuromod_core.store.protocol import Store
from neuromod_core.store.tables import SCHEMAS, decode

_SIZES = {10**3: "n<1K", 10**4: "1K<n<10K", 10**5: "10K<n<100K", 10**6: "100K<n<1M", 10**7: "1M<n<10M"}


@dataclass(frozen=True)
class About:
    """What a dataset card says of the study: its name, title and question, and facts in the order given."""

    name: str
    title: str
    question: str
    facts: Mapping[str, str]


def export_hf(store: Store, folder: Path, about: About) -> Manifest:
    """Write the dataset as `data/<table>.parquet` with a dataset card; the files are the bytes that the root covers.

    Source: Hugging Face hub documentation, "Manual configuration" of datasets and "Dataset cards".

    Raises:
        ConfigError: the folder exists and holds something.
        IntegrityError: the dataset is not closed, or is not what its manifest promises.
    """
    manifest, out = verify_manifest(store), _fresh(folder)
    for name in manifest.files:
        out.put_new(f"data/{name}.parquet", store.get(f"dataset/{name}.parquet"))
    out.put_new("manifest.json", store.get("dataset/manifest.json"))
    out.put_new("README.md", card(manifest, about).encode())
    return manifest


def export_csv(store: Store, folder: Path) -> Manifest:
    """Write the dataset as `<table>.csv`: missing is an empty field, an empty text is `""`, a list is JSON.

    Raises:
        ConfigError: the folder exists and holds something.
        IntegrityError: the dataset is not closed, or is not what its manifest promises.
    """
    manifest, out = verify_manifest(store), _fresh(folder)
    for name in manifest.files:
        out.put_new(f"{name}.csv", as_csv(decode(store.get(f"dataset/{name}.parquet"))))
    return manifest


def as_csv(rows: pa.Table) -> bytes:
    """Return `rows` as CSV with a header (RFC 4180), numbers with all their digits."""
    sink = io.BytesIO()
    flat = [_flat(rows.column(name)) for name in rows.column_names]
    pyarrow.csv.write_csv(pa.table(dict(zip(rows.column_names, flat, strict=True))), sink)
    return sink.getvalue()


def card(manifest: Manifest, about: About) -> str:
    """Return the dataset card: front matter that names a configuration per table, and what a reader must know."""
    head = yaml.safe_dump(_front(manifest, about), sort_keys=False, allow_unicode=True)
    facts = "\n".join(f"| {key} | {value} |" for key, value in about.facts.items())
    tables = "\n".join(_section(name, file) for name, file in manifest.files.items())
    return (
        f"---\n{head}---\n\n# {about.title}\n\n{about.question}\n\n| | |\n| --- | --- |\n{facts}\n"
        f"| root hash | `{manifest.root}` |\n\n"
        "The files in `data` are byte for byte those of the closed study. `manifest.json` gives the SHA-256 and the "
        "number of rows of each; the root hash is the SHA-256 of that list, and changes if any row does.\n\n"
        f'```python\nfrom datasets import load_dataset\n\nrows = load_dataset("{about.name}", "scores", '
        'split="train")\n```\n\n'
        "Missing is null, and the column `reason` or `note` says why. Log-likelihoods and entropies are in nats.\n\n"
        f"## Tables\n\n{tables}"
    )


def _front(manifest: Manifest, about: About) -> Mapping[str, object]:
    """Return the metadata of the card; rows are one split, which the hub calls train."""
    total = sum(file.rows for file in manifest.files.values())
    return {
        "pretty_name": about.title,
        "language": ["en"],
        "tags": ["language-models", "activation-steering", "controlled-experiment", "neuromod"],
        "size_categories": [next((label for top, label in _SIZES.items() if total < top), "n>10M")],
        "configs": [
            {"config_name": name, "data_files": [{"split": "train", "path": f"data/{name}.parquet"}]}
            for name in manifest.files
        ],
    }


def _section(name: str, file: File) -> str:
    columns = "\n".join(
        f"| `{field.name}` | {field.type} | {'may be missing' if field.nullable else 'always given'} |"
        for field in SCHEMAS[name]
    )
    return f"### {name} ({file.rows} rows)\n\n| column | type | |\n| --- | --- | --- |\n{columns}\n"


def _flat(column: pa.ChunkedArray) -> pa.Array | pa.ChunkedArray:
    """Return a column of lists as JSON texts, and any other as it is."""
    if not pa.types.is_list(column.type):
        return column
    return pa.array([None if cell is None else json.dumps(cell) for cell in column.to_pylist()], pa.string())


def _fresh(folder: Path) -> LocalStore:
    """Return the store of a folder that is new or empty."""
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise ConfigError(f"{folder} exists and is not an empty folder; an export overwrites nothing.")
    return LocalStore(folder.absolute())
