"""Input that is wrong: each kind gets one line that names file, field and way out, exit code not 0, no traceback.

A table of what people get wrong in settings, environment, files of the project, extracts and arguments.
"""

from __future__ import annotations

import sys
import typing as t
from dataclasses import dataclass, field

import pytest
from workspace import PORTS, apart, copy, said

from elt.config import env_file

if t.TYPE_CHECKING:
    from pathlib import Path

NOT_TEXT = b"\xff\xfe\x00"
ELT = (sys.executable, "-c", "from elt.cli import main; main()")
"""`elt` of the folder in which it is started."""


@dataclass
class Clone:
    """A copy of the workspace with an example that ran; what a case spoils is put back."""

    root: Path
    env: dict[str, str]
    kept: dict[Path, bytes] = field(default_factory=dict)

    def elt(self, *words: str, env: t.Mapping[str, str] | None = None) -> tuple[int, str]:
        """Exit code and output of a verb."""
        done = said(*ELT, *words, cwd=self.root, env=self.env | (env or {}), seconds=60)
        return done.returncode, done.stdout

    def file(self, name: str) -> Path:
        """A file that a case may change."""
        path = self.root / name
        self.kept.setdefault(path, path.read_bytes())
        return path

    def put_back(self) -> None:
        """Undo what a case did."""
        for path, content in self.kept.items():
            if path.is_dir():
                path.rmdir()
            path.write_bytes(content)
        self.kept.clear()


@pytest.fixture(scope="module")
def ran(tmp_path_factory: pytest.TempPathFactory) -> Clone:
    root = tmp_path_factory.mktemp("bad") / "clone"
    copy(root)
    state = root / ".state"
    env = {name: value for name, value in apart(state).items() if name not in {*PORTS, "ELT_STATE"}}
    clone = Clone(root, env | {"ELT_ENVIRONMENT": "dev"})
    lines = [f"{name}={value or env_file.random_secret(name)}\n" for name, value, _ in env_file.example_settings()]
    (root / ".env").write_text("".join(line for line in lines if not line.startswith("ELT_ENVIRONMENT=")))
    for words in (("seed", "--example"), ("run",)):
        code, output = clone.elt(*words)
        assert code == 0, output
    return clone


@pytest.fixture
def clone(ran: Clone) -> t.Iterator[Clone]:
    yield ran
    ran.put_back()


Spoil: t.TypeAlias = t.Callable[[Clone], object]


def setting(name: str, value: str) -> Spoil:
    """Let a line of .env hold another value."""

    def spoil(clone: Clone) -> None:
        path = clone.file(".env")
        lines = [line for line in path.read_text().splitlines() if not line.startswith(f"{name}=")]
        path.write_text("\n".join([*lines, f"{name}={value}", ""]))

    return spoil


def text(file: str, old: str, new: str) -> Spoil:
    """Let a file say something else."""

    def spoil(clone: Clone) -> None:
        path = clone.file(file)
        before = path.read_text()
        assert old in before
        path.write_text(before.replace(old, new, 1))

    return spoil


def whole(file: str, content: bytes | str) -> Spoil:
    """Let a file hold nothing but that."""
    return lambda clone: clone.file(file).write_bytes(content.encode() if isinstance(content, str) else content)


def gone(file: str) -> Spoil:
    """Take a file away."""
    return lambda clone: clone.file(file).unlink()


def folder(file: str) -> Spoil:
    """Let a folder lie where a file is expected."""

    def spoil(clone: Clone) -> None:
        clone.file(file).unlink()
        (clone.root / file).mkdir()

    return spoil


def added(file: str, content: str) -> Spoil:
    """Let a file have more at its end."""

    def spoil(clone: Clone) -> None:
        path = clone.file(file)
        path.write_text(path.read_text() + content)

    return spoil


def both(one: Spoil, other: Spoil) -> Spoil:
    """Spoil two things."""

    def spoil(clone: Clone) -> None:
        one(clone)
        other(clone)

    return spoil


UP, RUN, STACK = ("up",), ("run",), "process-compose.yaml"
TRANSACTIONS, PRODUCTS = ".state/extract/transactions.csv", ".state/extract/products.csv"
PRODUCTS_HEADER = "product_id,manufacturer_id,department,brand,product_category,product_type,package_size\n"
SETTINGS: dict[str, tuple[Spoil, tuple[str, ...]]] = {
    "port-word": (setting("AIRFLOW_PORT", "web"), (".env", "AIRFLOW_PORT", "integer")),
    "port-empty": (setting("AIRFLOW_PORT", ""), (".env", "AIRFLOW_PORT")),
    "port-zero": (setting("FLOWER_PORT", "0"), (".env", "FLOWER_PORT", "1024")),
    "port-of-root": (setting("STREAMLIT_PORT", "80"), (".env", "STREAMLIT_PORT", "1024")),
    "port-too-large": (setting("POSTGRES_PORT", "70000"), (".env", "POSTGRES_PORT", "65535")),
    "port-negative": (setting("VALKEY_PORT", "-1"), (".env", "VALKEY_PORT", "1024")),
    "port-twice": (setting("FLOWER_PORT", "8080"), (".env", "FLOWER_PORT", "AIRFLOW_PORT", "same port")),
    "port-fraction": (setting("VALKEY_PORT", "16379.5"), (".env", "VALKEY_PORT", "integer")),
    "address-word": (setting("BIND_ADDRESS", "everywhere"), (".env", "BIND_ADDRESS", "127.0.0.1")),
    "address-empty": (setting("BIND_ADDRESS", ""), (".env", "BIND_ADDRESS", "127.0.0.1")),
    "address-open": (
        both(setting("BIND_ADDRESS", "0.0.0.0"), setting("ADMIN_PASSWORD", "admin")),
        (".env", "ADMIN_PASSWORD", "BIND_ADDRESS"),
    ),
    "password-empty": (setting("ADMIN_PASSWORD", ""), (".env", "ADMIN_PASSWORD", "letters")),
    "password-colon": (setting("ADMIN_PASSWORD", "a:b"), (".env", "ADMIN_PASSWORD", "letters")),
    "environment": (setting("ELT_SUPERVISOR", "docker"), (".env", "ELT_SUPERVISOR", "'embedded'")),
    "preload": (setting("ELT_PRELOAD", "maybe"), (".env", "ELT_PRELOAD", "boolean")),
    "concurrency-zero": (setting("WORKER_CONCURRENCY", "0"), (".env", "WORKER_CONCURRENCY", "1")),
    "concurrency-many": (setting("WORKER_CONCURRENCY", "1000"), (".env", "WORKER_CONCURRENCY", "64")),
    "retry-negative": (setting("TASK_RETRY_SECONDS", "-5"), (".env", "TASK_RETRY_SECONDS", "1")),
    "secret-short": (setting("POSTGRES_PASSWORD", "short"), (".env", "POSTGRES_PASSWORD", "16")),
    "secret-at": (setting("VALKEY_PASSWORD", "0123456789abcdef@"), (".env", "VALKEY_PASSWORD", "pattern")),
    "fernet": (setting("AIRFLOW_FERNET_KEY", "no-key"), (".env", "AIRFLOW_FERNET_KEY", "scripts/bootstrap.sh")),
    "typo": (setting("AIRFLOW_PROT", "8081"), (".env", "AIRFLOW_PROT", "AIRFLOW_PORT")),
    "no-setting": (setting("AIRFLOW_PORT", "8080\nthis is none"), (".env, line", "NAME=value")),
    "quote-open": (setting("AIRFLOW_PORT", '"8080'), (".env, line", "quote")),
    "address-of-many": (setting("BIND_ADDRESS", "224.0.0.1"), (".env", "BIND_ADDRESS", "127.0.0.1")),
    "missing-line": (text(".env", "VALKEY_PORT=", "#"), (".env", "VALKEY_PORT", "scripts/bootstrap.sh")),
    "missing-file": (gone(".env"), (".env", "missing", "scripts/bootstrap.sh")),
    "a-folder": (folder(".env"), (".env",)),
    "not-utf8": (whole(".env", NOT_TEXT), (".env", "UTF-8")),
    "connection-json": (setting("AIRFLOW_CONN_SHOP", "'{\"conn_type\": '"), (".env", "AIRFLOW_CONN_SHOP", "JSON")),
    "connection-uri": (setting("AIRFLOW_CONN_SHOP", "shop"), (".env", "AIRFLOW_CONN_SHOP", "URI")),
}
FILES: dict[str, tuple[Spoil, tuple[str, ...], tuple[str, ...]]] = {
    "stack-yaml": (whole(STACK, "processes: [\n"), UP, (STACK, "line")),
    "stack-empty": (whole(STACK, ""), UP, (STACK,)),
    "stack-not-utf8": (whole(STACK, NOT_TEXT), UP, (STACK,)),
    "stack-key": (text(STACK, "log_location: ${ELT_STATE}/logs/redis.log", "log_locaton: x"), UP, (STACK, "locaton")),
    "stack-type": (text(STACK, "period_seconds: 1", "period_seconds: often"), UP, (STACK, "period_seconds")),
    "stack-name": (text(STACK, "${ELT_STATE}", "${ELT_STAET}"), UP, (STACK, "ELT_STAET")),
    "stack-nobody": (text(STACK, "  redis: {condition", "  reddis: {condition"), UP, (STACK, "reddis")),
    "stack-condition": (text(STACK, "process_started}", "process_begun}"), UP, (STACK, "process_begun")),
    "meltano-yaml": (whole("meltano/meltano.yml", "plugins: [\n"), RUN, ("meltano.yml",)),
    "meltano-not-utf8": (whole("meltano/meltano.yml", NOT_TEXT), RUN, ("meltano.yml", "UTF-8")),
    "meltano-empty": (whole("meltano/meltano.yml", ""), RUN, ("meltano.yml",)),
    "meltano-gone": (gone("meltano/meltano.yml"), RUN, ("meltano.yml",)),
    "dbt-yaml": (whole("transform/dbt_project.yml", "name: [\n"), RUN, ("dbt_project.yml",)),
    "dbt-gone": (gone("transform/dbt_project.yml"), RUN, ("dbt_project.yml",)),
    "dbt-sql": (
        text("transform/models/marts/daily_sales.sql", "select", "selekt"),
        RUN,
        ("daily_sales", "selekt"),
    ),
    "dbt-ref": (
        added("transform/models/marts/daily_sales.sql", "-- {{ ref('nowhere') }}\n"),
        RUN,
        ("daily_sales", "nowhere"),
    ),
    "dbt-jinja": (added("transform/models/marts/daily_sales.sql", "{{ unclosed\n"), RUN, ("daily_sales",)),
    "extract-gone": (gone(TRANSACTIONS), RUN, ("transactions.csv", "scripts/seed.sh")),
    "extract-empty": (whole(TRANSACTIONS, ""), RUN, ("transactions.csv",)),
    "extract-binary": (whole(TRANSACTIONS, NOT_TEXT * 50), RUN, ("transactions.csv",)),
    "extract-folder": (folder(TRANSACTIONS), RUN, ("transactions.csv",)),
    "extract-column": (text(TRANSACTIONS, "sales_value", "sales"), RUN, ("transactions.csv", "sales_value")),
    "extract-key": (text(PRODUCTS, "product_id", "id"), RUN, ("products.csv", "product_id")),
    "extract-twice": (text(TRANSACTIONS, "store_id", "household_id"), RUN, ("transactions.csv", "household_id")),
    "extract-ragged": (added(TRANSACTIONS, "1,2,3\n"), RUN, ("transactions.csv", "line")),
    "extract-value": (text(TRANSACTIONS, ",20.00,", ",dear,"), RUN, ("transactions.csv, line 3", "sales_value")),
    "extract-header": (whole(PRODUCTS, PRODUCTS_HEADER), RUN, ("products.csv", "no row below its header")),
    "extract-quote": (added(TRANSACTIONS, '1,"never closed\n'), RUN, ("transactions.csv", "line")),
}
WORDS: dict[str, tuple[tuple[str, ...], tuple[str, ...]]] = {
    "no-such-verb": (("pipelin",), ("pipelin", "No such command")),
    "seed-scale-zero": (("seed", "--scale", "0"), ("--scale", "1")),
    "seed-scale-word": (("seed", "--scale", "many"), ("--scale", "integer")),
    "seed-two-sizes": (("seed", "--sample", "--full"), ("--sample", "--full")),
    "run-no-model": (("run", "no_such_model"), ("no_such_model",)),
    "sql-wrong": (("sql", "--local", "selec 1"), ("selec",)),
    "sql-no-table": (("sql", "--local", "from nowhere"), ("nowhere",)),
    "sql-writes": (("sql", "--local", "drop table marts.daily_sales"), ("read-only",)),
    "sql-unpublished": (("sql", "select 1"), ("published", "elt pipeline")),
    "pipeline-no-stack": (("pipeline",), ("scripts/up.sh",)),
    "pipeline-environment": (("pipeline", "--environment", "mars"), ("mars",)),
    "status-no-stack": (("status",), ("the stack is not running",)),
    "logs-nobody": (("logs", "nobody"), ("nobody",)),
    "restart-no-stack": (("restart", "flower"), ("elt up",)),
    "exec-nothing": (("exec", "no-such-program"), ("no-such-program",)),
    "trim-negative": (("trim", "--days", "-1"), ("--days",)),
    "trim-all": (("trim", "--days", "0"), ("--days",)),
    "trim-for-ever": (("trim", "--days", "99999999999"), ("--days",)),
    "trim-no-stack": (("trim",), ("scripts/up.sh",)),
    "backup-nothing": (("backup",), ("nothing ran here yet",)),
    "seed-scale-huge": (("seed", "--scale", "99999999999999999999"), ("--scale",)),
    "restore-nothing": (("restore", "nowhere.tar"), ("nowhere.tar",)),
    "restore-garbage": (("restore", "README.md"), ("README.md",)),
    "up-timeout": (("up", "--timeout", "soon"), ("--timeout",)),
}
ENVIRONMENT: dict[str, tuple[dict[str, str], tuple[str, ...]]] = {
    "state-is-a-file": ({"ELT_STATE": "README.md"}, ("README.md",)),
    "state-below-a-file": ({"ELT_STATE": "/dev/null/elt"}, ("/dev/null/elt",)),
    "environment-unknown": ({"ELT_ENVIRONMENT": "test"}, ("ELT_ENVIRONMENT", "'staging'")),
    "port-from-outside": ({"AIRFLOW_PORT": "x"}, ("AIRFLOW_PORT",)),
    "no-postgres-there": ({"ELT_POSTGRES_BIN": "/nowhere"}, ("ELT_POSTGRES_BIN", "/nowhere")),
    "no-valkey-there": ({"ELT_VALKEY_SERVER": "/nowhere"}, ("ELT_VALKEY_SERVER", "/nowhere")),
}


def check(found: tuple[int, str], words: tuple[str, ...]) -> None:
    """Whether a failure is one that its reader can fix."""
    code, output = found
    assert code not in (0, -9), output
    assert "Traceback" not in output, output
    end = "\n".join(output.splitlines()[-12:])
    assert not [word for word in words if word.lower() not in end.lower()], output


@pytest.mark.parametrize("case", SETTINGS)
def test_settings(clone, case):
    spoil, words = SETTINGS[case]
    spoil(clone)
    check(clone.elt("up"), words)


@pytest.mark.parametrize("case", FILES)
def test_files(clone, case):
    spoil, command, words = FILES[case]
    spoil(clone)
    check(clone.elt(*command), words)


@pytest.mark.parametrize("case", WORDS)
def test_words(clone, case):
    command, words = WORDS[case]
    check(clone.elt(*command), words)


@pytest.mark.parametrize("case", ENVIRONMENT)
def test_environment(clone, case):
    env, words = ENVIRONMENT[case]
    check(clone.elt("up", env=env), words)


def test_a_part_of_what_was_never_built(clone):
    found = clone.elt("run", "daily_sales+", env={"ELT_ENVIRONMENT": "staging"})
    check(found, ("nothing is built", "`elt run` once"))


def test_the_marts_are_as_they_were(clone):
    code, output = clone.elt("sql", "--local", "select count(*) from marts.customer_summary")
    assert (code, "7" in output) == (0, True), output


def test_the_table_is_long_enough():
    assert len(SETTINGS) + len(FILES) + len(WORDS) + len(ENVIRONMENT) >= 60
