"""Configure each Python program of the workspace, which runs this first: PYTHONPATH is this folder alone.

While a program imports, it makes tens of thousands of objects that all live on, and Python's default looks through
them for garbage after every 700. Looking less often takes a third off the start of Airflow's API server (3.6 to
2.5 CPU seconds) and a tenth off that of Meltano and dbt, for a few MiB each.

Servers of the stack share their ports with the guard that keeps these from others.
"""

import gc
import os
import sys

gc.set_threshold(100_000, 50, 50)

name = os.environ.get("PC_PROC_NAME")
if name and f"{name}=" in os.environ.get("ELT_SHARED_PORTS", ""):
    from elt.supervisor import ports

    ports.share()
elif sys.orig_argv[1:] and os.path.basename(sys.orig_argv[1]) == "meltano":  # noqa: PTH119 - pathlib takes its time
    from elt.config import programs

    programs.write_no_copy()
del name
