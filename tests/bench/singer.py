"""CSV to DuckDB through Singer, beside DuckDB itself and what people use else; writes its part of docs/benchmarks.md.

Every figure of a table is taken in one run. Times are of whole programs, their start included. The file is read once
before, so that no program is the first to read it. A table is loaded into a new database, then the same rows again.
"""

from __future__ import annotations

import argparse
import dataclasses
import functools
import itertools
import json
import shutil
import subprocess
import sys
import tempfile
import time
import typing as t
from dataclasses import dataclass, field
from pathlib import Path

from workspace import BIN, ROOT, apart

from bench import measure, page
from bench.measure import DATA, Measured
from elt import layout

if t.TYPE_CHECKING:
    from collections.abc import Callable, Sequence

PEERS = Path(__file__).parent / "peers"
PLAIN_ROWS = 100_000
"""Rows for the peer that needs a minute for a million; its time is said of as many rows as the others had."""

ROWS = """
    select
        i as id,
        (hash(i) % 1000000)::bigint as customer_id,
        case when hash(i + 1) % 10 > 0 then 'name ' || (hash(i + 2) % 100000) end as name,
        case
            when hash(i + 3) % 20 = 0 then 'line one' || chr(10) || 'line "two", ' || i
            when hash(i + 4) % 10 > 0 then 'note ' || (hash(i + 5) % 1000)
        end as note,
        round((hash(i + 6) % 10000000) / 100.0, 2)::double as amount,
        case when hash(i + 7) % 10 > 0 then (hash(i + 8) % 100)::integer end as quantity,
        hash(i + 9) % 2 = 0 as is_returned,
        date '2015-01-01' + (hash(i + 10) % 3650)::integer as ordered_on,
        case
            when hash(i + 12) % 10 > 0 then timestamp '2015-01-01' + to_seconds((hash(i + 11) % 300000000)::integer)
        end as updated_at,
        case when hash(i + 13) % 10 > 0 then (hash(i + 14) % 1000000) / 1e6 end::double as score
    from range({rows}) as numbers(i)
"""
"""Ten columns of all types, with nulls, and line breaks and quotes within quotes in one row of twenty."""
WIDE_COLUMNS, WIDE_ROWS = 2_000, 1_000
WIDE_KINDS = (
    "(hash(i + {0}) % 100000)::bigint",
    "(hash(i + {0}) % 1000000) / 1e6",
    "'answer ' || (hash(i + {0}) % 1000)",
    "date '2015-01-01' + (hash(i + {0}) % 3650)::integer",
    "timestamp '2015-01-01' + to_seconds((hash(i + {0}) % 300000000)::integer)",
    "hash(i + {0}) % 2 = 0",
)
"""Expressions of the columns of a wide table, in turn."""
LIMIT = """
import sys, duckdb
duckdb.connect(sys.argv[2]).execute(f"create table things as from read_csv('{sys.argv[1]}')")
"""
COUNT = """
import json, sys, duckdb
connection = duckdb.connect(sys.argv[1], read_only=True)
connection.execute("set enable_progress_bar = false")
print(json.dumps(connection.execute(sys.argv[2]).fetchone()))
"""
MAKE = """
import sys, duckdb
connection = duckdb.connect()
connection.execute("set enable_progress_bar = false")
connection.execute(f"copy ({sys.argv[1]}) to '{sys.argv[2]}' (format csv, header)")
"""
LIMIT_UPSERT = """
import sys, duckdb
connection = duckdb.connect(sys.argv[2])
connection.execute("begin")
connection.execute(f"create temp table new as from read_csv('{sys.argv[1]}')")
connection.execute("delete from things using new where things.id = new.id")
connection.execute("insert into things from new")
connection.execute("commit")
"""


@dataclass
class Lab:
    """A folder for one size of the data, with what all ways of loading need."""

    rows: int
    folder: Path
    env: dict[str, str] = field(repr=False)

    wide: bool = False
    """Whether the rows have `WIDE_COLUMNS` columns."""

    @functools.cached_property
    def csv(self) -> Path:
        """The file, made once for all runs of this benchmark."""
        path = DATA / f"things_{self.rows}{'_wide' if self.wide else ''}.csv"
        if not path.exists():
            say(f"making {path}")
            part = path.with_suffix(".part")
            query = _wide_rows(self.rows) if self.wide else ROWS.format(rows=self.rows)
            subprocess.run([sys.executable, "-c", MAKE, query, part], check=True)
            part.rename(path)
        with path.open("rb") as file:  # into the page cache
            while file.read(1 << 24):
                pass
        return path

    @property
    def database(self) -> Path:
        """The database that all ways load into, one after the other."""
        return self.folder / "things.duckdb"

    def tap_settings(self, *, batch: bool) -> dict[str, t.Any]:
        """Settings of our tap."""
        settings: dict[str, t.Any] = {"files": [{"entity": "things", "path": str(self.csv), "keys": ["id"]}]}
        if batch:
            settings["batch_config"] = {"encoding": {"format": "parquet"}, "storage": {"root": str(self.folder)}}
        return settings

    def tap(self, *, batch: bool, **settings: object) -> list[str | Path]:
        """Our tap."""
        return [BIN / "tap-csv", "--config", self.write("tap.json", self.tap_settings(batch=batch) | settings)]

    @property
    def target_settings(self) -> dict[str, str]:
        """Settings of our target."""
        return {"path": str(self.database), "temp_dir": str(self.folder), "batch_folder": str(self.folder)}

    def target(self) -> list[str | Path]:
        """Our target."""
        return [BIN / "target-duckdb", "--config", self.write("target.json", self.target_settings)]

    def run(self, *commands: Sequence[str | Path], source: Path | None = None, **env: str) -> Measured:
        """Run programs in this folder and measure them."""
        return measure.pipe(*commands, env=self.env | env, cwd=self.folder, source=source)

    def write(self, name: str, content: object) -> Path:
        """A file of JSON, whose content YAML takes too."""
        path = self.folder / name
        path.write_text(json.dumps(content))
        return path

    def count(self, table: str) -> None:
        """Make sure that all rows are there, each once."""
        query = f"select count(*), count(distinct id) from {table}"
        # in a process of its own: the peak of a process that is forked begins with that of the one it is forked from
        command = [sys.executable, "-c", COUNT, self.database, query]
        found = tuple(json.loads(subprocess.run(command, check=True, capture_output=True).stdout))
        assert found == (self.rows, self.rows), f"{table} holds {found}, not {self.rows} rows"

    @functools.cached_property
    def records(self) -> Path:
        """The rows as RECORD messages."""
        path = self.folder / "records.jsonl"
        with path.open("wb") as output:
            subprocess.run(self.tap(batch=False), stdout=output, env=self.env, check=True)
        return path

    @functools.cached_property
    def project(self) -> Path:
        """A project of Meltano with our pair, and the catalog that saves it a discovery."""
        (self.folder / "project").mkdir(exist_ok=True)
        found = subprocess.run([*self.tap(batch=True), "--discover"], env=self.env, capture_output=True, check=True)
        self.write("project/catalog.json", json.loads(found.stdout))
        plugin = {"namespace": "bench", "settings": []}
        extractor = plugin | {"name": "tap-csv", "executable": "tap-csv", "catalog": "catalog.json"}
        extractor |= {"capabilities": ["catalog", "discover", "state"]}
        extractor["config"] = self.tap_settings(batch=True) | {"incremental": False}
        loader = plugin | {"name": "target-duckdb", "executable": "target-duckdb"}
        loader["config"] = self.target_settings
        project = {"version": 1, "project_id": "bench", "send_anonymous_usage_stats": False, "auto_install": False}
        project["default_environment"] = "dev"
        project["environments"] = [{"name": "dev"}]
        project["plugins"] = {"extractors": [extractor], "loaders": [loader]}
        self.write("project/meltano.yml", project)
        return self.folder / "project"


def _wide_rows(rows: int) -> str:
    kinds = itertools.islice(itertools.cycle(WIDE_KINDS), WIDE_COLUMNS - 1)
    columns = ", ".join(f"{kind.format(place)} as c{place}" for place, kind in enumerate(kinds, 1))
    return f"select i as id, {columns} from range({rows}) as numbers(i)"


def say(what: str) -> None:
    """A line of progress."""
    print(f"bench: {what}", flush=True)


@dataclass(frozen=True)
class Way:
    """One way of loading."""

    name: str
    run: Callable[[Lab, str], Measured]
    """Load the rows; `first` or `again`."""
    table: str = "main.things"
    most: int | None = None
    """It is measured on no more rows than this."""


def _limit(lab: Lab, which: str) -> Measured:
    return lab.run([sys.executable, "-c", LIMIT if which == "first" else LIMIT_UPSERT, lab.csv, lab.database])


def _pipe(lab: Lab, _: str) -> Measured:
    return lab.run(lab.tap(batch=True), lab.target())


def _record_pipe(lab: Lab, _: str) -> Measured:
    return lab.run(lab.tap(batch=False), lab.target())


def _discovery(lab: Lab, _: str) -> Measured:
    return lab.run((*lab.tap(batch=True), "--discover"))


def _whole_file(lab: Lab, _: str) -> Measured:
    return lab.run(lab.tap(batch=True, infer_rows=-1), lab.target())


def _records(lab: Lab, _: str) -> Measured:
    return lab.run(lab.target(), source=lab.records)


def _meltano(lab: Lab, _: str) -> Measured:
    command = [BIN / "meltano", "--cwd", lab.project, *RUN]
    return lab.run(command, MELTANO_DATABASE_URI=f"sqlite:///{lab.folder}/meltano.db")


def _forked_meltano(lab: Lab, _: str) -> Measured:
    """As in a task of the pipeline, where Meltano is forked from the process that has imported it."""
    env = lab.env | {"ELT_STATE": str(lab.folder), "ELT_ROOT": str(ROOT), "ELT_PRELOAD": "True"}
    env |= {"PATH": f"{ROOT}/elt/forked:{lab.env['PATH']}", "CONNECT_ADDRESS": "127.0.0.1"}
    env |= {"MELTANO_DATABASE_URI": f"sqlite:///{lab.folder}/meltano.db", "PC_PROC_NAME": "pipeline-preload"}
    (lab.folder / "run").mkdir(exist_ok=True)
    with subprocess.Popen([BIN / "elt-preload", "pipeline"], env=env, stdout=subprocess.DEVNULL) as preload:
        try:
            subprocess.run([ROOT / "elt/forked/meltano", "--version"], env=env, capture_output=True, check=True)
            command = [ROOT / "elt/forked/meltano", "--cwd", lab.project, *RUN]
            return dataclasses.replace(measure.pipe(command, env=env, cwd=lab.folder), peaks=())
        finally:
            preload.terminate()


def _python(peer: str) -> Path:
    """The interpreter of a peer's own environment, made of its own lock."""
    home = DATA / "peers" / peer
    env = apart(layout.STATE) | {"UV_PROJECT_ENVIRONMENT": str(home)}
    env.pop("VIRTUAL_ENV", None)
    command = [BIN / "uv", "sync", "--quiet", "--frozen", "--project", PEERS / peer]
    subprocess.run(command, env=env, check=True)
    return home / "bin" / "python"


def _dlt(lab: Lab, which: str) -> Measured:
    python, folder = _python("dlt"), lab.folder / "dlt"
    if which == "first":
        shutil.rmtree(folder, ignore_errors=True)
    disposition = "replace" if which == "first" else "merge"
    command = [python, PEERS / "dlt/load.py", lab.csv, lab.database, disposition, folder]
    return lab.run(command, RUNTIME__DLTHUB_TELEMETRY="false")


def _plain(lab: Lab, _: str) -> Measured:
    part = dataclasses.replace(lab, rows=PLAIN_ROWS)
    config = lab.write("plain.json", {"path": str(part.csv)})
    tap = [_python("target_duckdb"), PEERS / "target_duckdb/plain_tap.py", "--config", config]
    return _scaled(lab, lab.run(tap, _released_target(lab)))


def _released(lab: Lab, _: str) -> Measured:
    part = lab.folder / "records_part.jsonl"
    with lab.records.open("rb") as lines, part.open("wb") as output:
        output.writelines(itertools.islice(lines, PLAIN_ROWS + 1))
    return _scaled(lab, lab.run(_released_target(lab), source=part))


def _released_target(lab: Lab) -> list[str | Path]:
    settings = {"filepath": str(lab.database), "default_target_schema": "main"}
    return [_python("target_duckdb").parent / "target-duckdb", "--config", lab.write("released.json", settings)]


def _scaled(lab: Lab, part: Measured) -> Measured:
    """What all rows would take where a part was loaded."""
    return dataclasses.replace(part, seconds=part.seconds * lab.rows / PLAIN_ROWS)


RUN = ("run", "--force", "tap-csv", "target-duckdb")
SCALED = "target-duckdb 0.8.0"
WAYS = (
    Way("DuckDB's read_csv (the limit)", _limit),
    Way("ours by pipe", _pipe),
    Way("ours by meltano run", _meltano),
    Way("ours by meltano run, as in tasks", _forked_meltano),
    Way("ours by pipe, types from the whole file", _whole_file),
    Way("ours by pipe, RECORD messages", _record_pipe),
    Way("ours, the target on RECORD messages", _records),
    Way("dlt 1.31 with arrow", _dlt, "bench.things"),
    Way(f"{SCALED} on RECORD messages", _released, most=1_000_000),
    Way(f"a plain SDK tap into {SCALED}", _plain, most=1_000_000),
)


def measured(rows: int, times: int, only: str | None) -> dict[str, dict[str, Measured]]:
    """Measure all ways on so many rows: `first` load, and the same rows `again`."""
    found: dict[str, dict[str, Measured]] = {}
    with tempfile.TemporaryDirectory(prefix="elt-bench-", dir=DATA) as name:
        lab = Lab(rows, Path(name), apart(layout.STATE))
        for way in WAYS:
            if (way.most and rows > way.most) or (only and only not in way.name and way is not WAYS[0]):
                continue

            def first(way: Way = way) -> Measured:
                lab.database.unlink(missing_ok=True)
                return way.run(lab, "first")

            results = {"first": measure.median(first, times)}
            if SCALED not in way.name:
                lab.count(way.table)
                results["again"] = way.run(lab, "again")
                lab.count(way.table)
            found[way.name] = results
            shown = ", ".join(f"{which} {one.seconds:.1f} s {one.peak >> 20} MiB" for which, one in results.items())
            say(f"{rows:,} rows, {way.name}: {shown}")
    return found


def measured_wide(times: int) -> str:
    """The table of a wide table, which is measured as the others are."""
    lines = []
    with tempfile.TemporaryDirectory(prefix="elt-bench-", dir=DATA) as name:
        lab = Lab(WIDE_ROWS, Path(name), apart(layout.STATE), wide=True)
        limit = None
        for way in (WAYS[0], Way("discovery", _discovery), WAYS[1]):

            def first(way: Way = way) -> Measured:
                lab.database.unlink(missing_ok=True)
                return way.run(lab, "first")

            one = measure.median(first, times)
            if way.run is not _discovery:
                lab.count(way.table)
            limit = limit or one.seconds
            peaks = " + ".join(f"{peak >> 20:,}" for peak in one.peaks)
            lines.append([f"wide, {way.name}", f"{one.seconds:.1f}", f"{one.seconds / limit:.2f}", peaks])
            say(f"wide, {way.name}: {one.seconds:.1f} s, {peaks} MiB")
    head = ["", "s", "x limit", "peak MiB, each program"]
    return f"**{WIDE_COLUMNS:,} columns, {WIDE_ROWS:,} rows**\n\n{page.table(head, lines)}"


def rendered(rows: int, found: dict[str, dict[str, Measured]]) -> str:
    """The table of one size."""
    limit = found[WAYS[0].name]["first"].seconds
    lines = []
    for name, results in found.items():
        one, again = results["first"], results.get("again")
        lines.append(
            [
                name + ("*" if SCALED in name else ""),
                f"{one.seconds:.1f}",
                f"{rows / one.seconds / 1000:,.0f}",
                f"{one.seconds / limit:.2f}",
                " + ".join(f"{peak >> 20:,}" for peak in one.peaks),
                f"{again.seconds:.1f}" if again else "",
            ]
        )
    head = ["", "s", "1,000 rows/s", "x limit", "peak MiB, each program", "the same rows again, s"]
    return f"**{rows:,} rows**\n\n{page.table(head, lines)}"


def main(words: Sequence[str]) -> None:
    """Measure, print, and write the page."""
    parser = argparse.ArgumentParser(prog="scripts/bench.sh singer", description=__doc__.partition("\n")[0])
    parser.add_argument("--rows", type=int, nargs="+", default=[1_000_000, 10_000_000], help="sizes, in rows")
    parser.add_argument("--times", type=int, default=3, help="runs of each way, of which the middle one counts")
    parser.add_argument(
        "--only", metavar="TEXT", help="only ways with this in their names, or `wide`; writes no page"
    )
    arguments = parser.parse_args(words)
    begin, tables, charts = time.monotonic(), [], {}
    DATA.mkdir(parents=True, exist_ok=True)
    for rows in arguments.rows:
        found = measured(rows, arguments.times, arguments.only)
        tables.append(rendered(rows, found))
        print(f"\n{tables[-1]}\n", flush=True)
        charts[rows] = {name: results["first"].seconds for name, results in found.items() if "whole" not in name}
    if arguments.only and arguments.only != "wide":
        return
    tables.append(measured_wide(arguments.times))
    print(f"\n{tables[-1]}\n", flush=True)
    if arguments.only:
        return
    rows = min(arguments.rows)
    chart = page.bars("singer", f"{rows:,} rows of CSV into DuckDB, seconds", charts[rows])
    note = f"\\* measured on {PLAIN_ROWS:,} rows; its time grows in proportion."
    page.put("singer", "\n\n".join([f"![Seconds by way of loading]({chart})", *tables, note]))
    say(f"wrote {page.PAGE.relative_to(layout.ROOT)} after {time.monotonic() - begin:.0f} s")


if __name__ == "__main__":
    main(sys.argv[1:])
