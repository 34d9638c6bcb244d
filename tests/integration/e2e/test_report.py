"""The report of e2e: the commit it names, a proof that fails, and the page in a real browser."""

from __future__ import annotations

import os
import socket
import subprocess
import typing as t

import pytest
from proofs import WHEN, Page, full_proof, run_of
from workspace import BIN, ROOT, apart, run, said

from elt.e2e import report
from elt.e2e.report import Run
from elt.errors import DataError
from elt.orchestration.api import Task
from elt.sources import meltano_yml
from elt.supervisor.progress import Change

if t.TYPE_CHECKING:
    from pathlib import Path


def git(folder: Path, *words: str) -> str:
    """Run git in a folder, apart from the user's settings and from the repository that a hook may run in."""
    env = {name: value for name, value in os.environ.items() if not name.startswith("GIT_")}
    env |= {"GIT_CONFIG_GLOBAL": os.devnull, "GIT_CONFIG_SYSTEM": os.devnull}
    identity = ["-c", "user.name=a", "-c", "user.email=a@example.com", "-c", "commit.gpgsign=false"]
    done = subprocess.run(["git", *identity, *words], cwd=folder, env=env, capture_output=True, text=True, check=True)
    return done.stdout.strip()


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """A checkout with one commit."""
    folder = tmp_path / "checkout"
    folder.mkdir()
    git(folder, "init", "-q")
    (folder / "a").write_text("1")
    git(folder, "add", "a")
    git(folder, "commit", "-q", "-m", "first")
    return folder


def test_the_commit_is_told_with_what_differs_from_it(checkout):
    name = git(checkout, "rev-parse", "HEAD")[:9]
    assert report.commit(checkout) == name
    (checkout / "a").write_text("2")
    (checkout / "b").write_text("3")
    assert report.commit(checkout) == f"{name}, 2 files changed"


def test_a_checkout_without_a_commit(tmp_path):
    git(tmp_path, "init", "-q")
    assert report.commit(tmp_path) == "no commit yet"


def test_a_folder_inside_a_checkout_is_not_one(checkout):
    (checkout / "inner").mkdir()
    assert report.commit(checkout / "inner") == "not a git checkout"


def test_a_damaged_checkout_is_no_reason_to_fail(checkout):
    (checkout / ".git" / "HEAD").unlink()
    assert report.commit(checkout).startswith("unknown: fatal: ")


def test_a_machine_without_git_is_no_reason_to_fail(checkout, monkeypatch):
    monkeypatch.setenv("PATH", str(checkout))
    assert report.commit(checkout) == "unknown: git does not answer (FileNotFoundError)"


def test_e2e_that_fails_writes_the_report(state):
    env = apart(state)
    assert run("elt", "seed", "--example", env=env).returncode == 0
    for one in meltano_yml.listed(state / "extract"):  # a project may list more than the example
        if one.path.is_relative_to(state) and not one.files():
            one.path.parent.mkdir(parents=True, exist_ok=True)
            one.path.touch()
    with socket.create_server(("127.0.0.1", int(env["POSTGRES_PORT"]))):
        done = said(BIN / "elt", "e2e", cwd=ROOT, env=env)
    path = state / "e2e" / "report.html"
    assert done.returncode == 1
    assert "Traceback" not in done.stdout
    assert done.stdout.splitlines()[-2] == f"report: {path}"
    assert done.stdout.splitlines()[-1].startswith("elt: ")
    page = Page(path.read_text())
    assert "start: failed" in page.text
    assert "POSTGRES_PORT" in page.text
    last = Run.model_validate_json((state / "e2e" / "runs.jsonl").read_text())
    assert (last.verdict, last.failed_step, last.start) == ("failed", "start", "first")


CONTRASTS = """
() => {
  const numbers = (color) => (color.match(/[\\d.]+/g) || []).map(Number);
  const luminance = (color) => {
    const linear = (c) => c <= 0.04045 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4;
    const [r, g, b] = numbers(color).map((c) => linear(c / 255));
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
  };
  const behind = (one) => {
    for (; one; one = one.parentElement) {
      const color = getComputedStyle(one).backgroundColor;
      if (numbers(color)[3] !== 0) return color;
    }
    return "rgb(255, 255, 255)";
  };
  const ratio = (one, color) => {
    const [low, high] = [luminance(color), luminance(behind(one))].sort((a, b) => a - b);
    return (high + 0.05) / (low + 0.05);
  };
  const found = [];
  for (const one of document.body.querySelectorAll("*")) {
    const style = getComputedStyle(one);
    const holdsText = [...one.childNodes].some((node) => node.nodeType === 3 && node.data.trim());
    if (one.tagName === "rect") found.push(["bar " + one.getAttribute("class"), ratio(one, style.fill)]);
    else if (one.tagName === "text") found.push(["text " + one.textContent, ratio(one, style.fill)]);
    else if (holdsText && one.tagName !== "title") found.push(["text " + one.textContent, ratio(one, style.color)]);
  }
  return found;
}
"""


COLLISIONS = """
() => {
  const box = document.querySelector("#timeline").getBoundingClientRect();
  const boxes = (kind) => [...document.querySelectorAll(`#timeline ${kind}`)]
    .map((one) => [one.textContent || kind, one.getBoundingClientRect()]);
  const [texts, bars] = [boxes("text"), boxes("rect")];
  const meet = (a, b) => a.left < b.right && b.left < a.right && a.top < b.bottom - 3 && b.top < a.bottom - 3;
  const found = [...texts, ...bars].filter(([, one]) => one.left < box.left - 1 || one.right > box.right + 1
    || one.bottom > box.bottom + 1).map(([name]) => name + " is cut");
  texts.forEach(([name, one], at) => [...texts.slice(at + 1), ...bars].forEach(([other, two]) => {
    if (meet(one, two)) found.push(name + " meets " + other);
  }));
  return found;
}
"""


@pytest.mark.parametrize("verdict", ["passed", "failed"])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_the_page_is_readable_in_a_browser(browser, tmp_path, scheme, verdict):
    proof = full_proof()
    if verdict == "failed":
        proof.steps[2].is_ok = False
        proof.changes.append(Change("airflow-dag-processor", "restarting", proof.began))
        proof.tries["publish", 1] = Task("publish", "up_for_reschedule", 3, WHEN.timestamp() + 14)
        proof.fail(DataError("a line that is very long" * 40))
    file = tmp_path / "report.html"
    file.write_text(report.render(proof, [run_of(seed=1.0, start=8.0, pipeline=11.0)] * 9 + [Run.of(proof)]))
    page = browser.new_page(color_scheme=scheme, viewport={"width": 1200, "height": 900})
    requests, said = [], []
    page.on("request", lambda request: requests.append(request.url))
    page.on("console", lambda message: said.append(message.text))
    page.on("pageerror", lambda error: said.append(str(error)))
    page.goto(file.as_uri())
    contrasts = page.evaluate(CONTRASTS)
    assert len(contrasts) > 100
    faint = [(name, ratio) for name, ratio in contrasts if ratio < (3 if name.startswith("bar") else 4.5)]
    assert faint == []
    assert page.evaluate(COLLISIONS) == []
    for width in (1200, 390):
        page.set_viewport_size({"width": width, "height": 900})
        assert page.evaluate("document.documentElement.scrollWidth") <= width
    assert requests == [file.as_uri()]
    assert said == []
    page.close()
