"""Define the command `elt`: its verbs, their options and help; each verb is implemented in a module of its own."""

from __future__ import annotations

import errno
import getpass
import os
import sys
import typing as t
from datetime import datetime  # noqa: TC003 - typer reads the annotations
from pathlib import Path  # noqa: TC003

import typer
import typer.core

from elt import layout
from elt.config.environments import Environment
from elt.errors import EltError

SYSTEM_ERRORS = {
    *(errno.EROFS, errno.EACCES, errno.EPERM, errno.ENOSPC, errno.EDQUOT, errno.EMFILE, errno.ENFILE),
    *(errno.ENOTDIR, errno.EISDIR, errno.EEXIST, errno.ENAMETOOLONG, errno.ELOOP),
}
"""Errors of the operating system that lie in the machine, and not in a verb."""
DATES = ["%Y-%m-%d", "%Y-%m-%dT%H:%M", "%Y-%m-%d %H:%M"]
"""How a person may write a date."""

app = typer.Typer(
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    add_completion=False,
    help="An ELT platform on this machine: Airflow, Celery, Meltano, dbt and DuckDB.",
)
source_app = typer.Typer(
    no_args_is_help=True, rich_markup_mode=None, help="Add a source to the project, or remove it."
)
app.add_typer(source_app, name="source")


def main() -> None:
    """Run a verb; a known failure is one line on standard error and exit code 1."""
    libraries = layout.libraries()
    if not libraries.items() <= os.environ.items():  # the loader reads it when a program starts
        os.execve(sys.executable, [sys.executable, *sys.orig_argv[1:]], os.environ | libraries)  # noqa: S606
    try:
        app()
    except EltError as error:
        if os.environ.get("ELT_TRACEBACK"):
            raise
        sys.stdout.flush()  # so that the error is the last line, also where both streams go to one file
        print(f"elt: {error}", file=sys.stderr)
        sys.exit(1)
    except ModuleNotFoundError as error:
        if os.environ.get("ELT_TRACEBACK"):
            raise
        from elt.bootstrap import uv

        fix = f"rm -f {uv.INSTALLED_STAMP}, then scripts/bootstrap.sh"
        print(
            f"elt: the environment lacks {error.name}, as after an installation that was cut off: {fix}",
            file=sys.stderr,
        )
        sys.exit(1)
    except OSError as error:
        if error.errno not in SYSTEM_ERRORS or os.environ.get("ELT_TRACEBACK"):
            raise
        sys.stdout.flush()
        print(
            f"elt: {error.filename or layout.STATE}: {error.strerror} (.venv/bin/elt doctor says more)",
            file=sys.stderr,
        )
        sys.exit(1)


def _print_version(wanted: bool) -> None:
    if wanted:
        from importlib.metadata import version

        print(version("elt-workspace"))
        raise typer.Exit


@app.callback()
def options(
    version: t.Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    """Accept the options before a verb."""


# The stack ---------------------------------------------------------------------------------------


@app.command()
def up(
    timeout: t.Annotated[int, typer.Option(min=1, help="Seconds until everything must be healthy.")] = 180,
) -> None:
    """Start the stack and wait until every process is healthy."""
    from elt.config import settings
    from elt.services import stack

    stack.up(settings.load(), timeout)


@app.command()
def down() -> None:
    """Stop the stack, and end orphaned processes of a killed supervisor."""
    from elt.services import stack

    stack.down()


@app.command()
def status() -> None:
    """Show each process; exit code 1 unless all are healthy."""
    from elt.services import stack

    sys.exit(0 if stack.status() else 1)


@app.command()
def logs(
    name: t.Annotated[str, typer.Argument(help="A process of `elt status`, or a task such as extract_load.")],
    lines: t.Annotated[int, typer.Option("--lines", "-n", min=0, help="How many of the last lines.")] = 40,
    follow: t.Annotated[bool, typer.Option("--follow", "-f", help="Go on printing what is added.")] = False,
) -> None:
    """Print the end of the log of a process, or of a task's last try: elt logs dbt_run -n 100."""
    from elt.services import stack

    stack.logs(name, lines, follow=follow)


@app.command()
def parts() -> None:
    """List the optional parts of the stack, which ELT_PARTS in .env switches on, and what each needs."""
    from elt.config import settings
    from elt.services import parts

    parts.show(settings.load())


@app.command()
def restart(process: t.Annotated[str, typer.Argument(help="A process of `elt status`.")]) -> None:
    """Restart one process and wait until it is healthy."""
    from elt.services import stack

    stack.restart(process)


@app.command()
def doctor() -> None:
    """Check all that the workspace depends on; a failed line says how to fix it, exit code 1."""
    from elt.maintenance import doctor

    sys.exit(0 if doctor.examine() else 1)


@app.command()
def e2e(
    keep: t.Annotated[bool, typer.Option("--keep", help="Leave the stack running.")] = False,
    full: t.Annotated[bool, typer.Option("--full", help="Write all 1,469,307 lines first.")] = False,
    sample: t.Annotated[bool, typer.Option("--sample", help="Write the 93,912 lines of the sample first.")] = False,
) -> None:
    """Prove the platform: start, run the pipeline on Celery, check every result, stop.

    Extracts that are there are kept; without any, all lines are written. A stack that was running before is left
    running.
    """
    from elt.config import settings
    from elt.e2e import prove

    size = _size(full=full, sample=sample)
    prove.prove(settings.load(), keep=keep, size=size)


@app.command()
def backup(
    file: t.Annotated[Path | None, typer.Argument(help="Default: elt-backup-<time>.tar.gz, here.")] = None,
    sign: t.Annotated[Path | None, typer.Option(metavar="KEY", help="A secret key of minisign's.")] = None,
    new_key: t.Annotated[bool, typer.Option("--new-key", help="Make that key and KEY.pub first.")] = False,
) -> None:
    """Write databases, warehouses, extracts and settings to one file, while the stack is down."""
    from elt.maintenance import backup

    if new_key and not sign:
        raise typer.BadParameter("--new-key makes the key that --sign names")
    backup.back_up(file, sign, new_key=new_key)


@app.command()
def restore(
    file: t.Annotated[Path, typer.Argument(help="What `elt backup` wrote.")],
    verify: t.Annotated[
        Path | None, typer.Option(metavar="KEY.pub", help="The public key that FILE.minisig must be of.")
    ] = None,
) -> None:
    """Put a backup into a clone that has no data yet, all of it or nothing."""
    from elt.maintenance import backup

    backup.restore(file, verify)


# The data ----------------------------------------------------------------------------------------


@app.command()
def seed(
    full: t.Annotated[bool, typer.Option("--full", help="All 2,469 households: 1,469,307 lines.")] = False,
    sample: t.Annotated[bool, typer.Option("--sample", help="162 households: 93,912 lines.")] = False,
    example: t.Annotated[bool, typer.Option("--example", help="The few customers of sample_data.csv.")] = False,
    scale: t.Annotated[int, typer.Option(min=1, max=1000, help="Multiply the households by this number.")] = 1,
    promotions: t.Annotated[bool, typer.Option("--promotions", help="Besides, 20,940,529 promotions.")] = False,
    shop: t.Annotated[
        bool, typer.Option("--shop", help="Fill the database of a shop instead, or --sample of it.")
    ] = False,
    engine: t.Annotated[
        t.Literal["postgres", "mysql", "sqlite"],
        typer.Option(help="Where the shop is: the stack's PostgreSQL, the server of tap-mysql, or a file."),
    ] = "postgres",
) -> None:
    """Write the extracts that the pipeline loads (default: what was written last, at first all 1,469,307 lines)."""
    from elt.sources import seed

    if shop:
        from elt.config import settings
        from elt.sources import shop as database

        if example or promotions or scale != 1:
            raise typer.BadParameter("--shop has the full size or --sample")
        database.seed(settings.load(), sample=sample, engine=engine)
        return
    size = _size(full=full, sample=sample, example=example)
    if size is None and scale == 1:
        size, scale = seed.last()
    seed.seed(size or "full", scale)
    if promotions:
        seed.promotions()


@app.command()
def simulate(
    days: t.Annotated[int, typer.Option(min=1, max=10_000, help="How many.")] = 1,
    seed: t.Annotated[int, typer.Option(help="Another number, other days.")] = 0,
    engine: t.Annotated[t.Literal["postgres", "mysql"], typer.Option(help="Where the shop is.")] = "postgres",
) -> None:
    """Let days pass in the database of the shop: orders, changes, deletions, rows that are committed late."""
    from elt.config import settings
    from elt.sources import simulate

    simulate.simulate(settings.load(), days, seed, engine)


def _size(**given: bool) -> t.Any:  # noqa: ANN401 - seed.Size, whose module is imported by those verbs alone that need it
    """Return the one size that was given, None without one.

    Raises:
        typer.BadParameter: there are several.
    """
    sizes = [size for size, is_wanted in given.items() if is_wanted]
    if len(sizes) > 1:
        raise typer.BadParameter(f"--{' and --'.join(sizes)} exclude each other")
    return sizes[0] if sizes else None


@app.command()
def connections() -> None:
    """List the variables that plugins, models and DAGs name, and their origin; exit code 1 if one is missing."""
    from elt.config import settings
    from elt.sources import connections as found

    sys.exit(0 if found.show(settings.load()) else 1)


secrets_app = typer.Typer(no_args_is_help=True, help="A team's secrets: encrypted files, one for each environment.")
app.add_typer(secrets_app, name="secrets")
Chosen = t.Annotated[Environment | None, typer.Option("--environment", help="Default: ELT_ENVIRONMENT of .env.")]


def _chosen(environment: Environment | None) -> str:
    from elt.config import settings

    return environment or settings.load().elt_environment


@secrets_app.command("init")
def init_secrets(environment: Chosen = None) -> None:
    """Make your key if you have none, and the file: elt secrets init --environment prod."""
    from elt.config import secret_files

    secret_files.init(_chosen(environment))


@secrets_app.command("set")
def set_secret(
    name: t.Annotated[str, typer.Argument(help="Such as TAP_POSTGRES_PASSWORD or AIRFLOW_CONN_SLACK_ALERTS.")],
    environment: Chosen = None,
) -> None:
    """Set a secret, asked for or from standard input: elt secrets set TAP_POSTGRES_PASSWORD < file."""
    from elt.config import secret_files

    value = getpass.getpass(f"{name}: ") if sys.stdin.isatty() else sys.stdin.read().removesuffix("\n")
    chosen = _chosen(environment)
    secret_files.put(chosen, name, value)
    print(f"{secret_files.path_of(chosen)}: {name} is set; for a stack that runs, scripts/down.sh and scripts/up.sh")


@secrets_app.command("unset")
def unset_secret(name: t.Annotated[str, typer.Argument()], environment: Chosen = None) -> None:
    """Remove a secret: elt secrets unset TAP_POSTGRES_PASSWORD."""
    from elt.config import secret_files

    secret_files.drop(_chosen(environment), name)


@secrets_app.command("list")
def list_secrets(environment: Chosen = None) -> None:
    """List the names of the secrets, and for whom they are encrypted: elt secrets list --environment prod."""
    from elt.config import secret_files

    chosen = _chosen(environment)
    for one in secret_files.recipients(chosen):
        print(f"for {one}")
    for name in sorted(secret_files.values(chosen)):
        print(f"{name}=***")


@secrets_app.command("edit")
def edit_secrets(environment: Chosen = None) -> None:
    """Open the secrets in $EDITOR by sops, which encrypts what changed: elt secrets edit --environment prod."""
    from elt.config import secret_files

    secret_files.edit(_chosen(environment))


@secrets_app.command("rotate")
def rotate_secrets(environment: Chosen = None) -> None:
    """Encrypt with a new data key, in all environments unless one is named: elt secrets rotate."""
    from elt.config import secret_files

    secret_files.rotate([environment] if environment else secret_files.present())


@secrets_app.command("share")
def share_secrets(
    recipient: t.Annotated[str, typer.Argument(help="age1..., as `elt secrets init` prints it.")],
    remove: t.Annotated[bool, typer.Option("--remove", help="Leave him out of the files from now on.")] = False,
    environment: Chosen = None,
) -> None:
    """Let somebody read the secrets, of all environments unless one is named: elt secrets share age1...."""
    from elt.config import secret_files

    chosen = [environment] if environment else secret_files.present()
    if not remove:
        secret_files.rotate(chosen, add=recipient)
    else:
        secret_files.rotate(chosen, remove=recipient)
        print("he knows the values of before: set new ones")


@app.command()
def inspect(
    file: t.Annotated[str, typer.Argument(help="A file of CSV, JSON, parquet or Excel, a URL, or a glob in quotes.")],
    rows: t.Annotated[
        int | None, typer.Option(min=1, help="Rows that types are found from; default: as a load.")
    ] = None,
    all_rows: t.Annotated[bool, typer.Option("--all", help="Find types from all rows.")] = False,
    encoding: t.Annotated[str | None, typer.Option(help="Where the guess is wrong.")] = None,
    delimiter: t.Annotated[str | None, typer.Option(help="Where the guess is wrong.")] = None,
    members: t.Annotated[str | None, typer.Option(help="Which files of a zip file: '2024-*.csv'.")] = None,
    sheet: t.Annotated[str | None, typer.Option(help="Which one of a workbook.")] = None,
    entity: t.Annotated[str | None, typer.Option(help="Name of the table, if not that of the file.")] = None,
    write: t.Annotated[
        bool, typer.Option("--write", help="Add it to meltano.yml, and write the dbt source.")
    ] = False,
) -> None:
    """Say what would become of a file, and the entry that loads it: elt inspect stores.csv --write."""
    from elt.sources import inspection

    if all_rows:
        print("... reading all rows", flush=True)
    given = {"encoding": encoding, "delimiter": delimiter, "members": members, "sheet": sheet}
    found = inspection.inspect(file, rows=-1 if all_rows else rows, **given)
    inspection.show(found)
    if write:
        inspection.write(found, entity)
    else:
        print(f"\nfor `files` of tap-csv in {layout.MELTANO_YML} (--write adds it, and the dbt source):\n")
        print(inspection.as_yaml(inspection.entry(found, entity)))


@source_app.command("add")
def source_add(
    name: t.Annotated[str, typer.Argument(help="What it is called from then on: schema, tag, job, schedule.")],
    kind: t.Annotated[str, typer.Option(help="csv, excel, postgres, mysql or sqlite.")] = "",
    path: t.Annotated[str, typer.Option(help="The file: what `elt inspect` takes, or a database of SQLite.")] = "",
    host: t.Annotated[str, typer.Option(help="The server of the database.")] = "",
    port: t.Annotated[int | None, typer.Option(min=1, max=65535, help="Default: the usual one.")] = None,
    user: t.Annotated[str, typer.Option(help="As whom to connect.")] = "",
    database: t.Annotated[str, typer.Option(help="The database.")] = "",
    tables: t.Annotated[str, typer.Option(help="Those to load, with commas, or a sheet; default: all.")] = "",
    schedule: t.Annotated[
        str, typer.Option(help="When it runs: @daily, or as cron says; files: with the rest.")
    ] = "",
    dry_run: t.Annotated[
        bool, typer.Option("--dry-run", help="Show what would be written, and write nothing.")
    ] = False,
) -> None:
    """Look at a source, and write what loads it, and its staging models: elt source add crm --kind postgres."""
    from elt.sources import adding
    from elt.supervisor import signals

    def ask(what: str, default: str = "", *, hidden: bool = False) -> str:
        return str(typer.prompt(what, default=default, show_default=bool(default), hide_input=hidden))

    chosen = tuple(filter(None, (one.strip() for one in tables.split(","))))
    given = adding.Given(kind, path, host, port, user, database, chosen, schedule)
    with signals.interruptible():  # else SIGTERM would leave the tap running
        adding.add(name, given, ask=ask if sys.stdin.isatty() else None, dry_run=dry_run)


@source_app.command("remove")
def source_remove(
    name: t.Annotated[str, typer.Argument(help="What it was added as.")],
    dry_run: t.Annotated[bool, typer.Option("--dry-run", help="Show what would go, and change nothing.")] = False,
) -> None:
    """Take back what `elt source add` wrote, but for what was changed by hand; loaded tables stay."""
    from elt.sources import removing

    removing.remove(name, dry_run=dry_run)


@app.command()
def run(
    select: t.Annotated[list[str] | None, typer.Argument(help="dbt selection, such as daily_sales+.")] = None,
    full_refresh: t.Annotated[bool, typer.Option("--full-refresh", help="Load and build anew.")] = False,
    source: t.Annotated[
        str | None, typer.Option(metavar="JOB", help="A job of meltano.yml in place of the files, such as shop.")
    ] = None,
) -> None:
    """Load, transform and test without any server, in a warehouse of its own (a local run)."""
    from elt.config import settings
    from elt.pipeline import local_run

    local_run.run(settings.load(), select or [], full_refresh=full_refresh, source=source)


class _Query(typer.core.TyperCommand):
    """Accept an argument that begins with an SQL comment, `-- like this`, which is no option."""

    def parse_args(self, ctx: t.Any, args: list[str]) -> list[str]:  # noqa: ANN401 - typer's own copy of click's type
        """Put a blank before an argument that begins like an option, holds blanks, and is none."""
        known = {name for one in self.params for name in one.opts}
        sql = [one[:1] == "-" and one.partition("=")[0] not in known and len(one.split()) > 1 for one in args]
        return super().parse_args(ctx, [f" {one}" if is_sql else one for one, is_sql in zip(args, sql, strict=True)])


@app.command(cls=_Query)
def sql(
    query: t.Annotated[str | None, typer.Argument(help="Run this and print the result; none opens a prompt.")] = None,
    environment: t.Annotated[Environment | None, typer.Option(help="Default: ELT_ENVIRONMENT.")] = None,
    local: t.Annotated[bool, typer.Option("--local", help="The warehouse of `elt run`.")] = False,
    unsafe: t.Annotated[bool, typer.Option("--unsafe", help="Let it use files, extensions and programs.")] = False,
    inner: t.Annotated[bool, typer.Option("--inner", hidden=True, help="The former name of --local.")] = False,
) -> None:
    """Open a read-only SQL prompt on the published marts: elt sql --environment staging "from daily_sales"."""
    from elt.serving import prompt

    prompt.prompt(query, environment, local=local or inner, unsafe=unsafe)


@app.command()
def quality(
    environment: t.Annotated[Environment | None, typer.Option(help="Default: ELT_ENVIRONMENT.")] = None,
) -> None:
    """Compare the marts with totals taken from the CSV files by an independent route."""
    from elt.config import settings
    from elt.pipeline import quality
    from elt.warehouse import factory

    warehouse = factory.stack_warehouse(environment or settings.load().elt_environment)
    quality.check(layout.EXTRACT, warehouse, table=True)


@app.command("publish")
def publish_(
    environment: t.Annotated[Environment | None, typer.Option(help="Default: ELT_ENVIRONMENT.")] = None,
) -> None:
    """Give readers the marts: an immutable file, and tables in PostgreSQL, each replaced in one step."""
    from elt.config.settings import load
    from elt.serving import duckdb_copy

    settings = load()
    duckdb_copy.to_all_readers(environment or settings.elt_environment, settings)


@app.command()
def pipeline(
    name: t.Annotated[
        str | None,
        typer.Argument(help="A schedule, or NAME of NAME_elt_pipeline, such as shop; default: the files'."),
    ] = None,
    environment: t.Annotated[Environment | None, typer.Option(help="Default: ELT_ENVIRONMENT.")] = None,
    full_refresh: t.Annotated[bool, typer.Option("--full-refresh", help="Load and build anew.")] = False,
    resume: t.Annotated[bool, typer.Option("--resume", help="Go on with the last run, where it failed.")] = False,
    since: t.Annotated[
        datetime | None, typer.Option("--from", formats=DATES, help="Make up for the runs from this date on.")
    ] = None,
    until: t.Annotated[
        datetime | None, typer.Option("--to", formats=DATES, help="The last date of them; default: that of --from.")
    ] = None,
    source: t.Annotated[str | None, typer.Option(hidden=True, help="The former way to NAME.")] = None,
    uncommitted: t.Annotated[
        bool, typer.Option("--uncommitted", help="Let prod take what is not committed.")
    ] = False,
) -> None:
    """Run a pipeline on the running stack, and follow it: elt pipeline shop --from 2026-11-01 --to 2026-11-07."""
    from elt.config import settings
    from elt.orchestration import runs

    name = name or source
    if until and not since:
        raise typer.BadParameter("--to is the end of --from, which is missing")
    if resume and (environment or full_refresh or name or uncommitted or since):
        raise typer.BadParameter("--resume goes on with a run as it was begun: no other option fits")
    if resume:
        runs.resume(settings.load())
    else:
        given = settings.load()
        options: t.Any = {"full_refresh": full_refresh, "uncommitted": uncommitted, "since": since, "until": until}
        runs.trigger(given, environment, source=name, **options)


@app.command()
def plan(
    environment: t.Annotated[str, typer.Argument(help="dev, staging or prod; default: ELT_ENVIRONMENT.")] = "",
    name: t.Annotated[str, typer.Argument(help="A schedule, or its source; default: all.")] = "",
    local: t.Annotated[bool, typer.Option("--local", help="As `elt run` would, in its warehouse.")] = False,
) -> None:
    """Show what would run where: order, connections, state and rows of the last run, what dbt would build."""
    from elt.config import settings
    from elt.pipeline import plan

    plan.show(settings.load(), *plan.chosen([*filter(None, (environment, name))]), local=local)


# For the workspace's own files -------------------------------------------------------------------


@app.command("exec", context_settings={"ignore_unknown_options": True, "allow_interspersed_args": False})
def exec_(command: t.Annotated[list[str], typer.Argument(help="A program and its arguments.")]) -> None:
    """Run a command in the workspace's environment: elt exec airflow dags list."""
    from elt.config import process_env, settings

    env = process_env.build(settings.load())
    try:
        os.execvpe(command[0], command, env)  # noqa: S606 - that is what this verb is for
    except FileNotFoundError:
        raise EltError(f"exec: no program {command[0]!r} in the environment or on PATH") from None


@app.command()
def trim(
    days: t.Annotated[int, typer.Option(min=1, max=36500, help="Age in days that is kept.")] = 30,
) -> None:
    """Delete old runs, results and logs while the stack is up; the DAG maintenance does so every night."""
    from elt.maintenance import trim

    trim.trim(days)


@app.command()
def sbom(
    file: t.Annotated[Path, typer.Argument(help="Where it goes.")] = layout.STATE / "sbom.cdx.json",
) -> None:
    """Write the bill of materials of the lock (CycloneDX), and show the licences."""
    from elt.maintenance import sbom

    sbom.write(file)


@app.command(hidden=True)
def serve(server: t.Annotated[str, typer.Argument(help="postgres or redis")]) -> None:
    """Prepare a server's folder and run the server (for process-compose.yaml)."""
    from elt.services import serve

    serve.serve(server)


@app.command(hidden=True)
def migrate() -> None:
    """Create databases that are missing and bring Airflow's to the locked version (for process-compose.yaml)."""
    from elt.orchestration import database

    database.migrate()
