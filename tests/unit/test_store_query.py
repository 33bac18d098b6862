"""SQL over tables: what it answers, that it reads only what is named, and that it can do nothing else."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pytest

from neuromod_core.kernel.errors import ConfigError
from neuromod_core.store.query import query

SCALES = pa.table({"scale": ["a", "a", "b"], "value": [1.0, 2.0, None]})


def tables(read: list[str]) -> dict[str, tuple[pa.Schema, Callable[[], pa.Table]]]:
    """Return two tables that note that they are read."""

    def reader(name: str) -> Callable[[], pa.Table]:
        def rows() -> pa.Table:
            read.append(name)
            return SCALES

        return rows

    return {name: (SCALES.schema, reader(name)) for name in ("scores", "gates")}


def test_a_select_is_answered_and_null_is_missing() -> None:
    read: list[str] = []
    sql = "select scale, avg(value) as mean, count(value) as n from scores group by scale order by scale"
    assert query(sql, tables(read)).to_pylist() == [
        {"scale": "a", "mean": 1.5, "n": 2},
        {"scale": "b", "mean": None, "n": 0},
    ]
    assert read == ["scores"]


@pytest.mark.parametrize(
    ("sql", "named"),
    [
        ("FROM Scores", {"scores"}),
        ("with x as (select * from gates) select * from x join scores using (scale)", {"scores", "gates"}),
        ("select 1", set()),
        ("select * from query_table('sco' || 'res')", {"scores", "gates"}),
        ("describe scores", {"scores"}),
        ("show tables", set()),
    ],
)
def test_what_is_not_named_is_not_read(sql: str, named: set[str]) -> None:
    read: list[str] = []
    assert query(sql, tables(read)).num_rows > 0
    assert set(read) == named


@pytest.mark.parametrize(
    ("sql", "says"),
    [
        ("select * from scored", "Table with name scored does not exist"),
        ("select scal from scores", '"scal" not found'),
        ("selec 1", 'syntax error at or near "selec"'),
        ("", "A query is one SELECT; given: ''."),
        ("select 1; select 2", "A query is one SELECT"),
        ("drop view scores", "A query is one SELECT; given: 'drop view scores'."),
        ("create table x as select 1", "A query is one SELECT"),
        ("insert into scores values ('c', 1)", "A query is one SELECT"),
        ("set enable_external_access = true", "A query is one SELECT"),
        ("copy scores to 'x.csv'", "A query is one SELECT"),
        ("attach 'x.db'", "A query is one SELECT"),
        ("install httpfs", "A query is one SELECT"),
        ("select * from read_csv('x.csv')", "disabled by configuration"),
        ("select * from 'x.csv'", "Query: "),
        ("select * from read_text('x.csv')", "disabled by configuration"),
    ],
)
def test_anything_else_is_refused_in_one_line(
    sql: str, says: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "x.csv").write_text("secret\n1\n")
    with pytest.raises(ConfigError) as caught:
        query(sql, tables([]))
    assert says in str(caught.value)
    assert "\n" not in str(caught.value)
    assert [path.name for path in tmp_path.iterdir()] == ["x.csv"]


def test_an_error_lists_the_tables() -> None:
    with pytest.raises(ConfigError, match=r"; the tables are gates, scores\.$"):
        query("select * from nowhere", tables([]))
