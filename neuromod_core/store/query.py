"""SQL over tables, read-only: DuckDB in memory, without files, network or settings. Knows nothing of runs."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping

import duckdb
import pyarrow as pa

from neuromod_core.kernel.errors import ConfigError

_CLOSED: dict[str, str | bool | int | float | list[str]] = {
    "enable_external_access": "false",
    "autoinstall_known_extensions": "false",
    "autoload_known_extensions": "false",
    "python_enable_replacements": "false",
}
_NAMES_BY_TEXT = re.compile(r"\bquery(_table)?\s*\(", re.IGNORECASE)


def query(sql: str, tables: Mapping[str, tuple[pa.Schema, Callable[[], pa.Table]]]) -> pa.Table:
    """Return the rows of one SELECT over `tables`, each a schema and a way to read it; only what it names is read.

    Raises:
        ConfigError: more or less than one statement, one that is not a SELECT, or what DuckDB has against it.
    """
    with duckdb.connect(":memory:", config=_CLOSED) as base:
        for name, (schema, read) in tables.items():
            base.register(name, read() if _is_named(name, sql) else schema.empty_table())
        try:
            statements = base.extract_statements(sql)
            if [statement.type for statement in statements] != [duckdb.StatementType.SELECT]:
                raise ConfigError(f"A query is one SELECT; given: {' '.join(sql.split())!r}.")
            base.execute("SET lock_configuration = true")
            return base.sql(sql).to_arrow_table()
        except duckdb.Error as cause:
            raise ConfigError(f"Query: {_line(cause)}; the tables are {', '.join(sorted(tables))}.") from cause


def _is_named(table: str, sql: str) -> bool:
    """Return whether `sql` may read `table`: names it as a word, or makes up names as it runs."""
    said = re.search(rf"\b{re.escape(table)}\b", sql, re.IGNORECASE)
    return said is not None or _NAMES_BY_TEXT.search(sql) is not None


def _line(cause: duckdb.Error) -> str:
    """Return what DuckDB says, without the picture of the query below it."""
    return " ".join(str(cause).split("\n\n")[0].split()).rstrip(".!")
