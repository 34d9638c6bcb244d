"""Workbooks of Excel: sheets, ranges and headers; dates as dates, and no cell with an error is read as empty."""

from __future__ import annotations

import datetime as dt
import logging
import typing as t
import zipfile

import pytest
from tap_csv import inspection

if t.TYPE_CHECKING:
    from pathlib import Path

    from tap_csv_harness import Sync

MAIN = "http://schemas.openxmlformats.org/spreadsheetml/2006/main"
RELATIONS = "http://schemas.openxmlformats.org/package/2006/relationships"
OFFICE = "http://schemas.openxmlformats.org/officeDocument/2006/relationships"
DATE, MOMENT, HOUR = 1, 2, 3
"""Styles of cells."""


class Shown(t.NamedTuple):
    """A cell that is no plain text or number."""

    value: str
    style: int = 0
    kind: str = "n"
    formula: str = ""


def book(path: Path, *, merged: str = "", **sheets: dict[str, t.Any]) -> Path:
    """Write a workbook, of sheets whose cells are given by their references."""
    parts = "".join(f'<sheet name="{name}" sheetId="{n}" r:id="r{n}"/>' for n, name in enumerate(sheets, 1))
    links = "".join(
        f'<Relationship Id="r{n}" Type="{OFFICE}/worksheet" Target="worksheets/s{n}.xml"/>'
        for n, _ in enumerate(sheets, 1)
    )
    formats = '<xf numFmtId="0"/><xf numFmtId="14"/><xf numFmtId="22"/><xf numFmtId="21"/>'
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr(
            "_rels/.rels",
            f'<Relationships xmlns="{RELATIONS}">'
            f'<Relationship Id="a" Type="{OFFICE}/officeDocument" Target="xl/workbook.xml"/></Relationships>',
        )
        archive.writestr(
            "xl/workbook.xml", f'<workbook xmlns="{MAIN}" xmlns:r="{OFFICE}"><sheets>{parts}</sheets></workbook>'
        )
        archive.writestr(
            "xl/_rels/workbook.xml.rels",
            f'<Relationships xmlns="{RELATIONS}">{links}'
            f'<Relationship Id="s" Type="{OFFICE}/styles" Target="styles.xml"/></Relationships>',
        )
        archive.writestr("xl/styles.xml", f'<styleSheet xmlns="{MAIN}"><cellXfs>{formats}</cellXfs></styleSheet>')
        for number, cells in enumerate(sheets.values(), 1):
            rows: dict[int, list[str]] = {}
            for name, one in cells.items():
                rows.setdefault(int(name.lstrip("ABCDEFGHIJ")), []).append(_cell(name, one))
            data = "".join(f'<row r="{row}">{"".join(them)}</row>' for row, them in sorted(rows.items()))
            more = f'<mergeCells><mergeCell ref="{merged}"/></mergeCells>' if merged else ""
            archive.writestr(
                f"xl/worksheets/s{number}.xml",
                f'<worksheet xmlns="{MAIN}"><sheetData>{data}</sheetData>{more}</worksheet>',
            )
    return path


def _cell(name: str, value: Shown | str | float) -> str:
    if isinstance(value, str):
        return f'<c r="{name}" t="inlineStr"><is><t>{value}</t></is></c>'
    shown = value if isinstance(value, Shown) else Shown(repr(value))
    formula = f"<f>{shown.formula}</f>" if shown.formula else ""
    return f'<c r="{name}" s="{shown.style}" t="{shown.kind}">{formula}<v>{shown.value}</v></c>'


CELLS: dict[str, t.Any] = {
    **dict(
        zip(("A1", "B1", "C1", "D1", "E1", "F1", "G1"), ("id", "day", "at", "sum", "ok", "code", "hour"), strict=True)
    ),
    "A2": 1,
    "B2": Shown("45351", DATE),
    "C2": Shown("45351.5", MOMENT),
    "D2": Shown("19.99", formula="1+1"),
    "E2": Shown("1", kind="b"),
    "F2": "00501",
    "G2": Shown("0.5", HOUR),
    "A4": 2,
    "B4": Shown("1", DATE),
    "D4": 0.1,
    "F4": "two\nlines",
}


@pytest.mark.parametrize("batched", [False, True])
def test_cells(sync: Sync, tmp_path: Path, batched: bool) -> None:
    path = book(tmp_path / "in.data", One=CELLS)
    settings: dict[str, t.Any] = {"add_metadata_columns": True}
    if batched:
        settings["batch_config"] = {"encoding": {"format": "parquet"}, "storage": {"root": str(tmp_path)}}
    got = sync(path, settings=settings)
    assert got.error is None
    types = {name: one.get("format") or one["type"][0] for name, one in got.types.items()}
    assert (types["id"], types["day"], types["at"], types["ok"]) == ("integer", "date", "date-time", "boolean")
    rows = got.rows() if batched else [tuple(one.values()) for one in got.records]
    assert [(row[0], row[5], row[-1]) for row in rows] == [(1, "00501", 2), (2, "two\nlines", 4)]
    day = dt.date(2024, 2, 29) if batched else "2024-02-29"
    assert rows[0][1] == day
    assert [str(row[3]) for row in rows] == (["19.99", "0.10"] if batched else ["19.99", "0.1"])
    assert sync(path, settings=settings, state=got.state).of_type("RECORD" if not batched else "BATCH") == []


def test_sheets_ranges_and_headers(sync: Sync, tmp_path: Path) -> None:
    cells = {"A1": "a title", "B3": "id", "C3": "a", "B4": 1, "C4": "x", "B5": 2, "C5": "y", "E9": "a note"}
    path = book(tmp_path / "in.xlsx", One=cells, Two={"A1": "id", "A2": 7})
    assert "has 2 sheets: set `sheet` to one of One, Two" in str(sync(path).error)
    assert "has no sheet 'Three'" in str(sync(path, sheet="Three").error)
    assert sync(path, sheet="Two").records == [{"id": "7"}]
    assert "sheet 'One', line 3: column E has values, and no name" in str(sync(path, sheet="One", header_row=3).error)
    expected = [{"id": "1", "a": "x"}, {"id": "2", "a": "y"}]
    assert sync(path, sheet="One", range="B3:C9").records == expected
    assert sync(path, sheet="One", range="A1:D9", header_row=3).records == expected
    assert "range: such as B2:F99" in str(sync(path, range="B").error)
    assert "`skip` means nothing" in str(sync(path, sheet="One", skip=2).error)
    assert "line 3, column 'b': the key is no column" in str(sync(path, sheet="One", range="B3:C9", keys=["b"]).error)


def test_cells_with_errors(sync: Sync, tmp_path: Path) -> None:
    path = book(tmp_path / "in.xlsx", One={"A1": "id", "A2": 1, "A3": Shown("#DIV/0!", kind="e", formula="1/0")})
    got = sync(path)
    assert str(got.error) == f"{path}, sheet 'One', line 3: cell A3 holds an error of Excel"
    assert sync(path, range="A1:A2").records == [{"id": "1"}]


def test_merged_cells(sync: Sync, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = book(tmp_path / "in.xlsx", merged="B2:B3", One={"A1": "id", "B1": "a", "A2": 1, "B2": "x", "A3": 2})
    with caplog.at_level(logging.INFO):
        assert sync(path).records == [{"id": "1", "a": "x"}, {"id": "2", "a": None}]
    assert "sheet 'One': 1 cells are merged into others, and read as empty" in caplog.text


def test_numbers_that_excel_rounds_are_named(sync: Sync, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = book(tmp_path / "in.xlsx", One={"A1": "id", "A2": 1234567890123456789})
    sync(path)
    assert "sheet 'One': a number of more than 15 digits is rounded" in caplog.text
    assert [one[:37] for one in inspection.inspect(str(path)).hints] == ["a number of more than 15 digits is ro"]


def test_workbooks_that_are_broken(sync: Sync, tmp_path: Path) -> None:
    path = book(tmp_path / "in.xlsx", One=CELLS)
    assert "is a damaged zip file, or cut off" in str(sync(path.read_bytes()[:-40]).error)
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("xl/workbook.xml", "<workbook")
    assert "is no workbook that can be read" in str(sync(path).error)


@pytest.mark.parametrize(
    ("first", "last"),
    [
        ('<c r="B1"><v>1</v></c>', '<row r="1048576"><c r="XFD1048576"><v>1</v></c></row>'),
        ("<c><v>1</v></c>" * 16_383, '<row r="1048576"><c><v>1</v></c></row>'),
        ("<c><v>1</v></c>" * 16_383, '<row><c r="B1048576"><v>1</v></c></row>'),
    ],
)
def test_two_cells_far_apart_fill_no_memory(sync: Sync, tmp_path: Path, first: str, last: str) -> None:
    path = tmp_path / "in.xlsx"
    sheet = f'<row r="1"><c r="A1" t="inlineStr"><is><t>id</t></is></c>{first}</row>{last}'
    _replace(book(tmp_path / "made.xlsx", One=CELLS), path, f"<sheetData>{sheet}</sheetData>")
    assert "sheet 'One': reaches to row 1,048,576 and column " in str(sync(path).error)


def test_a_cell_far_off_that_has_a_format_alone_is_none(sync: Sync, tmp_path: Path) -> None:
    path = tmp_path / "in.xlsx"
    cells = '<c r="A1" t="inlineStr"><is><t>id</t></is></c></row><row r="2"><c r="A2"><v>1</v></c></row>'
    far = '<row r="1048576"><c r="XFD1048576" s="1"/></row>'
    _replace(book(tmp_path / "made.xlsx", One=CELLS), path, f'<sheetData><row r="1">{cells}{far}</sheetData>')
    got = sync(path)
    assert got.error is None
    assert len(got.records) == 1


def test_a_workbook_that_is_another_one_as_well_is_refused(sync: Sync, tmp_path: Path) -> None:
    path = book(tmp_path / "in.ods", One=CELLS)
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr("content.xml", "<office/>")
    assert "is a workbook of another kind" in str(sync(path).error)


def _replace(old: Path, new: Path, sheet: str) -> None:
    """Copy a workbook with another content of its sheet."""
    with zipfile.ZipFile(old) as archive, zipfile.ZipFile(new, "w", zipfile.ZIP_DEFLATED) as copy:
        for name in archive.namelist():
            text = archive.read(name)
            is_sheet = name.startswith("xl/worksheets/")
            copy.writestr(name, f'<worksheet xmlns="{MAIN}">{sheet}</worksheet>' if is_sheet else text)


@pytest.mark.parametrize("formula", ["", "1+1"])
@pytest.mark.parametrize(
    ("value", "style"),
    [("60", DATE), ("60.5", MOMENT), ("-1", DATE), ("-0.5", HOUR), ("0.999999999", HOUR), ("9.999999999E-1", HOUR)],
)
def test_a_time_that_no_calendar_has(sync: Sync, tmp_path: Path, value: str, style: int, formula: str) -> None:
    cells = {
        "A1": "id",
        "B1": "at",
        "A2": 1,
        "B2": Shown("61", DATE),
        "A3": 2,
        "B3": Shown(value, style, "n", formula),
    }
    got = sync(book(tmp_path / "in.xlsx", One=cells))
    assert "line 3: cell B3 holds a time that no calendar has" in str(got.error)


def test_numbers_and_times_that_look_like_such_a_time(sync: Sync, tmp_path: Path) -> None:
    numbers = ("-1", "60", "0.999999999")
    cells = {"A1": "id", "B1": "at", "C1": "sum", **{f"A{n}": n for n in (2, 3, 4)}}
    for row, (number, time) in enumerate(zip(numbers, ("0", "0.99999", "0.5"), strict=True), 2):
        cells |= {f"B{row}": Shown(time, HOUR), f"C{row}": Shown(number)}
    got = sync(book(tmp_path / "in.xlsx", One=cells), settings={"infer_types": False})
    assert got.error is None
    assert [one["sum"] for one in got.records] == [*numbers]
    assert [one["at"] for one in got.records] == ["00:00:00", "23:59:59.136000", "12:00:00"]
