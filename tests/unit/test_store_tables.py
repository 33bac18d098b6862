"""Tables: strict columns, and one form as bytes whatever the order, the chunks or the metadata of the rows."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from neuromod_core.kernel.errors import DataError, IntegrityError, UnknownName
from neuromod_core.kernel.rng import rng
from neuromod_core.store.tables import ROWS_PER_GROUP, SCHEMAS, SORT_KEYS, decode, encode, ordered, table

Row = dict[str, object]


def value(kind: pa.DataType, number: int) -> object:
    """Return a value of `kind` that depends on `number`."""
    if pa.types.is_list(kind):
        return [value(kind.value_type, number + k) for k in range(number % 4)]
    if pa.types.is_boolean(kind):
        return number % 2 == 0
    if pa.types.is_floating(kind):
        return number / 8
    return number if pa.types.is_integer(kind) else f"text {number:03}"


def rows_of(name: str, count: int) -> list[Row]:
    """Return `count` distinct rows of a table; every third has nulls wherever they are allowed outside the key."""
    fields = list(SCHEMAS[name])
    free = {field.name for field in fields if field.nullable} - set(SORT_KEYS[name])
    return [
        {f.name: None if f.name in free and number % 3 == 0 else value(f.type, number) for f in fields}
        for number in range(count)
    ]


def shuffled(rows: list[Row], seed: int) -> list[Row]:
    return [rows[i] for i in rng(seed, "shuffle").permutation(len(rows))]


@pytest.mark.parametrize("name", SCHEMAS)
@pytest.mark.parametrize("count", [0, 1, 50])
def test_rows_survive_the_bytes(name: str, count: int) -> None:
    rows = rows_of(name, count)
    back = decode(encode(table(name, shuffled(rows, 1)), SORT_KEYS[name]))
    assert back.schema.equals(SCHEMAS[name])
    assert back.to_pylist() == rows


@pytest.mark.parametrize("name", SCHEMAS)
def test_same_rows_give_the_same_bytes(name: str) -> None:
    rows, by = rows_of(name, 40), SORT_KEYS[name]
    once = encode(table(name, rows), by)
    assert encode(table(name, shuffled(rows, 2)), by) == once
    assert encode(pa.concat_tables([table(name, rows[:7]), table(name, rows[7:])]), by) == once
    assert encode(table(name, rows_of(name, 60)).slice(0, 40), by) == once
    assert encode(table(name, rows).replace_schema_metadata({"pandas": "{}", "host": "a"}), by) == once
    assert encode(decode(once), by) == once
    assert encode(table(name, rows[1:]), by) != once


def test_same_rows_give_the_same_bytes_beyond_one_row_group() -> None:
    codes = pa.array([f"G{number:05}" for number in range(ROWS_PER_GROUP + 1000)])
    rows = pa.Table.from_arrays([codes] * 4, schema=SCHEMAS["gates"])
    parts = [rows.slice(40_000), rows.slice(7, 39_993), rows.slice(0, 7)]
    once = encode(rows, SORT_KEYS["gates"])
    assert pq.ParquetFile(pa.BufferReader(once)).num_row_groups == 2
    assert encode(pa.concat_tables(parts), SORT_KEYS["gates"]) == once


def test_any_changed_value_changes_the_bytes() -> None:
    rows = rows_of("responses", 3)
    once = encode(table("responses", rows), SORT_KEYS["responses"])
    for field in SCHEMAS["responses"]:
        changed = [*rows[:1], {**rows[1], field.name: value(field.type, 202)}, *rows[2:]]
        assert encode(table("responses", changed), SORT_KEYS["responses"]) != once, field.name


def test_bytes_name_no_clock_host_or_pandas() -> None:
    data = encode(table("gates", rows_of("gates", 3)), SORT_KEYS["gates"])
    assert not any(word in data for word in (b"pandas", b"ARROW:schema", b"key_value"))


def test_two_rows_of_one_key_are_refused() -> None:
    rows = rows_of("generations", 3)
    with pytest.raises(DataError) as caught:
        encode(table("generations", [*rows, rows[1]]), SORT_KEYS["generations"])
    assert str(caught.value) == (
        "2 rows have the key (cell_code = 'text 001', prompt = 'text 001', sample = 1); a key names one row."
    )


def test_members_order_the_rows_of_an_arm_and_name_one_row() -> None:
    rows = [{**row, "member": member} for row, member in zip(rows_of("scores", 2), ("07", ""), strict=True)]
    same = [{**row, "unit_id": "u", "arm": "a", "scale": "s", "reading": "r"} for row in rows]
    assert ordered(table("scores", same), SORT_KEYS["scores"]).column("member").to_pylist() == ["", "07"]
    with pytest.raises(DataError, match=r"2 rows have the key .*member = '07'"):
        ordered(table("scores", [same[0], same[0]]), SORT_KEYS["scores"])


def test_every_key_is_made_of_columns() -> None:
    assert SORT_KEYS.keys() == SCHEMAS.keys()
    assert all(set(SORT_KEYS[name]) <= set(SCHEMAS[name].names) for name in SCHEMAS)


GATE: Row = {"code": "G1", "title": "identity", "state": "pass", "evidence": "0 of 12 differ"}
CELL = rows_of("cells", 1)[0]
RESPONSE = rows_of("responses", 2)[1]
GENERATION = rows_of("generations", 2)[1]


def broken() -> Iterator[tuple[str, Mapping[str, object], str]]:
    """Yield a table, a row that breaks its schema, and what the error says."""
    no_title = {key: item for key, item in GATE.items() if key != "title"}
    yield (
        "gates",
        no_title,
        "Column 'title' is missing; allowed are code, evidence, state, title. (table 'gates', row 0)",
    )
    yield "gates", {**GATE, "note": ""}, "Column 'note' is not known; allowed are code, evidence, state, title."
    yield (
        "gates",
        {**GATE, "state": None},
        "Row 0 is null; this column is always given. (table 'gates', column 'state')",
    )
    yield "gates", {**GATE, "code": 1}, "Not string: "
    yield "cells", {**CELL, "slot": 1.5}, "Not int32: some values are double. (table 'cells', column 'slot')"
    yield "cells", {**CELL, "slot": True}, "Not int32: "
    yield "cells", {**CELL, "slot": "1"}, "Not int32: "
    yield "cells", {**CELL, "slot": 2**31}, "Not int32: "
    yield "cells", {**CELL, "slot": 2**70}, "Not int32: "
    yield "responses", {**RESPONSE, "valid": 1}, "Not bool: "
    yield "responses", {**RESPONSE, "keyed_ll": "-1"}, "Not double: "
    yield "responses", {**RESPONSE, "keyed_ll": float("nan")}, "Some value is NaN; missing is null, with a reason."
    yield "responses", {**RESPONSE, "options_raw": [0.0, float("nan")]}, "Some value is NaN; "
    yield "generations", {**GENERATION, "token_ids": [1.5]}, "Not list<item: int32>: some values are double."


@pytest.mark.parametrize(("name", "row", "says"), list(broken()))
def test_a_row_that_breaks_the_schema_is_refused(name: str, row: Mapping[str, object], says: str) -> None:
    with pytest.raises(DataError) as caught:
        table(name, [row])
    assert str(caught.value).startswith(says)
    assert f"table {name!r}" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_values_of_numpy_and_an_impossible_option_are_accepted() -> None:
    tokens = np.array([1, 2], dtype=np.int64)
    generation = {
        **GENERATION,
        "token_ids": tokens,
        "entropy": np.array([0.5], dtype=np.float32),
        "sample": np.int64(3),
    }
    row = table("generations", [generation]).to_pylist()[0]
    assert (row["token_ids"], row["entropy"], row["sample"]) == ([1, 2], [0.5], 3)
    response = {**RESPONSE, "options_expressed": [0.0, float("-inf")]}
    assert table("responses", [response]).to_pylist()[0]["options_expressed"] == [0.0, float("-inf")]


def test_an_unknown_table_is_refused_with_the_nearest_name() -> None:
    with pytest.raises(UnknownName, match=r"No table is called 'response'\. Did you mean 'responses'\?"):
        table("response", [])


@pytest.mark.parametrize("data", [b"", b"PAR1", b"PAR1 not a table PAR1"])
def test_other_bytes_are_no_table(data: bytes) -> None:
    with pytest.raises(IntegrityError, match=f"^{len(data)} bytes are not a Parquet table: [^\n]+$"):
        decode(data)
