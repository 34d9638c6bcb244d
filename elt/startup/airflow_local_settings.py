"""Have Airflow's processes mask a team's secrets in all that they log; Airflow imports this when it starts."""

import contextlib
import os
import typing as t

from elt import layout
from elt.errors import EltError

__all__: list[str] = []  # Airflow would take all other names for settings of its own


def _mask(environment: str) -> None:
    from airflow._shared import secrets_masker as of_servers  # noqa: PLC0415 - only where there are secrets
    from airflow.sdk._shared import secrets_masker as of_tasks  # noqa: PLC0415

    from elt.config import secret_files  # noqa: PLC0415

    known: list[t.Any] = []
    with contextlib.suppress(EltError):  # what starts the process has told of it
        known += [one for value in secret_files.values(environment).values() for one in secret_files.parts_of(value)]
    of_servers.mask_secret(known)
    of_tasks.mask_secret(known)
    reset = of_tasks.reset_secrets_masker

    def begin_with_ours() -> None:
        """Forget the masks of the task before, but not these."""
        reset()
        of_tasks.mask_secret(known)

    of_tasks.reset_secrets_masker = begin_with_ours  # a task begins by calling it


if (layout.SECRETS / f"{os.environ.get('ELT_ENVIRONMENT', '')}.enc.env").is_file():
    _mask(os.environ["ELT_ENVIRONMENT"])
