"""Draw the frame around the pages: navigation, time of publication, and a check for newer marts.

Started as `elt exec streamlit run dashboard/app.py`. Each file in views/ is a page; its name is the title. What was
published never changes (elt/serving/duckdb_copy.py), so a run holds the resolved path, never the link: the pipeline
can write and publish meanwhile.
"""

from __future__ import annotations

import os
from pathlib import Path

import duckdb
import streamlit as st

from dashboard import published
from dashboard.text import plain
from elt.errors import DataError

# Not "pages": a folder of that name Streamlit opens by itself, past this frame, until the frame has run once.
# (A comment, since Streamlit draws every string that stands alone in a script.)
VIEWS = Path(__file__).parent / "views"
GENERIC = VIEWS / "marts.py"


def main() -> None:
    """Draw the frame, from top to bottom."""
    st.set_page_config(page_icon=":material/bar_chart:", layout="wide")
    # The page that fits any marts stands last, so that a user's own page is what the dashboard opens with.
    files = [*sorted(file for file in VIEWS.glob("*.py") if file != GENERIC), GENERIC]
    page = st.navigation([st.Page(file, title=title(file)) for file in files], position="top")
    st.title(page.title, anchor=False)
    if published.ENVIRONMENT not in os.environ:
        st.error("The environment of the workspace is missing: start with `elt exec streamlit run dashboard/app.py`.")
        return
    path = published.hold_newest()
    watch(path)  # before the page, which may end the run
    if path is None:
        explain_empty()
        return
    published_at, environment = published.marts().row("select published_at, environment from published")
    st.caption(f"{environment} · published {published_at:%d %b %Y %H:%M:%S} UTC")
    try:
        page.run()
    except DataError as error:
        st.info(plain(str(error)), icon=":material/table_chart:")
    except duckdb.Error as error:
        st.error(plain(f"{page.title}: {str(error).splitlines()[0]}"), icon=":material/error:")


def title(file: Path) -> str:
    """Derive the title of a page from the name of its file."""
    return file.stem.replace("_", " ").capitalize()


@st.fragment(run_every="5s")
def watch(shown: str | None) -> None:
    """Draw the page anew once something newer than what it shows was published."""
    if published.newest() != shown:
        st.rerun()


def explain_empty() -> None:
    """Explain what to do while nothing is published."""
    airflow = os.environ.get("AIRFLOW__API__BASE_URL", "http://127.0.0.1:8080")
    st.info(
        "**Nothing was published yet.** Once the pipeline has run, its results appear here by themselves.\n\n"
        f"Run it from [Airflow]({airflow}/dags/meltano_elt_pipeline) (`meltano_elt_pipeline`, *Trigger*), or run "
        "everything from the start with `scripts/e2e.sh --keep`.",
        icon=":material/hourglass_empty:",
    )


main()
