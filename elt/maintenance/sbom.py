"""Write the software bill of materials: every package of the lock, as CycloneDX, with hashes by uv and licences.

The licences are those of the metadata of installed packages; packages of other systems, which are in the lock but not
here, have none.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections import defaultdict
from importlib import metadata
from pathlib import Path

from rich.console import Console
from rich.table import Table

from elt import layout
from elt.bootstrap import uv
from elt.errors import SetupError

UNKNOWN = "not installed here"


def write(goal: Path) -> None:
    """Write the bill of materials, and print which packages have which licence.

    Raises:
        SetupError: uv cannot read the lock, or the file cannot be written.
    """
    fitting = uv.fitting()
    program = fitting.program if fitting else str(Path(sys.prefix, "bin", "uv"))
    if not Path(program).exists():
        raise SetupError("sbom: there is no uv that reads the lock: scripts/bootstrap.sh")
    command = [program, "export", "--frozen", "--quiet", "--format", "cyclonedx1.5"]
    done = subprocess.run(command, cwd=layout.ROOT, env=uv.variables(), capture_output=True, text=True)
    if done.returncode:
        raise SetupError(f"sbom: uv cannot export {layout.ROOT / 'uv.lock'}: {done.stderr.strip()}")
    bill = json.loads(done.stdout)
    by_licence: dict[str, list[str]] = defaultdict(list)
    for component in bill["components"]:
        found = licence(component["name"])
        by_licence[found or UNKNOWN].append(f"{component['name']} {component.get('version', '')}".strip())
        if found:
            component["licenses"] = [{"license": {"name": found}}]
    try:
        goal.parent.mkdir(parents=True, exist_ok=True)
        goal.write_text(json.dumps(bill, indent=1) + "\n")
    except OSError as error:
        raise SetupError(f"sbom: {goal} cannot be written: {error.strerror}") from None
    _show(by_licence)
    print(f"sbom: {len(bill['components'])} packages in {goal}")


def licence(package: str) -> str:
    """Return the licence of an installed package: its expression, else its classifiers, else a line of text."""
    try:
        fields = metadata.metadata(package).json
    except metadata.PackageNotFoundError:
        return ""
    if expression := fields.get("license_expression"):
        return str(expression)
    families = {"OSI Approved", "DFSG approved"}
    names = [one.rpartition(" :: ")[2] for one in fields.get("classifier", ()) if one.startswith("License ::")]
    names = [one for one in names if one not in families]
    if names:
        return " and ".join(sorted(names))
    lines = str(fields.get("license", "")).strip().splitlines()
    return lines[0] if lines else "not said"


def _show(by_licence: dict[str, list[str]]) -> None:
    table = Table("licence", "packages", "which")
    for name, packages in sorted(by_licence.items(), key=lambda one: -len(one[1])):
        table.add_row(name, str(len(packages)), ", ".join(packages))
    Console(width=160).print(table)
