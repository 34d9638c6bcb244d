"""Generate the tables of the documents that repeat what is defined elsewhere.

A page holds the lines `<!-- generated: NAME -->` and `<!-- end -->`; between them goes what the function of that NAME
here makes. `.venv/bin/python docs/generate.py` writes it anew; with `--check` it only says which pages differ.
"""

from __future__ import annotations

import argparse
import re
import sys
import typing as t

import typer
import typer.core
import yaml

from elt import layout
from elt.cli import app
from elt.config import env_file, process_env
from elt.config.settings import ADMIN, BI, Settings
from elt.errors import ConfigError
from elt.orchestration import runs
from elt.sources import jobs
from elt.supervisor.spec import is_once

if t.TYPE_CHECKING:
    from pathlib import Path

COMMAND = ".venv/bin/python docs/generate.py"
MARKED = re.compile(r"(?P<begin><!-- generated: (?P<name>[\w-]+) -->\n).*?(?P<end><!-- end -->\n)", re.DOTALL)
SIGNALS = {2: "INT", 15: "TERM"}
DITTO = '"'


def main() -> int:
    """Write every page that differs, or only name it."""
    parser = argparse.ArgumentParser(prog="docs/generate.py", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--check", action="store_true", help="write nothing; exit with 1 when a page differs")
    check: bool = parser.parse_args().check
    stale = [page for page in pages() if page.read_text() != fresh(page)]
    for page in stale:
        name = page.relative_to(layout.ROOT)
        print(f"{name} differs from what it repeats: run {COMMAND}" if check else f"{name} written")
        if not check:
            page.write_text(fresh(page))
    return 1 if check and stale else 0


def pages() -> list[Path]:
    """Return the pages that may hold a generated part."""
    return [layout.ROOT / "README.md", *sorted((layout.ROOT / "docs").rglob("*.md"))]


def fresh(page: Path) -> str:
    """Return the up-to-date text of a page.

    Raises:
        ConfigError: the page asks for a part that is not made here.
    """

    def part(match: re.Match[str]) -> str:
        if match["name"] not in PARTS:
            raise ConfigError(f"{page}: no generated part {match['name']!r}; there are {', '.join(PARTS)}")
        return f"{match['begin']}{PARTS[match['name']]()}{match['end']}"

    return MARKED.sub(part, page.read_text())


def table(heads: t.Sequence[str], rows: t.Iterable[t.Sequence[str]]) -> str:
    """Format a table in Markdown; a line break within a cell is kept."""
    cells = [[cell.replace("|", "\\|").replace("\n", "<br>") for cell in row] for row in rows]
    lines = [heads, ["---"] * len(heads), *cells]
    return "".join(f"| {' | '.join(line)} |\n".replace("|  |", "| |") for line in lines)


def code(text: object) -> str:
    """Format text as code."""
    return f"`{text}`"


# The parts ---------------------------------------------------------------------------------------


def settings() -> str:
    """Describe every setting of .env.example, with the accepted values."""
    rows, above, before = [], "", ""
    for name, default, comment in env_file.example_settings():
        own = " ".join(line.lstrip("# ") for line in comment.rpartition("\n\n")[2].splitlines()).strip()
        if "\n\n" in f"\n{comment}":  # a blank line begins a group, whose words hold for all of it
            above = own
        meaning = (own or above)[:1].upper() + (own or above)[1:]
        rows.append(
            (
                code(name),
                code(default) if default else "random",
                accepted(name),
                DITTO if meaning == before else meaning,
            )
        )
        before = meaning
    return table(("setting", "default", "accepted", "meaning"), rows)


def accepted(name: str) -> str:
    """Return the values that a setting may have, where it has a list or a range."""
    field = Settings.model_fields[name.lower()]
    if choices := t.get_args(field.annotation):
        return ", ".join(map(code, choices))
    low, high = (next((getattr(m, end) for m in field.metadata if hasattr(m, end)), None) for end in ("ge", "le"))
    return f"{low} to {high}" if low is not None else ""


def processes() -> str:
    """Describe the processes of process-compose.yaml."""
    found: dict[str, dict[str, t.Any]] = yaml.safe_load(layout.PROCESS_FILE.read_text())["processes"]
    filled = {name: {"depends_on": {}} | process for name, process in found.items()}
    rows = [
        (code(name), process["description"], waits_for(process), healthy(name, process, filled), stopped(process))
        for name, process in filled.items()
    ]
    return table(("process", "what it is", "starts after", "healthy when", "stopped by"), rows)


def waits_for(process: dict[str, t.Any]) -> str:
    """Describe what a process needs before it starts."""
    short = {"process_started": "started", "process_completed_successfully": "done", "process_healthy": "healthy"}
    return "\n".join(f"{code(name)} {short[need['condition']]}" for name, need in process["depends_on"].items())


def healthy(name: str, process: dict[str, t.Any], processes: dict[str, dict[str, t.Any]]) -> str:
    """Describe how a process is known to be healthy."""
    if is_once(name, processes):
        return "it has ended with 0"
    return f"{code(process['readiness_probe']['exec']['command'])} ends with 0"


def stopped(process: dict[str, t.Any]) -> str:
    """Describe the signal that ends a process, and the seconds after which it is killed."""
    how = process["shutdown"]
    return f"{SIGNALS[how['signal']]}, {how['timeout_seconds']} s"


def verbs() -> str:
    """Describe the verbs of `elt`, by their own help."""
    top = typer.main.get_command(app)
    assert isinstance(top, typer.core.TyperGroup)
    commands: dict[str, t.Any] = {}
    for name, command in top.commands.items():
        below = command.commands if isinstance(command, typer.core.TyperGroup) else {"": command}
        commands |= {f"{name} {one}".strip(): verb for one, verb in below.items()}
    rows = []
    for name, command in commands.items():
        if command.hidden:
            continue
        context = typer.Context(command, info_name=name)
        words = [re.sub("[{}]", "", piece).upper() for piece in command.collect_usage_pieces(context)[1:]]
        given = [one.get_help_record(context) for one in command.params if isinstance(one, typer.core.TyperOption)]
        options = [f"{code(record[0])}: {record[1].strip()}" for record in given if record]
        text = " ".join((command.help or "").split())
        rows.append((code(" ".join(["elt", name, *words])), text, "\n".join(options)))
    return table(("verb", "what it does", "options"), rows)


def steps() -> str:
    """Return the steps of the pipeline, as its DAG describes itself in Airflow."""
    schedule = next(one for one in jobs.schedules() if one.name == runs.DAG)
    rows = [(code(name), *texts) for name, texts in jobs.steps(schedule).items()]
    return table(("step", "what it does", "when it fails"), rows)


def of_schedules() -> str:
    """List what may stand under `annotations: elt:` of a schedule."""
    rows = [(code(name), one.description or "") for name, one in jobs.Annotations.model_fields.items()]
    return table(("name", "meaning"), rows)


def endpoints() -> str:
    """Describe what listens where by default."""
    given = {name: value for name, value, _ in env_file.example_settings()}
    login = f"{ADMIN} / `ADMIN_PASSWORD` of `.env`, which `elt status` prints"

    def at(port: str) -> str:
        return f"{given['BIND_ADDRESS']}:{given[port]}"

    names = ", ".join(process_env.DATABASES)
    rows = [
        ("Airflow", f"http://airflow.localhost:{given['AIRFLOW_PORT']}", login),
        ("Flower (Celery)", f"http://{at('FLOWER_PORT')}", login),
        ("Streamlit (the marts)", f"http://{at('STREAMLIT_PORT')}", "none, loopback only"),
        ("PostgreSQL", f"{at('POSTGRES_PORT')}, databases {names}", f"{BI} / `BI_PASSWORD` of `.env`"),
        ("Valkey (Redis protocol; the process `redis`)", "a socket", "`VALKEY_PASSWORD` of `.env`"),
    ]
    return table(("what", "address", "login"), rows)


PARTS: dict[str, t.Callable[[], str]] = {
    "settings": settings,
    "processes": processes,
    "verbs": verbs,
    "steps": steps,
    "annotations": of_schedules,
    "endpoints": endpoints,
}


if __name__ == "__main__":
    sys.exit(main())
