"""Run a process-compose.yaml in the foreground: `python -m elt.supervisor FILE`.

The API listens on $ELT_STATE/run/supervisor.sock.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

sys.modules["ssl"] = None  # type: ignore[assignment]  # asyncio goes without: 4 MiB for what we never speak


def main() -> int:
    """Read the file, run it, and return the exit code."""
    from elt.errors import EltError  # noqa: PLC0415
    from elt.supervisor import embedded, spec  # noqa: PLC0415

    if len(sys.argv) != 2 or not os.environ.get("ELT_STATE"):
        print("usage: ELT_STATE=FOLDER python -m elt.supervisor FILE", file=sys.stderr)
        return 2
    run = Path(os.environ["ELT_STATE"], "run")
    run.mkdir(mode=0o700, parents=True, exist_ok=True)
    try:
        embedded.run(spec.load(Path(sys.argv[1]), os.environ), run / "supervisor.sock")
    except EltError as error:
        print(error, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
