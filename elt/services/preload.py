"""Define the two fork servers of the stack: what each imports, and how its forked processes run a command."""

from __future__ import annotations

import contextlib
import gc
import os
import socket
import sys
from pathlib import Path

from elt.errors import ConfigError, EltError
from elt.supervisor import fork_server
from elt.supervisor.fork_server import Program

CONNECT_SECONDS = 0.5


def _airflow(command: list[str]) -> None:
    """Run `airflow ...`, with a new object-relational mapper, whose connections no two processes may share."""
    from airflow import __main__ as airflow  # noqa: PLC0415
    from airflow import settings  # noqa: PLC0415

    settings.dispose_orm(do_log=False)
    settings.configure_orm()  # type: ignore[no-untyped-call]
    if command[1:2] == ["celery"]:
        _leave_out_warm_up()
    sys.argv = command
    airflow.main()  # type: ignore[no-untyped-call]


def _prepare_airflow() -> None:
    """Configure Airflow's object-relational mapper and command line: 0.3 s and 25 MiB less in each process."""
    import airflow.models  # noqa: PLC0415
    import sqlalchemy.orm  # noqa: PLC0415
    from airflow.cli import cli_parser  # noqa: PLC0415

    airflow.models.import_all_models()  # type: ignore[no-untyped-call]
    sqlalchemy.orm.configure_mappers()
    cli_parser.get_parser()


def _leave_out_warm_up() -> None:
    """Keep Airflow from warming up Celery's processes: all is imported except numpy, which none of ours needs.

    It would also undo gc.freeze, and the garbage collector would then copy every shared page.
    """
    from airflow.providers.celery.executors import celery_executor_utils as utils  # noqa: PLC0415
    from celery import signals  # type: ignore[import-untyped]  # noqa: PLC0415

    signals.import_modules.disconnect(utils.on_celery_import_modules)
    signals.worker_ready.disconnect(utils.on_celery_worker_ready)
    signals.import_modules.connect(lambda **_: gc.freeze(), weak=False)


def _meltano_or_dbt(command: list[str]) -> None:
    """Run `meltano ...` or `dbt ...`."""
    sys.argv = command
    if Path(command[0]).name == "dbt":
        from dbt.cli.main import cli  # noqa: PLC0415

        cli()
    else:
        from meltano.cli import main  # noqa: PLC0415

        from elt.config import programs  # noqa: PLC0415

        programs.write_no_copy()
        main()


def _airflow_answers() -> bool:
    """Return whether Airflow's API listens, which comes last in a start."""
    api = os.environ["CONNECT_ADDRESS"], int(os.environ["AIRFLOW_PORT"])
    with contextlib.suppress(OSError), socket.create_connection(api, timeout=CONNECT_SECONDS):
        return True
    return False


PROGRAMS = {
    "airflow": Program(
        (
            "airflow.__main__",
            "airflow.api_fastapi.app",
            "airflow.api_fastapi.core_api.app",
            "airflow.api_fastapi.execution_api.app",
            "airflow.api_fastapi.execution_api.routes",
            "airflow.api_fastapi.execution_api.versions",
            "airflow.cli.commands.api_server_command",
            "airflow.cli.commands.dag_processor_command",
            "airflow.cli.commands.scheduler_command",
            "airflow.cli.commands.triggerer_command",
            "airflow.dag_processing.manager",
            "airflow.jobs.scheduler_job_runner",
            "airflow.jobs.triggerer_job_runner",
            # Not Celery's application, airflow.providers.celery.executors: it reads the client's name when imported.
            "airflow.providers.celery.cli.celery_command",
            "airflow.utils.db",
            "celery.apps.worker",
            "celery.backends.database",
            "celery.bin.celery",
            "celery.concurrency.prefork",
            "flower.command",
            "kombu.transport.redis",
            "uvicorn.lifespan.on",
            "uvicorn.protocols.http.auto",
            # what the first tasks would import
            "airflow.providers.standard.operators.bash",
            "airflow.providers.standard.operators.python",
            "airflow.providers.standard.sensors.filesystem",
            "airflow.providers.standard.triggers.file",
            "airflow.sdk.execution_time.supervisor",
            "airflow.sdk.execution_time.task_runner",
        ),
        _airflow,
        _prepare_airflow,
    ),
    # Not DuckDB, which starts a thread when it is imported.
    "pipeline": Program(("dbt.cli.main", "meltano.cli"), _meltano_or_dbt, is_due=_airflow_answers),
}


def main() -> None:
    """Run the fork server named on the command line: `elt-preload airflow` or `elt-preload pipeline`."""
    try:
        if len(sys.argv) != 2 or sys.argv[1] not in PROGRAMS:
            raise ConfigError(f"usage: elt-preload {'|'.join(PROGRAMS)}")
        fork_server.run(PROGRAMS[sys.argv[1]])
    except EltError as error:
        sys.exit(f"elt-preload: {error}")


if __name__ == "__main__":
    main()
