"""Build the environment variables with which every program of the workspace is started.

Settings reach a process this way and no other: nothing secret stands on a command line or in a
committed file. `elt exec COMMAND` gives the same environment to a command typed by hand.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

from elt import layout
from elt.config import meltano_plugins, programs, secret_files, services
from elt.config.airflow_names import airflow_names
from elt.config.services import LOOPBACK
from elt.config.settings import ADMIN, OWNER, Settings

DATABASES = ("airflow", "meltano", "metabase", "marts", "shop")
"""Databases of the stack's PostgreSQL."""


def build(settings: Settings, *, local_run: bool = False) -> dict[str, str]:
    """Return all environment variables for a program of the workspace.

    Args:
        settings: the checked settings.
        local_run: for `elt run`, which needs no server: warehouse, Meltano's state and dbt's folders are its own.

    Returns:
        A copy of this process's environment with the workspace's variables set.
    """
    work = layout.LOCAL_RUN if local_run else layout.STATE
    plugins = meltano_plugins.plugin_settings()
    env = {
        name: value
        for name, value in (airflow_names() | os.environ | plugins.given).items()
        if name not in plugins.ignored and not secret_files.DECIDED.match(name)
    }
    env = secret_files.values(settings.elt_environment) | env
    programs.valkey_server()  # for its error
    # psql and pg_dump fit the server, whichever the user has besides
    folders = (
        layout.PROGRAMS,
        str(Path(sys.prefix) / "bin"),
        str(programs.postgres_bin()),
        env.get("PATH", os.defpath),
    )
    env |= settings.values()
    listeners = settings.listeners()
    direct = ",".join(dict.fromkeys((settings.connect_address, LOOPBACK, "localhost", "::1")))
    env |= {
        "PATH": os.pathsep.join(filter(None, folders)),
        "PYTHONPATH": str(layout.ROOT / "elt" / "startup"),  # and not what the user has for other purposes
        "POSTGRES_USER": OWNER,
        "ELT_ROOT": str(layout.ROOT),
        "ELT_STATE": str(layout.STATE),
        "ELT_EXTRACT": str(layout.EXTRACT),
        "ELT_WAREHOUSES": str(layout.LOCAL_RUN if local_run else layout.WAREHOUSES),
        "DUCKDB_EXTENSION_DIRECTORY": str(layout.DUCKDB_EXTENSIONS),
        "CONNECT_ADDRESS": settings.connect_address,
        "POSTGRES_ADDRESS": listeners.get("POSTGRES_PORT", ("",))[0],
        "POSTGRES_HOST": str(settings.sockets),
        "VALKEY_ADDRESS": listeners.get("VALKEY_PORT", ("",))[0],
        "VALKEY_SOCKET": str(settings.valkey_socket),
        "NO_PROXY": direct,
        "no_proxy": direct,
        "DO_NOT_TRACK": "1",
        "SCARF_ANALYTICS": "false",
        "TZ": "UTC",
        # A task's standard input is a socket, and bash below level 2 then reads ~/.bashrc, as for a remote shell:
        # what stands there (pyenv, conda) would go before the locked environment.
        "SHLVL": "1",
        "PYTHONWARNINGS": "ignore:Could not import graphviz",  # `airflow dags` would say so each time
    }
    off = services.parts_off(settings.elt_parts)
    shared = services.shared_ports(env)
    env["ELT_SHARED_PORTS"] = " ".join(f"{process}={port}" for process, (_, port) in shared.items())
    env |= {part.variable: "true" if part.name in off else "false" for part in services.PARTS}
    env |= layout.libraries()
    return env | _airflow(settings) | _meltano_and_dbt(settings, work, local_run=local_run) | _streamlit(settings)


def _airflow(settings: Settings) -> dict[str, str]:
    database = settings.postgres_url("airflow")
    return {
        "AIRFLOW_HOME": str(layout.AIRFLOW_HOME),
        "AIRFLOW_CONFIG": str(layout.ROOT / "airflow" / "airflow.cfg"),
        "AIRFLOW_CONN_FS_DEFAULT": "fs://",
        "AIRFLOW__CORE__FERNET_KEY": settings.airflow_fernet_key,
        "AIRFLOW__CORE__EXECUTION_API_SERVER_URL": settings.url(settings.airflow_port) + "/execution/",
        "AIRFLOW__CORE__DEFAULT_TASK_RETRY_DELAY": str(settings.task_retry_seconds),
        "AIRFLOW__CORE__PARALLELISM": str(settings.worker_concurrency),
        "AIRFLOW__API__HOST": settings.bind_address,
        "AIRFLOW__API__PORT": str(settings.airflow_port),
        "AIRFLOW__API__BASE_URL": settings.airflow_url(),
        "AIRFLOW__API__SECRET_KEY": settings.airflow_api_secret_key,
        "AIRFLOW__API_AUTH__JWT_SECRET": settings.airflow_jwt_secret,
        "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN": database,
        "AIRFLOW__CELERY__BROKER_URL": settings.valkey_url(),
        "AIRFLOW__CELERY__RESULT_BACKEND": f"db+{database}",
        "AIRFLOW__CELERY__WORKER_CONCURRENCY": str(settings.worker_concurrency),
        "AIRFLOW__CELERY__FLOWER_HOST": settings.bind_address,
        "AIRFLOW__CELERY__FLOWER_PORT": str(settings.flower_port),
        "FLOWER_READ_ONLY": "true",  # else whoever logs in there has the worker run what he likes
        "AIRFLOW__CELERY__FLOWER_BASIC_AUTH": f"{ADMIN}:{settings.admin_password}",
    }


def _meltano_and_dbt(settings: Settings, work: Path, *, local_run: bool) -> dict[str, str]:
    state = f"sqlite:///{work / 'meltano.db'}" if local_run else settings.postgres_url("meltano")
    return {
        "MELTANO_PROJECT_ROOT": str(layout.MELTANO_PROJECT),
        "MELTANO_SYS_DIR_ROOT": str(work / "meltano"),
        "MELTANO_DATABASE_URI": state,
        "MELTANO_ENVIRONMENT": settings.elt_environment,
        "XDG_STATE_HOME": str(work / "xdg" / "state"),  # else Meltano writes logs and caches to the home folder
        "XDG_CACHE_HOME": str(work / "xdg" / "cache"),
        "MELTANO_SEND_ANONYMOUS_USAGE_STATS": "false",
        "DBT_PROJECT_DIR": str(layout.DBT_PROJECT),
        "DBT_PROFILES_DIR": str(layout.DBT_PROJECT),
        "DBT_TARGET_PATH": str(work / "dbt" / "target"),
        "DBT_LOG_PATH": str(work / "dbt" / "logs"),
        "DBT_SEND_ANONYMOUS_USAGE_STATS": "false",
    }


def _streamlit(settings: Settings) -> dict[str, str]:
    return {
        "STREAMLIT_SERVER_ADDRESS": LOOPBACK,  # it has no login
        "STREAMLIT_SERVER_ALLOWED_HOSTS": f"{LOOPBACK} {settings.allowed_hosts}",
        "STREAMLIT_SERVER_PORT": str(settings.streamlit_port),
        "STREAMLIT_SERVER_HEADLESS": "true",
        "STREAMLIT_SERVER_FILE_WATCHER_TYPE": "none",
        "STREAMLIT_SERVER_MAX_UPLOAD_SIZE": "0",  # else anybody on this machine fills its memory
        "STREAMLIT_CLIENT_TOOLBAR_MODE": "viewer",
        "STREAMLIT_BROWSER_GATHER_USAGE_STATS": "false",
    }
