"""The pages of the running stack as a person opens them, for tests/e2e/test_browser.py.

`.venv/bin/python tests/screens.py` runs the pipeline on this clone's stack and takes the pictures of docs/images.
"""

from __future__ import annotations

import contextlib
import typing as t
from dataclasses import dataclass
from urllib.parse import quote

import chromium
from workspace import ROOT

from elt.config import settings
from elt.config.settings import ADMIN, Settings
from elt.orchestration import runs
from elt.orchestration.api import AirflowApi

if t.TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

IMAGES = ROOT / "docs" / "images"
SIZE: t.Any = {"width": 1280, "height": 720}


@dataclass
class Screens:
    """A browser beside a running stack.

    Args:
        browser: a Chromium.
        settings: those of the stack.
    """

    browser: Browser
    settings: Settings

    def airflow(self, run: str) -> Page:
        """Airflow's page of a run of the pipeline, which asks for the login first."""
        page = self.sign_in(f"/dags/{runs.DAG}/runs/{quote(run)}", self.settings.admin_password)
        page.wait_for_selector("text=Task Instances")
        return page

    def sign_in(self, path: str, password: str) -> Page:
        """A page of Airflow, right after the password was given."""
        page = self.browser.new_page(viewport=SIZE)
        page.goto(self.settings.airflow_url() + path)
        page.fill("input[name=username]", ADMIN)
        page.fill("input[name=password]", password)
        page.press("input[name=password]", "Enter")
        return page

    def view(self, page: Page, name: t.Literal["Grid", "Graph"]) -> None:
        """Let Airflow's page of a run show its tasks as a grid or as a graph."""
        page.click(f"[aria-label^='Show {name}']")
        page.wait_for_selector(".react-flow__node" if name == "Graph" else "[data-testid^='grid-']")

    def flower(self) -> Page:
        """Flower's list of tasks."""
        login: t.Any = {"username": ADMIN, "password": self.settings.admin_password}
        page = self.browser.new_page(http_credentials=login, viewport=SIZE)
        page.goto(f"{self._url(self.settings.flower_port)}/tasks")
        page.wait_for_selector("text=execute_workload")
        return page

    def streamlit(self) -> Page:
        """The dashboard's first page, drawn to its end."""
        page = self.browser.new_page(viewport={"width": 1280, "height": 1150})
        page.goto(self._url(self.settings.streamlit_port))
        page.wait_for_selector("[data-testid=stMetric]")
        page.wait_for_selector("[data-testid=stApp][data-test-script-state=notRunning]")
        page.wait_for_selector("[data-testid=stVegaLiteChart] canvas, [data-testid=stVegaLiteChart] svg")
        return page

    def _url(self, port: int) -> str:
        return self.settings.url(port)


def main() -> None:
    """Run the pipeline and take the pictures."""
    now = settings.load()
    with contextlib.closing(AirflowApi(now)) as api:
        run = runs.run_pipeline(api, 300)
    IMAGES.mkdir(exist_ok=True)
    with chromium.browser() as browser:
        screens = Screens(browser, now)
        airflow = screens.airflow(run)
        for view in ("Grid", "Graph"):
            screens.view(airflow, view)
            _take(airflow, f"airflow-{view.lower()}")
        _take(screens.flower(), "flower")
        _take(screens.streamlit(), "streamlit")


def _take(page: Page, name: str) -> None:
    page.wait_for_timeout(1000)  # animations
    page.screenshot(path=IMAGES / f"{name}.png")


if __name__ == "__main__":
    main()
