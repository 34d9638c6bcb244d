"""Create the databases and migrate Airflow's to the version of this workspace.

Runs at every start; with nothing to do it costs one connection.
"""

from __future__ import annotations

import importlib.metadata
import json
import os
import subprocess
from contextlib import closing

import psycopg2
import psycopg2.errors
import psycopg2.extensions

from elt import layout
from elt.atomic import atomic_write
from elt.config.settings import ADMIN, Settings
from elt.config.settings import load as load_settings
from elt.errors import StackError
from elt.orchestration import POOL, notify
from elt.services import databases
from elt.supervisor import guard

POOL_DESCRIPTION = "Tasks that write to a DuckDB warehouse: one at a time."
STAMP = layout.AIRFLOW_HOME / "migrated"
"""File with the version of Airflow that last migrated the database."""


def migrate() -> None:
    """Create what is missing, then migrate Airflow's database if another version did so last."""
    settings = load_settings()
    write_passwords(settings)
    version = importlib.metadata.version("apache-airflow")
    if not STAMP.exists() and not guard.uses_fork_server():  # the server is being made meanwhile
        import_airflow()
    databases.create_databases(settings)
    if STAMP.exists() and STAMP.read_text() == version and is_complete(settings):
        print(f"Airflow's database is at {version}")
        return
    print(f"migrating Airflow's database to {version}", flush=True)
    if guard.uses_fork_server():
        migrate_by_fork()
    else:
        migrate_airflow()
    install_triggers(settings)
    STAMP.write_text(version)


def write_passwords(settings: Settings) -> None:
    """Write the file from which Airflow's SimpleAuthManager takes passwords, for this user only."""
    layout.AIRFLOW_HOME.mkdir(mode=0o700, exist_ok=True)
    with atomic_write(layout.RUN / "airflow_passwords.json", 0o600) as path:
        path.write_text(json.dumps({ADMIN: settings.admin_password}) + "\n")


def is_complete(settings: Settings) -> bool:
    """Return whether Airflow's database is migrated, knows the writers' pool, and notifies the scheduler."""
    with closing(databases.connect(settings, "airflow")) as connection, connection.cursor() as cursor:
        try:
            cursor.execute("select 1 from slot_pool where pool = %s", (POOL,))
        except psycopg2.errors.UndefinedTable:
            return False
        has_pool = cursor.fetchone() is not None
        cursor.execute(notify.IS_INSTALLED)
        return has_pool and cursor.fetchone() == (True,)


def install_triggers(settings: Settings) -> None:
    """Install the triggers by which Airflow's database notifies the scheduler."""
    with closing(databases.connect(settings, "airflow")) as connection, connection, connection.cursor() as cursor:
        cursor.execute(notify.INSTALL)


def import_airflow() -> None:
    """Import what the migration needs: a second of work that most starts do without."""
    os.environ.setdefault("AIRFLOW__LOGGING__LOGGING_LEVEL", "WARNING")
    import airflow.dag_processing.dagbag  # noqa: PLC0415
    import airflow.utils.db  # noqa: PLC0415
    import sqlalchemy.orm  # noqa: PLC0415

    airflow.models.import_all_models()  # type: ignore[no-untyped-call]
    sqlalchemy.orm.configure_mappers()


def migrate_by_fork() -> None:
    """Run Airflow's own migration and create the pool, in processes of the fork server that imports Airflow anyway.

    Raises:
        StackError: one failed: see the output above.
    """
    for words in (("db", "migrate"), ("pools", "set", POOL, "1", POOL_DESCRIPTION)):
        command = ["elt-guard", "--fork", "airflow-preload", "airflow", *words]
        done = subprocess.run(command, env=os.environ | {"PC_PROC_NAME": ""})
        if done.returncode:
            raise StackError(f"airflow {' '.join(words[:2])} ended with exit code {done.returncode}")


def migrate_airflow() -> None:
    """Run Airflow's own migration and create the pool, in this process: two programs would import it twice."""
    import_airflow()
    from airflow.models.pool import Pool  # noqa: PLC0415
    from airflow.utils.db import upgradedb  # noqa: PLC0415

    upgradedb()
    Pool.create_or_update_pool(POOL, slots=1, description=POOL_DESCRIPTION, include_deferred=False)
