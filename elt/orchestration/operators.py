"""Define the Airflow operators of the workspace's DAGs."""

from __future__ import annotations

import contextlib
import subprocess
import typing as t

from airflow.providers.standard.operators.bash import BashOperator
from airflow.sdk.exceptions import AirflowException, AirflowFailException
from airflow.sdk.log import mask_secret

from elt.config import secret_files
from elt.errors import ConfigError, DataError, SetupError
from elt.pipeline import meltano_log, revision
from elt.sources import connections

if t.TYPE_CHECKING:
    from collections.abc import Callable
    from datetime import datetime

    from airflow.sdk import Context


@contextlib.contextmanager
def no_retry() -> t.Iterator[None]:
    """Fail a task without retries by an error that a retry would meet again: of data, settings or permissions.

    Raises:
        AirflowFailException: there was such an error.
    """
    try:
        yield
    except (ConfigError, DataError, SetupError, PermissionError) as error:
        raise AirflowFailException(str(error)) from error


class MeltanoOperator(BashOperator):
    """Run a command of Meltano, and fail without retries where a retry would fail again.

    Args:
        partition: returns the variables that name the part of the data that a run of a moment loads.
        more: arguments of BashOperator.
    """

    def __init__(self, *, partition: Callable[[datetime], dict[str, str]] = lambda _: {}, **more: t.Any) -> None:  # noqa: ANN401 - BashOperator's
        super().__init__(**more)
        self.partition = partition

    def execute(self, context: Context) -> None:
        """Run the command, and log each line of its output.

        Raises:
            AirflowFailException: it failed by a model, a test or the input: no retry.
            AirflowException: it failed otherwise.
        """
        env = self.get_env(context)
        if run := context.get("dag_run"):
            env |= self.partition(run.logical_date or run.run_after)
        params = context.get("params", {})
        if environment := params.get("environment"):
            with no_retry():
                forced = bool(params.get("uncommitted"))
                if warning := revision.refuse_uncommitted(str(environment), forced=forced):
                    self.log.warning("%s", warning)
                env = secret_files.switched(env, str(environment))
                for value in secret_files.values(str(environment)).values():
                    for one in secret_files.parts_of(value):
                        mask_secret(one)
                connections.refuse_missing(str(self.bash_command).split(), env, str(environment))
        outcome = meltano_log.Outcome()
        # No `with`: when the task's time is up, it would wait for the process that only on_kill ends.
        process = self.subprocess_hook.sub_process = subprocess.Popen(
            ["bash", "-c", t.cast("str", self.bash_command)],
            cwd=self.cwd,
            env=env,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        assert process.stdout is not None
        for raw in process.stdout:
            line = raw.decode(errors="replace").rstrip()
            self.log.info("%s", line)
            outcome.take(line)
        process.wait()
        process.stdout.close()
        self.log.info("%s %s", meltano_log.COMMAND_ENDED, process.returncode)
        if process.returncode:
            kind = AirflowFailException if outcome.is_final() else AirflowException
            raise kind(outcome.reason())
