"""The tables of the data model, and their one form as bytes. Knows nothing of where the bytes go.

Missing is null, NaN is refused; which column may be null is written in the schema, and why it is null in the column
`reason` or `note`. Log-likelihoods, entropies and log-probabilities are in nats.
"""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from neuromod_core.kernel.errors import DataError, IntegrityError
from neuromod_core.kernel.register import unknown

ROWS_PER_GROUP = 65_536

_TEXT, _FLAG, _COUNT, _REAL = pa.string(), pa.bool_(), pa.int32(), pa.float64()
_REALS, _SINGLES, _TOKENS = pa.list_(pa.float64()), pa.list_(pa.float32()), pa.list_(pa.int32())


def _given(kind: pa.DataType, *names: str) -> list[pa.Field]:
    """Return columns that hold a value in every row."""
    return [pa.field(name, kind, nullable=False) for name in names]


def _maybe(kind: pa.DataType, *names: str) -> list[pa.Field]:
    """Return columns in which a value may be missing."""
    return [pa.field(name, kind) for name in names]


SCHEMAS: Mapping[str, pa.Schema] = {
    "cells": pa.schema(
        [
            *_given(_TEXT, "cell_code", "unit_id", "vignette"),
            *_given(_COUNT, "paraphrase"),
            *_given(_TEXT, "option_order", "labels"),
            *_given(_COUNT, "item_wording"),
            *_given(_COUNT, "sequence", "period", "slot", "shard"),
            *_given(_TEXT, "battery"),
        ]
    ),
    "responses": pa.schema(
        [
            *_given(_TEXT, "cell_code", "instrument", "item", "reading"),
            *_maybe(_REAL, "keyed_ll", "antonym_ll", "keyed_expressed_ll", "antonym_expressed_ll"),
            *_maybe(_COUNT, "keyed_tokens", "antonym_tokens"),
            *_maybe(_REALS, "options_raw", "options_expressed"),
            *_maybe(_REAL, "option_mass"),
            *_maybe(_COUNT, "option"),
            *_maybe(_TEXT, "answer"),
            *_given(_FLAG, "valid"),
            *_maybe(_TEXT, "reason"),
            *_given(_FLAG, "unvalidated"),
        ]
    ),
    "generations": pa.schema(
        [
            *_given(_TEXT, "cell_code", "prompt"),
            *_given(_COUNT, "sample"),
            *_given(_TOKENS, "token_ids"),
            *_given(_TEXT, "text", "stop_reason"),
            *_maybe(_SINGLES, "entropy", "logprob"),
            *_maybe(_REAL, "distinct_2", "repeated_4gram_share"),
            *_given(_FLAG, "unvalidated"),
        ]
    ),
    "panel": pa.schema(
        [
            *_given(_TEXT, "cell_code", "instrument", "item", "reading"),
            *_maybe(_COUNT, "level"),
            *_maybe(_REAL, "value", "chance"),
            *_maybe(_FLAG, "event"),
            *_maybe(_REALS, "loglik", "loglik_expressed"),
            *_maybe(_TEXT, "text", "reason"),
            *_given(_FLAG, "unvalidated"),
        ]
    ),
    "telemetry": pa.schema(
        [
            *_given(_TEXT, "cell_code", "prompt"),
            *_given(_COUNT, "sample"),
            *_maybe(_SINGLES, "entropy", "surprisal", "kl", "repeated", "attention_entropy"),
            *_maybe(_REALS, "attention_mass", "spectral_power"),
            *_maybe(_TEXT, "reason"),
            *_given(_FLAG, "unvalidated"),
        ]
    ),
    "scores": pa.schema(
        [
            *_given(_TEXT, "unit_id", "arm", "member"),
            *_given(_TEXT, "scale", "reading"),
            *_maybe(_REAL, "value"),
            *_given(_COUNT, "n_items", "n_valid"),
            *_maybe(_TEXT, "reason"),
        ]
    ),
    "verdicts": pa.schema(
        [
            *_given(_TEXT, "family", "hypothesis"),
            *_maybe(_TEXT, "arm", "scale", "reading", "comparator"),
            *_maybe(_REAL, "estimate", "ci_low", "ci_high", "g_z", "statistic", "p", "p_adj"),
            *_maybe(_COUNT, "n"),
            *_given(_TEXT, "method"),
            *_given(_FLAG, "informative"),
            *_given(_TEXT, "state"),
            *_maybe(_TEXT, "note"),
        ]
    ),
    "leakage": pa.schema(
        [
            *_given(_TEXT, "arm", "scale", "reading"),
            *_maybe(_REAL, "shift", "content_free", "residual", "share"),
            *_given(_COUNT, "n"),
            *_maybe(_TEXT, "reason"),
        ]
    ),
    "gates": pa.schema(_given(_TEXT, "code", "title", "state", "evidence")),
}

SORT_KEYS: Mapping[str, tuple[str, ...]] = {
    "cells": ("cell_code",),
    "responses": ("cell_code", "instrument", "item", "reading"),
    "generations": ("cell_code", "prompt", "sample"),
    "panel": ("cell_code", "instrument", "item", "reading"),
    "telemetry": ("cell_code", "prompt", "sample"),
    "scores": ("unit_id", "arm", "member", "scale", "reading"),
    "verdicts": ("family", "hypothesis", "arm", "scale", "reading", "comparator"),
    "leakage": ("arm", "scale", "reading"),
    "gates": ("code",),
}
"""The columns that order a table's rows; together they name one row."""


def schema_of(name: str) -> pa.Schema:
    """Return the schema of the table called `name`; `UnknownName` if the data model has none."""
    if name not in SCHEMAS:
        raise unknown("table", name, SCHEMAS)
    return SCHEMAS[name]


def table(name: str, rows: Sequence[Mapping[str, object]]) -> pa.Table:
    """Return `rows` as the table called `name`; every row names every column of its schema and no other.

    Raises:
        DataError: an unknown or missing column, a value of another type, a null where one must be given, or NaN.
    """
    schema = schema_of(name)
    for number, row in enumerate(rows):
        _check_columns(row, set(schema.names), f"table {name!r}, row {number}")
    columns = [_column([row[field.name] for row in rows], field, f"table {name!r}") for field in schema]
    return conform(name, pa.Table.from_arrays(columns, schema=schema))


def conform(name: str, rows: pa.Table) -> pa.Table:
    """Return `rows` if they follow the schema of the table called `name`; `DataError` otherwise."""
    schema = schema_of(name)
    if not rows.schema.equals(schema):
        raise DataError(f"Table {name!r} has the columns ({_listed(rows.schema)}); its schema is ({_listed(schema)}).")
    for field in schema:
        _check_values(rows.column(field.name), field, f"table {name!r}")
    return rows


def ordered(rows: pa.Table, by: Sequence[str]) -> pa.Table:
    """Return `rows` sorted by the columns `by` (nulls last); `DataError` if two rows share a key."""
    names = list(by)
    kinds = rows.group_by(names, use_threads=False).aggregate([([], "count_all")])
    twice = kinds.filter(pc.greater(kinds.column("count_all"), 1)).slice(0, 1).to_pylist()
    if twice:
        key = ", ".join(f"{name} = {twice[0][name]!r}" for name in names)
        raise DataError(f"{twice[0]['count_all']} rows have the key ({key}); a key names one row.")
    return rows.sort_by([(name, "ascending") for name in names])


def encode(rows: pa.Table, by: Sequence[str]) -> bytes:
    """Return `rows`, sorted by the columns `by`, as Parquet: the same rows give the same bytes, whatever their order.

    The bytes hold no metadata but the types and the version of the library that wrote them.
    """
    sink = io.BytesIO()
    pq.write_table(
        ordered(rows, by),
        sink,
        row_group_size=ROWS_PER_GROUP,
        compression="zstd",
        compression_level=3,
        store_schema=False,
    )
    return sink.getvalue()


def decode(data: bytes) -> pa.Table:
    """Return the rows that `encode` made into `data`; `IntegrityError` if it is not Parquet."""
    try:
        return pq.ParquetFile(pa.BufferReader(data)).read()
    except (pa.ArrowException, OSError) as cause:
        raise IntegrityError(f"{len(data)} bytes are not a Parquet table: {_first_line(cause)}") from cause


def _check_columns(row: Mapping[str, object], names: set[str], where: str) -> None:
    wrong = [
        *(f"{name!r} is missing" for name in sorted(names - row.keys())),
        *(f"{name!r} is not known" for name in sorted(row.keys() - names)),
    ]
    if wrong:
        raise DataError(f"Column {', '.join(wrong)}; allowed are {', '.join(sorted(names))}. ({where})")


def _column(values: list[object], field: pa.Field, where: str) -> pa.Array:
    """Return `values` as one column; Arrow itself would cut 1.5 to an integer 1 without a word."""
    at = f"{where}, column {field.name!r}"
    whole = pa.types.is_integer(_leaf(field.type))
    try:
        column = pa.array(values, field.type)
        found = pa.array(values).type if whole else field.type
    except (pa.ArrowException, OverflowError) as cause:
        raise DataError(f"Not {field.type}: {_first_line(cause)}. ({at})") from cause
    if whole and pa.types.is_floating(_leaf(found)):
        raise DataError(f"Not {field.type}: some values are {_leaf(found)}. ({at})")
    return column


def _check_values(column: pa.ChunkedArray, field: pa.Field, where: str) -> None:
    at = f"{where}, column {field.name!r}"
    if column.null_count and not field.nullable:
        raise DataError(f"Row {pc.index(column.is_null(), True)} is null; this column is always given. ({at})")
    leaves = pc.list_flatten(column) if pa.types.is_list(field.type) else column
    if pa.types.is_floating(leaves.type) and pc.any(pc.is_nan(leaves)).as_py():
        raise DataError(f"Some value is NaN; missing is null, with a reason. ({at})")


def _leaf(kind: pa.DataType) -> pa.DataType:
    """Return the type of the numbers in a column: its own, or that of its lists' elements."""
    return kind.value_type if pa.types.is_list(kind) else kind


def _listed(schema: pa.Schema) -> str:
    return ", ".join(f"{field.name} {field.type}{'' if field.nullable else ' given'}" for field in schema)


def _first_line(cause: BaseException) -> str:
    return str(cause).splitlines()[0].rstrip(".")
