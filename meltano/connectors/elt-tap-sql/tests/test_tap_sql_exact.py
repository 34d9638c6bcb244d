"""Random tables and values come out of the target as they stand in PostgreSQL, by RECORD and by BATCH."""

from __future__ import annotations

import base64
import datetime as dt
import json
import typing as t
from decimal import Decimal

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tap_sql_harness import batched
from test_tap_sql_loads import load, rows

if t.TYPE_CHECKING:
    from pathlib import Path

    from tap_sql_harness import Source

TEXT = st.text(st.characters(blacklist_categories=["Cs"], blacklist_characters="\0"), max_size=12)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | TEXT,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXT, inner, max_size=3),
    max_leaves=5,
)
YEARS = {"min_value": dt.datetime(1, 1, 2), "max_value": dt.datetime(9999, 12, 30)}  # noqa: DTZ001 - of columns without a zone
KINDS: dict[str, st.SearchStrategy[t.Any]] = {
    "bigint": st.integers(-(2**63), 2**63 - 1),
    "numeric(38,9)": st.decimals(-(10**28), 10**28, places=9, allow_nan=False, allow_infinity=False),
    "numeric": st.decimals(allow_nan=False, allow_infinity=False),
    "double precision": st.floats(),
    "boolean": st.booleans(),
    "date": st.dates(),
    "timestamp": st.datetimes(**YEARS),
    "timestamptz": st.datetimes(**YEARS, timezones=st.just(dt.UTC)),
    "time": st.times(),
    "text": TEXT,
    "bytea": st.binary(max_size=9),
    "jsonb": JSON.filter(lambda one: one is not None and "\\u0000" not in json.dumps(one)),
    "text[]": st.lists(TEXT | st.none(), max_size=4),
    "uuid": st.uuids(),
}
NAMES = st.text(
    st.characters(whitelist_categories=["L", "N"], whitelist_characters=" .\"'%{}-"), min_size=1, max_size=9
)


@st.composite
def tables(draw: st.DrawFn) -> tuple[dict[str, str], list[list[t.Any]]]:
    """Columns with their types, and rows."""
    names = draw(st.lists(NAMES, min_size=1, max_size=6, unique_by=str.lower).filter(_are_distinct))
    columns = {name: draw(st.sampled_from(sorted(KINDS))) for name in names}
    row = st.tuples(*(st.none() | KINDS[kind] for kind in columns.values()))
    return columns, [list(one) for one in draw(st.lists(row, max_size=8))]


def _are_distinct(names: list[str]) -> bool:
    return "id" not in map(str.lower, names) and len({one.upper() for one in names}) == len(names)


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(tables())
def test_values_are_what_they_were(pg: Source, postgres_server: t.Any, tmp_path: Path, table: t.Any) -> None:
    columns, values = table
    quoted = {name: '"' + name.replace('"', '""') + '"' for name in columns}
    pg.execute("drop table if exists t")
    typed = ", ".join(f"{quoted[name]} {kind}" for name, kind in columns.items())
    pg.execute(f"create table t (id int primary key, {typed})")
    with postgres_server[1].cursor() as cursor:
        for number, row in enumerate(values):
            given_values = [number, *map(_sent, row, columns.values())]
            cursor.execute(f"insert into t values ({', '.join(['%s'] * len(given_values))})", given_values)
    for place, options in enumerate(({}, batched(tmp_path))):
        warehouse = tmp_path / f"{place}.duckdb"
        warehouse.unlink(missing_ok=True)
        load(pg, warehouse, pg.only("t"), tmp_path, **options)
        if not values:
            continue
        chosen = ", ".join('"' + name.lower().replace('"', '""') + '"' for name in columns)
        got = rows(warehouse, f"select {chosen} from raw.t order by id")
        for was, now in zip(values, got, strict=True):
            for one, other, kind in zip(was, now, columns.values(), strict=True):
                assert _same(one, other, kind), (kind, one, other, options)


def test_numbers_within_json_keep_their_digits(pg: Source, tmp_path: Path) -> None:
    texts = [
        '{"a": 0.1234567890123456789012345,\n "b": [1.10, "x\\n"]}',
        "12345678901234567890123.45",
        "1E400",
        '"é"',
    ]
    pg.execute('create table t (id int primary key, "a""b" json, c jsonb, d numeric(38,37), e timestamptz)')
    for number, text in enumerate(texts):
        values = f"'{text}', '{text}', 9.1234567890123456789012345678901234567, '2024-01-01 00:00Z'"
        pg.execute(f"insert into t values ({number}, {values}), ({number + 9}, null, null, null, null)")
    for place, options in enumerate(({}, batched(tmp_path))):
        warehouse = tmp_path / f"{place}.duckdb"
        load(pg, warehouse, pg.only("t"), tmp_path, **options)
        got = rows(warehouse, 'select "a""b", c, d, e from raw.t order by id')
        for text, (a, c, d, e) in zip(texts, got, strict=False):
            for one in (a, c):
                assert json.loads(one, parse_float=Decimal) == json.loads(text, parse_float=Decimal), options
            assert (str(d), e) == ("9.1234567890123456789012345678901234567", dt.datetime.fromisoformat("2024-01-01"))
        assert got[len(texts) :] == [(None,) * 4] * len(texts)


def _sent(value: t.Any, kind: str) -> t.Any:
    if kind == "jsonb" and value is not None:
        return json.dumps(value)
    return str(value) if kind == "uuid" and value is not None else value


def _same(was: t.Any, now: t.Any, kind: str) -> bool:
    if was is None or now is None:
        return was is now
    if kind == "double precision":
        return repr(was) == repr(now) or was == now
    if kind == "numeric":
        return Decimal(now) == was
    if kind in {"jsonb", "text[]"}:
        return bool(json.loads(now) == was)
    wanted = {
        "bytea": lambda: base64.b64encode(was).decode(),
        "timestamptz": lambda: was.replace(tzinfo=None),
        "uuid": lambda: str(was),
    }
    return bool(now == wanted.get(kind, lambda: was)())
