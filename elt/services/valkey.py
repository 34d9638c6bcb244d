"""Write Valkey's configuration, then replace this process by the server."""

from __future__ import annotations

import os
import typing as t

from elt import layout
from elt.atomic import atomic_write
from elt.config import programs


def become_valkey() -> t.NoReturn:
    """Write the configuration, readable by this user only, and run Valkey in the foreground."""
    layout.VALKEY_DATA.mkdir(mode=0o700, exist_ok=True)
    listens = os.environ["VALKEY_ADDRESS"]
    settings = {
        **({"bind": listens, "port": os.environ["VALKEY_PORT"]} if listens else {"port": "0"}),
        "unixsocket": os.environ["VALKEY_SOCKET"],
        "unixsocketperm": "700",
        "requirepass": os.environ["VALKEY_PASSWORD"],
        "dir": f'"{layout.VALKEY_DATA}"',
        # a killed broker comes back with the tasks it held
        "appendonly": "yes",
        "appendfsync": "everysec",
        "save": '""',
        "maxmemory-policy": "noeviction",
    }
    config = layout.RUN / "valkey.conf"
    with atomic_write(config, 0o600) as path:
        path.write_text("".join(f"{name} {value}\n" for name, value in settings.items()))
    command = (str(programs.valkey_server()), str(config))
    os.execvp(command[0], command)  # noqa: S606
