"""Prepare PostgreSQL's data folder, then replace this process by the server.

Imports nothing heavy: every start waits for it.
"""

from __future__ import annotations

import os
import re
import shutil
import socket
import subprocess
import sys
import typing as t
from pathlib import Path

from elt import layout
from elt.atomic import atomic_write
from elt.config import programs
from elt.config.settings import OWNER
from elt.errors import SetupError, last_line
from elt.services import relay

NOBODY = 65534
"""User and group id that PostgreSQL runs as when root starts it; every system has it."""

HBA_LINES = """\
# Written at each start. listen_addresses decides from where the server can be reached.
# type database    user address method
local  all         all          scram-sha-256
local  replication all          scram-sha-256
"""
"""Lines of pg_hba.conf for connections by the socket."""
HBA_LINES_TCP = {
    "off": "",
    "bi": "",  # these come through the socket by elt/services/relay.py
    "on": "host   all         all  all      scram-sha-256\nhost   replication all  samehost scram-sha-256\n",
}
"""Lines of pg_hba.conf for connections by TCP, by the setting POSTGRES_TCP."""


def become_postgres() -> t.NoReturn:
    """Create the cluster if there is none, and run the server in the foreground."""
    bin_folder, data = programs.postgres_bin(), layout.POSTGRES_DATA
    if not (data / "PG_VERSION").exists():
        initdb(bin_folder, data)
    refuse_other_version(bin_folder, data)
    write_hba(data)
    is_relayed = os.environ["POSTGRES_TCP"] == "bi"
    settings = {
        "listen_addresses": "" if is_relayed else os.environ["POSTGRES_ADDRESS"],
        "port": os.environ["POSTGRES_PORT"],
        "unix_socket_directories": os.environ["POSTGRES_HOST"],
        "unix_socket_permissions": "0700",
        "max_connections": "100",
        # silent connections count as well: anybody can open them where the server listens on TCP
        "authentication_timeout": "5s",
        # 8 MB in place of 8 GB: whoever may connect can fill it, and elt/orchestration/notify.py does without it then
        "max_notify_queue_pages": "1024",
        "shared_buffers": "64MB",
        "logging_collector": "off",
    }
    options = [word for name, value in settings.items() for word in ("-c", f"{name}={value}")]
    command = (*unprivileged(data), str(bin_folder / "postgres"), "-D", str(data), *options)
    if is_relayed:
        start_relay()
    os.execvp(command[0], command)  # noqa: S606


def start_relay() -> None:
    """Start the relay for BI tools, which runs as long as this process, soon PostgreSQL.

    Raises:
        SetupError: the port is taken.
    """
    address, port = os.environ["POSTGRES_ADDRESS"], os.environ["POSTGRES_PORT"]
    path = f"{os.environ['POSTGRES_HOST']}/.s.PGSQL.{port}"
    try:
        is_shared = sys.platform == "linux"  # elt/supervisor/ports.py holds it
        server = socket.create_server((address, int(port)), backlog=relay.MAX_CONNECTIONS, reuse_port=is_shared)
    except OSError as error:
        raise SetupError(f"{address}:{port} (POSTGRES_PORT) cannot be listened on: {error.strerror}") from None
    with server:
        command = [sys.executable, "-IS", relay.__file__, str(server.fileno()), path, str(os.getpid())]
        subprocess.run(command, check=True, pass_fds=(server.fileno(),))


def initdb(bin_folder: Path, data: Path) -> None:
    """Create a new cluster atomically, so that an incomplete one is never started.

    The built-in C.UTF-8 locale makes the folder independent of the C library and of ICU.
    """
    new = data.with_name(data.name + ".new")
    shutil.rmtree(new, ignore_errors=True)
    new.mkdir(mode=0o700)
    prefix = unprivileged(new)
    locale = ("--encoding=UTF8", "--locale-provider=builtin", "--builtin-locale=C.UTF-8", "--locale=C")
    # the password travels through a pipe: neither a command line nor a file shows it
    reader, writer = os.pipe()
    os.write(writer, os.environ["POSTGRES_PASSWORD"].encode() + b"\n")
    os.close(writer)
    command = [
        *prefix,
        str(bin_folder / "initdb"),
        "-D",
        str(new),
        "-U",
        os.environ["POSTGRES_USER"],
        "-A",
        "scram-sha-256",
    ]
    try:
        subprocess.run([*command, f"--pwfile=/dev/fd/{reader}", "--no-sync", *locale], check=True, pass_fds=(reader,))
    except subprocess.CalledProcessError as error:
        raise SetupError(f"initdb ended with exit code {error.returncode}: see the output above") from None
    finally:
        os.close(reader)
    new.rename(data)


def write_hba(data: Path) -> None:
    """Write pg_hba.conf: whoever reaches the address that the server listens on may connect by password.

    Called at each start, as initdb admits loopback alone and BIND_ADDRESS may have changed since.
    """
    with atomic_write(data / "pg_hba.conf", 0o600) as path:
        path.write_text(HBA_LINES + HBA_LINES_TCP[os.environ["POSTGRES_TCP"]])


def set_password(secret: str) -> None:
    """Set another password of the data's owner, while no server runs; the secret consists of digits and letters.

    Raises:
        SetupError: a server runs on it, or it does not take the statement.
    """
    bin_folder, data = programs.postgres_bin(), layout.POSTGRES_DATA
    refuse_other_version(bin_folder, data)
    # Its standard input, and not a command line, has the statement; every user of the data may say it in this mode.
    command = [*unprivileged(data), str(bin_folder / "postgres"), "--single", "-j", "-D", str(data), "postgres"]
    statement = f"alter role {OWNER} password '{secret}';\n\n"
    run = subprocess.run(command, input=statement, capture_output=True, text=True)
    if run.returncode or "ERROR" in run.stderr:
        wrong = [line for line in run.stderr.splitlines() if re.search("FATAL|ERROR", line)]
        raise SetupError(wrong[0] if wrong else last_line(run.stderr))


def refuse_other_version(bin_folder: Path, data: Path) -> None:
    """Refuse a cluster of another major version, with a clearer message than the server's.

    Raises:
        SetupError: the folder was made by another major version of PostgreSQL.
    """
    have = (data / "PG_VERSION").read_text().strip()
    done = subprocess.run([str(bin_folder / "postgres"), "--version"], capture_output=True, text=True, check=True)
    match = re.search(r"(\d+)", done.stdout)
    if match and match[1] != have:
        raise SetupError(
            f"{data} was made by PostgreSQL {have}, this is {match[1]}: start it with that version, "
            f"or set it aside (mv {data} {data}.{have}) and let a new one be made"
        )


def unprivileged(data: Path) -> tuple[str, ...]:
    """Return the command prefix of a PostgreSQL program: none for an ordinary user, a change of user for root.

    PostgreSQL refuses root. A user namespace keeps the files root's and works where the environment lies below
    /root; where containers forbid it, the folder is handed to nobody.
    """
    if os.geteuid() != 0:
        return ()
    namespace = ("unshare", "--user", f"--map-user={NOBODY}", f"--map-group={NOBODY}", "--")
    if shutil.which("unshare") and subprocess.run([*namespace, "true"], capture_output=True).returncode == 0:
        return namespace
    for folder, _, files in os.walk(data):
        os.chown(folder, NOBODY, NOBODY)
        for name in files:
            os.chown(Path(folder, name), NOBODY, NOBODY)
    for above in data.parents:
        if not above.stat().st_mode & 0o001:
            raise SetupError(
                "PostgreSQL may not run as root, user namespaces are not allowed here, and the user nobody "
                f"cannot enter {above}: run as an ordinary user, or clone to a folder that everybody may enter"
            )
    return ("setpriv", f"--reuid={NOBODY}", f"--regid={NOBODY}", "--clear-groups", "--")
