"""Keep what `up` knew of the stack that it started, for verbs that must work with a damaged .env."""

from __future__ import annotations

import contextlib
import hashlib
import json
import secrets
import typing as t

from elt.errors import SetupError
from elt.supervisor import spec

if t.TYPE_CHECKING:
    from pathlib import Path

    from elt.supervisor.client import Row


class Facts:
    """Read and write the file of the facts about a running stack.

    Args:
        path: its name.
    """

    def __init__(self, path: Path) -> None:
        self.path = path

    def write(
        self, supervisor: str, processes: dict[str, spec.Process], settings: t.Mapping[str, str], root: Path
    ) -> None:
        """Write the facts anew, readable by this user only.

        Args:
            supervisor: embedded or process-compose.
            processes: those of the file.
            settings: values by name.
            root: working folder of the processes, to which the paths of their logs are relative.
        """
        self.path.unlink(missing_ok=True)
        self.path.touch(mode=0o600)
        facts = {
            "supervisor": supervisor,
            "once": [name for name in processes if spec.is_once(name, processes)],
            "probed": [name for name, process in processes.items() if "readiness_probe" in process],
            "logs": {name: str(root / process["log_location"]) for name, process in processes.items()},
            "settings": _digests(settings),
        }
        self.path.write_text(json.dumps(facts))

    def read(self) -> dict[str, t.Any]:
        """Read the facts; empty ones where there is no file, or one that cannot be read."""
        facts: dict[str, t.Any] = {"supervisor": "", "once": [], "probed": [], "logs": {}, "settings": {}}
        with contextlib.suppress(OSError, ValueError):
            known = json.loads(self.path.read_text())
            if isinstance(known, dict):
                facts |= {key: value for key, value in known.items() if isinstance(value, type(facts.get(key, "")))}
        return facts

    def refuse_other_settings(self, settings: t.Mapping[str, str]) -> None:
        """Refuse to go on if the running stack was started with other settings.

        Args:
            settings: with which a stack would be started now.

        Raises:
            SetupError: settings differ; it names them.
        """
        was = self.read()["settings"]
        now = _digests(settings, was.get("salt", ""))
        if was and (names := sorted(name for name in was.keys() | now.keys() if was.get(name) != now.get(name))):
            which = ", ".join(names)
            raise SetupError(
                f"the stack runs with other settings than now ({which}): scripts/down.sh, then scripts/up.sh"
            )


def state_of(row: Row, facts: t.Mapping[str, t.Any]) -> str:
    """Return the state of a process in a word, by the supervisor's answer and the facts of the file."""
    is_once = row["name"] in facts["once"]
    if row["status"] in {"Running", "Launching", "Launched"}:
        is_ready = row["is_ready"] == "Ready" if row["name"] in facts["probed"] else not is_once
        return "ready" if is_ready else "starting"
    if row["status"] == "Completed":
        return "done" if is_once and not row["exit_code"] else "failed"
    names = {"Pending": "waiting", "Terminating": "stopping", "Error": "failed"}
    return names.get(row["status"], str(row["status"]).lower())


def _digests(settings: t.Mapping[str, str], salt: str = "") -> dict[str, str]:
    """Return a salted digest of each setting by its name, from which no value can be read.

    Args:
        settings: values by name.
        salt: that of the digests to compare with; none makes one.

    Returns:
        The digests, and the salt as `salt`.
    """
    salt = salt or secrets.token_hex(16)
    return {"salt": salt} | {
        name: hashlib.sha256(f"{salt}{name}={value}".encode()).hexdigest() for name, value in settings.items()
    }
