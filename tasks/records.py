"""Looking after the records of runs, in folders and buckets alike: sweep, compact, query, export, test the place."""

from __future__ import annotations

import json
import secrets
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path

import pyarrow as pa

from neuromod_core.kernel.errors import ConfigError
from neuromod_core.kernel.types import plain
from neuromod_core.store import Store, open_store
from neuromod_core.store.commits import commits, read_table
from neuromod_core.store.compact import Manifest, read_manifest
from neuromod_core.store.export import About, export_csv, export_hf
from neuromod_core.store.files import read_file
from neuromod_core.store.selftest import selftest
from neuromod_core.store.sweep import orphans, sweep
from neuromod_core.store.tables import SCHEMAS
from neuromod_core.trial.archive import PLAN, Archive
from neuromod_core.trial.close import close, judge

Row = Mapping[str, object]
_TEXT, _COUNT = pa.string(), pa.int64()
RUNS = pa.schema(
    [("run", _TEXT), ("study", _TEXT), ("model", _TEXT), ("shards", _COUNT), ("done", _COUNT), ("root", _TEXT)]
)
SHARDS = pa.schema(
    [("run", _TEXT), ("shard_id", _TEXT), ("table", _TEXT), ("sha256", _TEXT), ("rows", _COUNT), ("provenance", _TEXT)]
)
RAW = ("responses", "generations")


def tested(uri: str) -> list[Row]:
    """Try out the promises of a store with probes of their own, and return what it kept."""
    return [{"what": kept.promise, "value": kept.evidence} for kept in selftest(uri, secrets.token_hex(8))]


def swept(uri: str, *, now: float, grace: float, delete: bool) -> list[Row]:
    """Return the files of a run that no marker names, older than `grace` seconds; with `delete`, remove them."""
    store = open_store(uri)
    found = orphans(store, now=now, grace=grace)
    gone = {orphan.key for orphan in sweep(store, found)} if delete else set()
    return [
        {
            "file": orphan.key,
            "hours": round(orphan.seconds / 3600, 1),
            "bytes": orphan.size,
            "removed": orphan.key in gone,
        }
        for orphan in found
    ]


def compacted(uri: str) -> tuple[str, list[Row]]:
    """Close a complete run, or find it closed with the same rows; return its root hash and its files."""
    archive = Archive(open_store(uri))
    registration = archive.unblind()
    manifest = close(archive, registration, judge(archive, registration))
    return manifest.root, [
        {"table": name, "rows": file.rows, "sha256": file.sha256} for name, file in manifest.files.items()
    ]


def runs_at(uri: str) -> dict[str, str]:
    """Return the runs at a run or below a root, from name to URI.

    Raises:
        ConfigError: there are none.
    """
    store = open_store(uri)
    if store.holds(PLAN):
        return {uri.rstrip("/").rpartition("/")[2]: uri}
    names = [key.removesuffix(f"/{PLAN}") for key in store.keys("") if key.endswith(f"/{PLAN}")]
    if not names:
        raise ConfigError(f"{uri} is not a run, and no run is below it: no {PLAN} is there.")
    return {name: f"{uri.rstrip('/')}/{name}" for name in names}


def asked(uri: str, sql: str) -> pa.Table:
    """Return the rows of one SELECT over the tables of a run, or of all runs below a root; each has a column `run`."""
    from neuromod_core.store.query import query  # DuckDB is loaded by those who ask

    stores = {name: open_store(at) for name, at in runs_at(uri).items()}
    tables: dict[str, tuple[pa.Schema, Callable[[], pa.Table]]] = {
        name: (_with_run(schema), partial(_joined, stores, name, schema)) for name, schema in SCHEMAS.items()
    }
    tables["runs"] = (RUNS, partial(_listed, stores, RUNS, _run_rows))
    tables["shards"] = (SHARDS, partial(_listed, stores, SHARDS, _shard_rows))
    return query(sql, tables)


def exported(uri: str, folder: Path, form: str) -> Manifest:
    """Write the dataset of a closed run to a new folder, in the form `hf` or `csv`."""
    store = open_store(uri)
    return export_hf(store, folder, _about(Archive(store))) if form == "hf" else export_csv(store, folder)


def _about(archive: Archive) -> About:
    plan, registered = archive.plan(), archive.entry("registered")
    arms = ", ".join(arm.name for arm in plan.arms)
    facts = {
        "study": plan.study,
        "model": plan.model,
        "model weights (SHA-256)": f"`{plan.weights_sha256}`",
        "arms": arms,
        "units, cells": f"{len(plan.units)}, {len(plan.cells)}",
        "scales": ", ".join(plan.scales),
        "plan (SHA-256)": f"`{registered['plan']}`",
    }
    return About(plan.study, plan.title, plan.question, facts)


def _with_run(schema: pa.Schema) -> pa.Schema:
    return pa.schema([pa.field("run", _TEXT, nullable=False), *schema])


def _joined(stores: Mapping[str, Store], name: str, schema: pa.Schema) -> pa.Table:
    """Return a table of several runs, one after another."""
    parts = []
    for run, store in stores.items():
        rows = _table(store, name, schema)
        parts.append(rows.add_column(0, _with_run(schema).field("run"), pa.array([run] * rows.num_rows, _TEXT)))
    return pa.concat_tables(parts)


def _table(store: Store, name: str, schema: pa.Schema) -> pa.Table:
    """Return a table of one run: of its dataset if closed, of its shards if not, verified as it is read."""
    if store.holds("dataset/manifest.json"):
        file = read_manifest(store).files[name]
        return read_file(store, f"dataset/{name}.parquet", name=name, file=file)
    return read_table(store, name, markers=commits(store)) if name in RAW else schema.empty_table()


def _listed(stores: Mapping[str, Store], schema: pa.Schema, rows: Callable[[str, Store], Sequence[Row]]) -> pa.Table:
    return pa.Table.from_pylist([row for run, store in stores.items() for row in rows(run, store)], schema=schema)


def _run_rows(run: str, store: Store) -> list[Row]:
    archive = Archive(store)
    plan, closed = archive.public(), archive.find("closed")
    root = None if closed is None else str(closed["root"])
    about = {"run": run, "study": plan.study, "model": plan.model, "shards": plan.shards}
    return [{**about, "done": len(commits(store)), "root": root}]


def _shard_rows(run: str, store: Store) -> list[Row]:
    return [
        {
            "run": run,
            "shard_id": marker.shard_id,
            "table": name,
            "sha256": file.sha256,
            "rows": file.rows,
            "provenance": json.dumps(plain(marker.provenance), sort_keys=True),
        }
        for marker in commits(store).values()
        for name, file in marker.files.items()
    ]
