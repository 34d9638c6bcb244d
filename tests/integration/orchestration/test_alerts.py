"""Alerts import what they need only when they have something to send."""

from __future__ import annotations

import subprocess
import sys


def test_a_parse_imports_neither_airflow_nor_a_provider():
    heavy = {"airflow", "slack_sdk", "smtplib", "pydantic"}
    code = f"import sys, elt.orchestration.alerts; print(sorted({heavy} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"
