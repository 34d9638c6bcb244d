"""`elt inspect`: what it finds of a file, and what it writes is what loads it."""

from __future__ import annotations

import contextlib
import gzip
import json
import subprocess
import sys
import typing as t
import zipfile

import openpyxl
import pytest
import yaml
from workspace import BIN, ROOT, apart, copy

from elt import layout
from elt.errors import ConfigError, DataError
from elt.sources import inspection, meltano_yml

if t.TYPE_CHECKING:
    from pathlib import Path

SHOPS = "id;Straße;seit;Miete\n" + "".join(f"{n};Weg {n};2024-01-{n:02};{n}.50\n" for n in range(1, 29))


def look(path: Path, **more: t.Any) -> dict[str, t.Any]:
    return inspection.inspect(path, **more)


@pytest.fixture
def project(tmp_path, monkeypatch):
    """Copies of meltano.yml and of a dbt project to write to."""
    for name, path in (
        ("MELTANO_PROJECT", tmp_path / "meltano"),
        ("MELTANO_YML", tmp_path / "meltano" / "meltano.yml"),
        ("DBT_PROJECT", tmp_path / "transform"),
        ("EXTRACT", tmp_path / "extract"),
    ):
        monkeypatch.setattr(layout, name, path)
    (tmp_path / "meltano").mkdir()
    (tmp_path / "extract").mkdir()
    (tmp_path / "transform" / "models" / "staging").mkdir(parents=True)
    layout.MELTANO_YML.write_text((ROOT / "meltano" / "meltano.yml").read_text())
    return tmp_path


@pytest.mark.parametrize(("encoding", "named"), [("utf-8", "utf-8"), ("latin-1", "cp1252"), ("utf-16", "utf-16")])
def test_encoding_delimiter_types_and_keys(tmp_path, encoding, named):
    path = tmp_path / "shops.csv"
    path.write_text(SHOPS, encoding=encoding)
    found = look(path)
    assert (found["encoding"], found["delimiter"], found["rows"], found["is_whole"]) == (named, ";", 28, True)
    assert [(one["name"], one["type"]) for one in found["columns"]] == [
        ("id", "integer"),
        ("Straße", "string"),
        ("seit", "date"),
        ("Miete", "decimal(16,2)"),
    ]
    assert found["keys"] == [["id"], ["Straße"], ["seit"], ["Miete"]]


def test_the_value_that_decided_is_the_last_that_ruled_out_a_narrower_type(tmp_path):
    path = tmp_path / "a.csv"
    path.write_text("n,t,d\n1,1,2024-01-01\n2.5,1.5,2024-01-02\n3,x,2024-01-02 10:00:00\n4.12345,2,2024-01-03\n")
    found = {one["name"]: one for one in look(path)["columns"]}
    assert (found["n"]["type"], found["n"]["line"], found["n"]["value"]) == ("number", 5, "4.12345")
    assert (found["t"]["type"], found["t"]["line"], found["t"]["value"]) == ("string", 4, "x")
    assert (found["d"]["type"], found["d"]["value"]) == ("date-time", "2024-01-02 10:00:00")


def test_what_a_load_would_refuse_is_found_beyond_the_sample(tmp_path):
    path = tmp_path / "late.csv"
    path.write_text("id,code\n" + "".join(f"{n},{n}\n" for n in range(30_000)) + "30000,00501\n")
    found = look(path)
    code = found["columns"][1]
    assert (code["type"], code["doubt"]) == ("integer", "00501")
    assert code["where"] == f"near byte {path.read_text().index('30000,00501'):,}"
    assert inspection.entry(found)["columns"] == {"code": "string"}
    assert look(path, rows=-1)["columns"][1]["type"] == "string"


def test_all_rows_are_looked_at_for_keys_and_types(tmp_path):
    """Of a file that is read in several segments: what the first one shows is not what all of them do."""
    path = tmp_path / "large.csv"
    with path.open("w") as file:
        file.write("id,once,code\n")
        file.writelines(f"{n},{n if n < 899_999 else 0},{n}{'x' * (n == 800_000)}\n" for n in range(900_000))
    found = look(path, rows=-1)
    assert (found["rows"], found["is_whole"], found["keys"]) == (900_000, True, [["id"], ["code"]])
    assert (found["columns"][2]["type"], found["columns"][2]["line"]) == ("string", 800_002)


def test_a_pair_of_columns_may_be_the_key(tmp_path):
    path = tmp_path / "lines.csv"
    path.write_text("basket,line,x\n" + "".join(f"{n // 3},{n % 3},\n" for n in range(30)))
    assert look(path)["keys"] == [["basket", "line"]]


def test_a_gzip_file_is_inspected_from_its_beginning(tmp_path):
    path = tmp_path / "a.csv.gz"
    path.write_bytes(gzip.compress(b"a\tb\n" + b"1\tx\n" * 30_000))
    found = look(path)
    assert (found["delimiter"], found["is_whole"], [one["type"] for one in found["columns"]]) == (
        "\t",
        False,
        ["integer", "string"],
    )
    assert inspection.name_of(path) == "a"


def test_what_a_load_would_refuse_is_found_in_a_compressed_file(tmp_path):
    path = tmp_path / "late.csv.gz"
    path.write_bytes(
        gzip.compress(b"id,code\n" + b"".join(b"%d,%d\n" % (n, n) for n in range(30_000)) + b"30000,nil\n")
    )
    assert look(path)["settings"] == {"null_values": ["nil"]}
    path.write_bytes(
        gzip.compress(b"id,code\n" + b"".join(b"%d,%d\n" % (n, n) for n in range(30_000)) + b"30000,0501\n")
    )
    assert look(path)["columns"][1]["doubt"] == "0501"


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "the file is empty"),
        (b"a,a\n1,2\n", "names it 2 times"),
        (b"a,b\n1,2,3\n", "line 2"),
        (b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" + bytes(600), "Excel 97 to 2003: save it as .xlsx"),
        (b'{"1": {"a": "' + b"x" * (1 << 20) + b'"}}', "rows must be objects of their own"),
        (b"<!DOCTYPE html>\n<p>Not found, sorry</p>\n", "is a page of HTML or XML"),
        (b"[1, 2, 3]", "is JSON whose elements are no objects"),
        (b'{"a": ' + b"[" * 20_000 + b"]" * 20_000 + b"}", "nested too deep"),
        (b'{"a": 1, "": 2}', "has a key without a name"),
        (None, "no such file"),
    ],
)
def test_what_cannot_be_read_is_one_line(tmp_path, content, said):
    path = tmp_path / "a.csv"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(DataError, match=f"^inspect: .*a.csv.*{said}") as error:
        look(path)
    assert "\n" not in str(error.value)


def test_several_files_are_one_entry_whose_types_fit_all_of_them(tmp_path):
    for month, amount in ((1, "5"), (2, "5.25"), (3, "x")):
        (tmp_path / f"2024-{month}.csv").write_text(f"id,amount\n{month},{amount}\n")
    found = look(t.cast("t.Any", f"{tmp_path}/2024-[12].csv"))
    assert (found["number"], found["columns"][1]["type"]) == (2, "decimal(16,2)")
    assert inspection.entry(found)["path"] == f"{tmp_path}/2024-[12].csv"
    found = look(tmp_path)
    assert (found["number"], found["columns"][1]["type"]) == (3, "string")


@pytest.mark.parametrize(
    ("named", "sheet", "table"),
    [
        ("s3://shop/2024/orders-*.csv", "", "orders"),
        ("s3://shop/orders/2024/**/*.csv", "", "orders"),
        ("s3://shop/*.csv", "", "shop"),
        ("https://host/in.csv.gz?x=1", "", "in"),
        ("/data/sales/2024-*.csv", "", "sales"),
        ("2024.csv", "", "t_2024"),
        ("Book 1.xlsx", "Q1 (net)", "book_1_q1_net"),
    ],
)
def test_the_name_of_a_table(named, sheet, table):
    assert inspection.name_of(named, sheet) == table


def test_an_address_is_refused():
    with pytest.raises(DataError, match="and files of this machine are read"):
        look(t.cast("t.Any", "ftp://host/a.csv"))


def test_what_is_written_is_added_once_and_nothing_else_changes(project, capsys):
    path = project / "extract" / "Shops 2024.csv"
    path.write_text(SHOPS, encoding="latin-1")
    before = layout.MELTANO_YML.read_text()
    found = look(path)
    inspection.write(found)
    written = layout.MELTANO_YML.read_text()
    added = yaml.safe_load(written)["plugins"]["extractors"][0]["config"]["files"][-1]
    assert added == {
        "entity": "shops_2024",
        "path": "$ELT_EXTRACT/Shops 2024.csv",
        "keys": ["id"],
        "columns": {"Miete": "decimal(16,2)"},
        "delimiter": ";",
        "encoding": "cp1252",
    }
    lines = written.splitlines()
    assert [line for line in before.splitlines() if line not in lines] == []
    assert len(lines) == len(before.splitlines()) + 7
    assert [one.table for one in meltano_yml.listed()][-1] == "shops_2024"
    source = yaml.safe_load((layout.DBT_PROJECT / "models/staging/_shops_2024__sources.yml").read_text())["sources"][
        0
    ]
    assert source["tables"][0]["columns"][:2] == [
        {"name": "id", "description": "id (integer).", "data_tests": ["not_null", "unique"]},
        {"name": "straße", "description": "Straße (string)."},
    ]
    inspection.write(found)
    assert layout.MELTANO_YML.read_text() == written
    assert capsys.readouterr().out.count("left as it is") == 2


def test_a_list_that_cannot_be_added_to_is_named(project):
    path = project / "a.csv"
    path.write_text("a\n1\n")
    layout.MELTANO_YML.write_text("plugins: {extractors: [{name: tap-csv, config: {files: []}}]}")
    with pytest.raises(ConfigError, match=r"no list `plugins: .* files` with an item a line to add to: paste"):
        inspection.write(look(path))


def test_what_it_wrote_is_loaded_by_a_run(tmp_path, state):
    """In a copy of the clone: the command, then the local run."""
    clone = tmp_path / "clone"
    copy(clone)
    (clone / ".env").write_text((ROOT / ".env").read_text())
    (clone / "meltano" / "extract" / "shops.csv").write_text(SHOPS, encoding="latin-1")
    env = apart(state)
    command = (sys.executable, "-c", "from elt.cli import main; main()")
    done = subprocess.run(
        [*command, "inspect", "meltano/extract/shops.csv", "--write"],
        cwd=clone,
        env=env,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    for words in (("seed", "--example"), ("run",)):
        done = subprocess.run([*command, *words], cwd=clone, env=env, capture_output=True, text=True)
        assert done.returncode == 0, done.stdout + done.stderr
    assert "raw.shops: 28 rows" in done.stdout


UGLY: dict[str, tuple[str, str, dict[str, t.Any], list[t.Any]]] = {
    "a bank statement": (
        "latin-1",
        'Konto;DE12\nvon;bis\n\n"Tag";"Zweck";"Betrag"\n'
        + "".join(f'"{day:02}.03.2024";"Bäcker";"-1.00{day % 10},50"\n' for day in range(1, 28))
        + "\nSaldo;1.234,56\n",
        {"skip": 3, "skip_footer": 2, "decimal_separator": ",", "thousands_separator": "."}
        | {"columns": {"Tag": "date(%d.%m.%Y)", "Betrag": "decimal(16,2)"}, "delimiter": ";", "encoding": "cp1252"},
        ["2024-03-01", "Bäcker", -1001.5],
    ),
    "a dump of MySQL": (
        "utf-8",
        "id\tname\tscore\n" + "".join(f"{n}\t\\N\t{n}\n" for n in range(1, 9)) + "9\tx\t\\N\n",
        {"null_values": ["\\N"], "delimiter": "\t", "keys": ["id"]},
        [1, None, 1],
    ),
    "a log": (
        "utf-8",
        "# v 1\ntime,path\n" + "".join(f"01/Jan/2024:10:{n:02}:00 +0100,/{n}\n" for n in range(9)) + "# end\n",
        {"comment": "#", "columns": {"time": "date-time(%d/%b/%Y:%H:%M:%S %z)"}},
        ["2024-01-01T09:00:00.000000Z", "/0"],
    ),
    "an export of Excel": (
        "utf-8-sig",
        "sep=;\r\na;b;\r\n" + "".join(f"x;{n},5 €;\r\n" for n in range(9)),
        {"decimal_separator": ",", "delimiter": ";", "columns": {"b": "money(16,2)"}},
        ["x", 0.5],
    ),
    "single quotes": (
        "utf-8",
        "id;'name'\n" + "".join(f"{n};'it''s; {n}'\n" for n in range(1, 9)),
        {"quotechar": "'", "delimiter": ";", "keys": ["id"]},
        [1, "it's; 1"],
    ),
    "quotes behind backslashes": (
        "utf-8",
        "id,name\n" + "".join(f'{n},"5\\" x, {n}"\n' for n in range(1, 9)),
        {"escapechar": "\\", "keys": ["id"]},
        [1, '5" x, 1'],
    ),
    "no header, American dates and numbers": (
        "utf-8",
        "".join(f'{n},{n % 12 + 1}/{n}/2024,"$1,000.{n:02}"\n' for n in range(1, 20)),
        {"header": False, "names": ["column_1", "column_2", "column_3"], "thousands_separator": ","}
        | {"columns": {"column_2": "date(%m/%d/%Y)", "column_3": "money(16,2)"}},
        [1, "2024-02-01", 1000.01],
    ),
    "codes that look like money": (
        "utf-8",
        "id,study,flight\n" + "".join(f"{n},PAL0708,DLH{400 + n}\n" for n in range(1, 9)),
        {"keys": ["id"]},
        [1, "PAL0708", "DLH401"],
    ),
    "a table of R": (
        "utf-8",
        "model\tyear\tp\n" + "".join(f"{n}\ta{n}\t{1990 + n}\t{n}e-04\n" for n in range(1, 9)),
        {"skip": 1, "header": False, "names": ["column_1", "model", "year", "p"], "delimiter": "\t"}
        | {"columns": {"p": "number"}},
        [1, "a1", 1991, 0.0001],
    ),
    "a header that ends with a comma": (
        "utf-8",
        "Source\n\nSeries id,Year,Value,\n" + "".join(f"LNS{n},{1990 + n},.{n}\n" for n in range(1, 9)),
        {"skip": 3, "header": False, "names": ["Series id", "Year", "Value"], "keys": ["Series id"]}
        | {"columns": {"Value": "number"}},
        ["LNS1", 1991, 0.1],
    ),
    "a null far down": (
        "utf-8",
        "id,v\n" + "".join(f"{n},{n}.5\n" for n in range(1, 1_500)) + "1500,nil\n",
        {"null_values": ["nil"], "columns": {"v": "decimal(16,2)"}, "keys": ["id"]},
        [1, 1.5],
    ),
    "a survey": (
        "utf-8",
        ",".join(["id", *(f"q{n}" for n in range(799))])
        + "\n"
        + "".join(f"{row}" + ",N/A" * 10 + f",{row}" * (789 - row % 9 // 8) + "\n" for row in range(1, 40)),
        {"ragged": "pad", "null_values": ["N/A"], "keys": ["id"]},
        [1, *[None] * 10, *[1] * 789],
    ),
    "a few rows of more fields": (
        "utf-8",
        "id,a\n" + "".join(f"{n},x\n" for n in range(1, 40)) + "40,x,y\n41,x\n42,x\n",
        {"ragged": "quarantine", "max_rejected": "5%", "keys": ["id"]},
        [1, "x"],
    ),
}


@pytest.mark.parametrize(("encoding", "text", "settings", "first"), UGLY.values(), ids=UGLY)
def test_an_ugly_file_is_loaded_by_the_entry_that_inspect_proposes(tmp_path, encoding, text, settings, first):
    path = tmp_path / "ugly.csv"
    path.write_bytes(text.encode(encoding))
    entry = inspection.entry(look(path))
    proposed = {name: value for name, value in entry.items() if name not in ("entity", "path")}
    assert {"keys": proposed["keys"], **settings} == proposed
    (tmp_path / "tap.json").write_text(json.dumps({"files": [entry]}))
    tap = [str(BIN / "tap-csv"), "--config", str(tmp_path / "tap.json")]
    done = subprocess.run(tap, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    records = [one for one in map(json.loads, done.stdout.splitlines()) if one["type"] == "RECORD"]
    assert [*records[0]["record"].values()] == first


@pytest.mark.parametrize("delimiter", [",", ";"])
def test_a_plain_file_needs_no_settings(tmp_path, delimiter):
    path = tmp_path / "plain.csv"
    rows = (f'{n},{n}.25,2024-01-01,"a\nb,",1/2/2024' for n in range(1, 50))
    path.write_text(
        "id,n,d,t,u\n".replace(",", delimiter) + "".join(f"{row}\n".replace(",", delimiter) for row in rows)
    )
    found = look(path)
    assert (found["settings"], found["ragged"]) == ({}, 0)
    assert [one["type"] for one in found["columns"]] == ["integer", "decimal(16,2)", "date", "string", "string"]


def test_a_zip_file_of_several_and_a_workbook_of_several_sheets(tmp_path):
    with zipfile.ZipFile(tmp_path / "months.zip", "w") as archive:
        for month in (1, 2):
            archive.writestr(f"2024-{month}.csv", f"id;day\n{month};31.01.2024\n")
    found = look(tmp_path / "months.zip")
    assert inspection.entry(found) == {
        "entity": "months",
        "path": str(tmp_path / "months.zip"),
        "keys": ["id"],
        "columns": {"day": "date(%d.%m.%Y)"},
        "delimiter": ";",
        "members": "*.csv",
    }
    with zipfile.ZipFile(tmp_path / "months.zip", "a") as archive:
        archive.writestr("read.me", "words")
    with pytest.raises(DataError, match=r"holds 3 files: set `members`"):
        look(tmp_path / "months.zip")
    assert look(tmp_path / "months.zip", members="*-2.csv")["number"] == 1
    book = openpyxl.Workbook()
    book.active.append(["id", "price"])
    book.active.append([1, 1.5])
    book.active.append([2, "none"])
    book.create_sheet("Other")
    book.save(tmp_path / "book.xlsx")
    with pytest.raises(DataError, match=r"has 2 sheets: set `sheet` to one of Sheet, Other"):
        look(tmp_path / "book.xlsx")
    found = look(tmp_path / "book.xlsx", sheet="Sheet")
    assert [(one["type"], one["line"], one["value"]) for one in found["columns"]] == [
        ("integer", 0, ""),
        ("string", 3, "none"),
    ]
    assert inspection.entry(found) == {
        "entity": "book_sheet",
        "path": str(tmp_path / "book.xlsx"),
        "keys": ["id"],
        "sheet": "Sheet",
    }


def test_a_workbook_with_an_index_without_a_name(tmp_path):
    """As pandas writes it: the first cell of the header is empty."""
    book = openpyxl.Workbook()
    for row in ([None, "code", "x"], [0, "01067", 1.5], [1, "01069", 2.5]):
        book.active.append(row)
    book.save(tmp_path / "book.xlsx")
    found = look(tmp_path / "book.xlsx")
    assert [(one["name"], one["type"]) for one in found["columns"]] == [
        ("column_1", "integer"),
        ("code", "string"),
        ("x", "decimal(16,2)"),
    ]
    assert inspection.entry(found)["unnamed_columns"] == "keep"
    assert inspection.entry(found)["keys"] == ["code"]


@pytest.mark.parametrize(
    ("name", "values", "is_key"),
    [
        ("store_id", "123", True),
        ("orderNo", "abc", True),
        ("ISO3", "abc", True),
        ("price", "123", False),
        ("latitude", ["1.5", "2.5", "3.5"], False),
        ("valid", "abc", True),
        ("grid_x", "123", False),
        ("first_name", "abc", False),
    ],
)
def test_a_key_is_written_if_it_is_called_like_one(tmp_path, name, values, is_key):
    (tmp_path / "a.csv").write_text(f"{name},x\n" + "".join(f"{value},1\n" for value in values))
    assert inspection.entry(look(tmp_path / "a.csv"))["keys"] == ([name] if is_key else [])


def test_another_file_of_the_same_name_is_another_entity(project, capsys):
    for folder in ("one", "two", "three"):
        (project / "extract" / folder).mkdir()
        (project / "extract" / folder / "shops.csv").write_text('id,"a""b"\n1,2\n')
        inspection.write(look(project / "extract" / folder / "shops.csv"))
    assert [one.table for one in meltano_yml.listed()][-3:] == ["shops", "shops_csv", "shops_2"]
    with pytest.raises(ConfigError, match=r"entity shops loads .*one/shops\.csv: choose another name"):
        inspection.write(look(project / "extract" / "two" / "shops.csv"), "shops")
    source = yaml.safe_load((layout.DBT_PROJECT / "models/staging/_shops_2__sources.yml").read_text())
    assert "data_tests" not in source["sources"][0]["tables"][0]["columns"][1]
    assert "'from raw.shops_2'" in capsys.readouterr().out


@pytest.mark.parametrize(
    "text",
    [
        "id;p\n" + "".join(f"{n};{n}.500 €\n" for n in range(1, 9)),
        "id,p\n" + "".join(f'{n},"${n},234"\n' for n in range(1, 9)),
        "id,p\n" + "".join(f"{n},GBP{n + 100}\n" for n in range(1, 9)),
        "id,p\n" + "".join(f"{n},({n})\n" for n in range(1, 9)),
        "id,p\n" + "".join(f"{n},{n:02}.02.{n + 40}\n" for n in range(13, 20)),
        "id,p,n\n1,NA,4\n2,DE,NA\n3,FR,5\n",
        "# c\ntag,n\n#red,1\nblue,2\n#green,3\nyellow,4\n",
        "id;n;p\n1;1.234,50;52.520\n2;99,10;52.500\n3;2.000,00;48.137\n",
    ],
)
def test_what_may_mean_two_things_stays_as_it_stands(tmp_path, text):
    """Amounts, codes, dates, nulls and comments that somebody else would read otherwise: each is text, or a row."""
    path = tmp_path / "a.csv"
    path.write_text(text)
    found = look(path)
    second = {one["name"]: one["type"] for one in found["columns"]}
    assert second.get("p", "string") == "string"
    assert not {"null_values", "comment"} & found["settings"].keys()
    assert found["rows"] == len([line for line in text.splitlines() if line.strip("# c")]) - 1


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("id,a,b\n1,x\n2,y,z\n3,q,w,\n4,a,b,EXTRA\n", ["id", "a", "b"]),
        ("id,a,b\n1,x\n2,y\n" + "".join(f"{n},q,w,\n" for n in range(3, 20)), ["id", "a", "b"]),
        ("id,name,city\n" + "".join(f"{n},Smith, J,Rome\n" for n in range(30)), ["id", "name", "city"]),
        ("country,2020,2021\nDE,1,2\nFR,3,4\n", ["country", "2020", "2021"]),
    ],
)
def test_a_header_is_never_passed_over(tmp_path, text, names):
    """Where rows do not fit it, that is said, and no name is lost."""
    path = tmp_path / "a.csv"
    path.write_text(text)
    entry = {"path": str(path)}
    with contextlib.suppress(DataError):  # the first row that does not fit is named
        entry = inspection.entry(look(path))
        assert [one["name"] for one in look(path)["columns"]] == names
    assert not {"skip", "names"} & entry.keys()


def test_quotes_that_have_no_meaning(tmp_path):
    """Each lone one would join rows up to the next; quotes around values keep theirs."""
    path = tmp_path / "a.tsv"
    path.write_text("id\tword\tn\n" + "".join(f"{n}\t{'' if n % 7 else chr(34)}w{n}\t{n}\n" for n in range(1, 40)))
    found = look(path)
    assert (found["rows"], found["settings"]) == (39, {"quotechar": ""})
    path.write_text("id\tword\tn\n" + "".join(f'{n}\t"w\n{n}"\t{n}\n' for n in range(1, 40)))
    assert "quotechar" not in look(path)["settings"]


@pytest.mark.parametrize(
    ("text", "names", "settings"),
    [
        ("id,,x,\n1,2,3,4\n2,3,4,5\n", ["id", "column_2", "x", "column_4"], {"unnamed_columns": "keep"}),
        ("Account:,123,,\nid,a,b,c\n1,2,3,4\n2,3,4,5\n3,4,5,6\n", ["id", "a", "b", "c"], {"skip": 1}),
        ("id,w\n1,a\x85b\n2,c\u2028d\n3,e\x0cf\n4,g\x0bh\n", ["id", "w"], {}),
    ],
)
def test_headers_and_rows_as_they_stand(tmp_path, text, names, settings):
    """Names for some columns alone, a line above them, and characters that end lines elsewhere."""
    path = tmp_path / "a.csv"
    path.write_text(text)
    found = look(path)
    assert ([one["name"] for one in found["columns"]], found["settings"]) == (names, settings)
    assert found["rows"] == text.count("\n") - 1 - settings.get("skip", 0)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("region,n\nnorth,5\nsouth,7\nTotal,12\n", "the last row holds 'Total'"),
        ("Sales, Germany\nid,name\n1,a\n2,b\n3,c\n", "the first row holds 'id' where numbers"),
        ("height,weight\ncm,kg\n1.8,70\n1.7,60\n1.6,50\n", "the first row holds 'cm' where numbers"),
        ("id;n;p\n1;1.234,50;52.520\n2;99,10;52.500\n", "column 'p' stays text: 52.520 may be 52520"),
        ("a,b\n", "no row follows the header"),
    ],
)
def test_what_a_file_leaves_open_is_said(tmp_path, text, said):
    path = tmp_path / "a.csv"
    path.write_text(text)
    (hint,) = look(path)["hints"]
    assert said in hint


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("Report\nid,name\n1,a\n2,b\n", "`skip` leaves out 1 line, such as 'Report'; the header is 'id,name'"),
        ("a,b,c,\nx,y,z\nu,v,w\n", "`skip` leaves out 1 line, such as 'a,b,c,'; the header is 'x,y,z'"),
        ("id,v,w\n1,a,b\n2,a,b\n3,a,b\n4,a,b\nnote\n", "`skip_footer` leaves out 1 line, such as 'note'"),
        ("tag,n,m\nb,2,3\n#d,5\nc,3,4\n", "`comment` leaves out 1 line, such as '#d,5'"),
        ('id,v\n1,"a"\n2,"b "big" one"\n', "quotes within quotes are not doubled, and lose some: '2,\"b"),
        ('id,v\n1,"C:\\new"\n2,"say \\"hi\\" now"\n', "quotes within quotes are not doubled, and lose some"),
        ("name,10,20\na,1,2\nb,3,4\n", "the first row, with 'name', is read as values"),
        ("id,3\n1,2\n", "the header holds '3': if that is a value, the first row lacks its header"),
        ("id,v\nx,1.10\ny,1.9\n", "column 'v' stays text: 1.10 may be a version or a section"),
        ("id;n;p\n1;1.234,50;52.520\n2;99,10;52\n", "column 'p' stays text: 52.520 may be 52520"),
        ("id;n;p\n1;1.234,50;101.202.303\n2;99,10;5\n", "column 'p': 101.202.303 is read as 101202303"),
        ('id,tags\n1,"101,202,303"\n2,"1,200"\n', "column 'tags': 101,202,303 is read as 101202303"),
        ("id,n\n1,(1)\n2,2\n", "column 'n': (1) is read as an amount below zero"),
    ],
)
def test_what_is_left_out_or_read_one_way_is_said(tmp_path, text, said):
    path = tmp_path / "a.csv"
    path.write_text(text)
    (hint,) = look(path)["hints"]
    assert said in hint


@pytest.mark.parametrize(
    ("text", "rows", "kept"),
    [
        ("id;t\n" + "".join(f"{n};a, b, {n}\n" for n in range(9)), 9, {}),
        ("id,a,b\n" + "".join(f"{n},x,y\n" for n in range(9)) + "9\n", 10, {"ragged": "pad"}),
        ("id,,x\n" + "".join(f"{n},,y\n" for n in range(9)), 9, {"unnamed_columns": "keep"}),
    ],
)
def test_no_row_and_no_value_is_left_out(tmp_path, text, rows, kept):
    """Commas within texts, a row that is cut short, and a column without a name that is empty so far."""
    path = tmp_path / "a.csv"
    path.write_text(text)
    found = look(path)
    assert (found["rows"], found["settings"], found["hints"]) == (rows, kept, [])


@pytest.mark.parametrize("value", ["1234567890123456.78", "0.1234567890123456789"])
def test_more_digits_than_a_double_has_stay_text(tmp_path, value):
    path = tmp_path / "a.csv"
    path.write_text(f"id,v\n1,{value}\n2,1.5\n")
    assert look(path)["columns"][1]["type"] == "string"


def test_a_fraction_behind_the_comma_is_no_field(tmp_path):
    path = tmp_path / "a.csv"
    path.write_text("betrag\n1,5\n2,5\n")
    with pytest.raises(DataError, match="line 2, column 'betrag': ragged row: 2 fields"):
        look(path)


def test_lines_left_out_of_several_files_are_named(tmp_path):
    rows = "id,a,b\n" + "".join(f"{n},x,y\n" for n in range(9))
    (tmp_path / "1.csv").write_text(f"{rows}note\n")
    (tmp_path / "2.csv").write_text(rows)
    assert "`skip_footer` hold for all 2 files" in look(tmp_path)["hints"][-1]


def test_a_workbook_without_a_header(tmp_path):
    book = openpyxl.Workbook()
    for row in ([1, "a", 1.5], [2, "b", 2.5]):
        book.active.append(row)
    book.save(tmp_path / "book.xlsx")
    assert "the header holds '1'" in look(tmp_path / "book.xlsx")["hints"][0]


@pytest.mark.parametrize(("encoding", "named", "sure"), [("utf-8", "utf-8", True), ("cp1252", "cp1252", False)])
def test_the_last_letters_of_a_small_file_tell_its_encoding(tmp_path, encoding, named, sure):
    path = tmp_path / "a.csv"
    path.write_text("id,name\n1,a caf\n2,a caf\u00e93", encoding=encoding)
    found = look(path)
    assert (found["encoding"], found["confidence"] == 1) == (named, sure)


def test_encodings_that_are_guessed_are_shown_by_words(tmp_path):
    path = tmp_path / "a.csv"
    path.write_text("id,город\n1,Москва\n2,Санкт-Петербург\n3,Новосибирск\n", encoding="cp1251")
    found = look(path)
    assert (found["encoding"], found["confidence"] < 1) == ("cp1251", True)
    assert "город, Москва" in found["hints"][0]
    path.write_bytes("id,name\n1,Müller\n2,Größe\n3,Gödel\n".encode() + b"4,M\xfcller\n")
    with pytest.raises(DataError, match="line 5: is not utf-8"):
        look(path)


@pytest.mark.parametrize(
    ("url", "shown"),
    [("http://[::1/x.csv", "http://..."), ("http://ann:pa/ss@127.0.0.1:1/x.csv", "http://...")],
)
def test_what_is_no_url_shows_nothing_of_it(url, shown):
    with pytest.raises(DataError) as error:
        look(url)
    assert str(error.value).startswith(f"inspect: {shown}: is no URL; ")


def test_what_lies_beside_is_not_imported(tmp_path, monkeypatch):
    (tmp_path / "types.py").write_text("raise SystemExit('from this folder')")
    (tmp_path / "a.csv").write_text("id\n1\n")
    monkeypatch.chdir(tmp_path)
    assert look("a.csv")["rows"] == 1
