"""Schedules and settings are read as Meltano itself reads them, however the project is written."""

from __future__ import annotations

import json
import os
import subprocess

import pytest
from workspace import BIN

from elt import layout
from elt.config import meltano_plugins
from elt.sources import jobs

HEAD = """
version: 1
project_id: test
send_anonymous_usage_stats: false
default_environment: dev
environments: [{name: dev, env: {A: b}, config: {plugins: {extractors: [{name: tap-a, config: {x: 1}}]}}}]
plugins:
  extractors:
    - {name: tap-a, namespace: tap_a, executable: tap-a, settings: [{name: x}, {name: y.z}]}
    - {name: tap-a--b, inherit_from: tap-a}
  loaders: [{name: target-b, namespace: target_b, executable: target-b}]
  utilities: [{name: dbt-duckdb, namespace: dbt, executable: dbt, commands: {build: build, test: {args: test}}}]
"""
PROJECTS: dict[str, dict[str, str]] = {
    "none": {"meltano.yml": HEAD},
    "one": {
        "meltano.yml": HEAD
        + "jobs: [{name: j, tasks: [tap-a target-b]}]\nschedules: [{name: s, interval: '@daily', job: j}]\n"
    },
    "tasks in every form": {
        "meltano.yml": HEAD
        + """
jobs:
  - {name: words, tasks: ["tap-a   target-b", tap-a--b target-b]}
  - name: lists
    tasks:
      - [tap-a, target-b, "dbt-duckdb:build"]
      - [tap-a--b target-b, "dbt-duckdb:test"]
      - dbt-duckdb:build
schedules:
  - {name: a, interval: "@hourly", job: lists, env: {ONE: two, THREE: "4"}}
  - {name: b, interval: "*/5 1-3 * jan-mar mon", job: words}
  - {name: c, interval: "@manual", job: words}
  - {name: d, interval: "@once", job: words}
"""
    },
    "anchors and a merge": {
        "meltano.yml": HEAD
        + """
jobs: [&job {name: j, tasks: [tap-a target-b]}, {<<: *job, name: k}]
schedules: [&s {name: s, interval: "@weekly", job: j}, {<<: *s, name: t, job: k, annotations: {elt: {tags: [x]}}}]
"""
    },
    "files that are included": {
        "meltano.yml": "include_paths: ['more/*.yml', '[x-z].yml']\n"
        + HEAD
        + "jobs: [{name: j, tasks: [tap-a target-b]}]\nschedules: [{name: s, interval: '@daily', job: k}]\n",
        "more/a.yml": "jobs: [{name: k, tasks: [tap-c target-b]}]\n"
        "plugins: {extractors: [{name: tap-c, namespace: tap_c, executable: tap-c}]}\n",
        "x.yml": "schedules: [{name: included, interval: 0 0 1 * *, job: j}]\n",
        "w.yml": "schedules: [{name: other, interval: '@daily', job: j}]\n",
    },
    "no jobs": {
        "meltano.yml": HEAD
        + "schedules: [{name: s, interval: '@daily', extractor: tap-a, loader: target-b, transform: skip}]\n"
    },
    "folders, and what is included twice": {
        "meltano.yml": "include_paths: ['**/*.meltano.yml', a/b/c.meltano.yml]\n" + HEAD,
        "a/b/c.meltano.yml": "jobs: [{name: j, tasks: [tap-a target-b]}]\n",
        "a/d.meltano.yml": "schedules: [{name: s, interval: '@daily', job: j}]\n",
    },
    "a tap that inherits from one that inherits": {
        "meltano.yml": HEAD.replace(
            "{name: tap-a--b, inherit_from: tap-a}",
            "{name: tap-a--b, inherit_from: tap-a, config: {x: 2, y: {z: 3}}}\n"
            "    - {name: tap-a--c, inherit_from: tap-a--b}",
        )
        + "jobs: [{name: j, tasks: [tap-a--c target-b]}]\nschedules: [{name: s, interval: '@daily', job: j}]\n"
    },
    "settings of an environment": {
        "meltano.yml": HEAD.replace(
            "config: {x: 1}}]", "config: {x: 1}}, {name: tap-a--b, config: {y.z: 4, x: null}}]"
        )
        + "jobs: [{name: j, tasks: [tap-a--b target-b]}]\nschedules: [{name: s, interval: '@daily', job: j}]\n"
    },
    "texts that look like something else": {
        "meltano.yml": HEAD.replace(
            "name: tap-a, namespace",
            "name: tap-a, config: {on: off, n: 007, d: 2026-01-31, e: '', t: 1:30, a: 010, b: 0o17, f: 1e3,"
            " g: 1_000, h: 0x1F, i: .5, j: 1., k: yes, l: True, m: -.inf, o: ~, p: +7, q: .1e8, r: .1e+8}, namespace",
        )
        + "jobs: [{name: '1', tasks: [tap-a target-b]}]\n"
        + "schedules: [{name: '2', interval: '@daily', job: '1', env: {N: '007', OFF: 'off'}}]\n"
    },
    "a file of the environment's plugins": {
        "meltano.yml": "include_paths: [more.yml]\n" + HEAD,
        "more.yml": "environments: [{name: dev2, config: {plugins: {extractors: [{name: tap-a, config: {x: 9}}]}}}]\n"
        "plugins: {extractors: [{name: tap-z, namespace: z, executable: z, config: {w: [1, {v: 2}]}}]}\n",
    },
}


ASK_MELTANO = """
import json, os, sys, yaml
from click.testing import CliRunner
from meltano.cli import cli
from meltano.core.project import Project

def said(*words):
    done = CliRunner().invoke(cli, words, catch_exceptions=False)
    assert done.exit_code == 0, done.output
    return json.loads(done.stdout)

found = {}
for folder in sys.argv[1:]:
    os.chdir(folder)
    Project.deactivate()
    listed = said("schedule", "list", "--format", "json")["schedules"]
    whole = [one | {"job": {"tasks": [one["extractor"] + " " + one["loader"]]}} for one in listed["elt"]]
    schedules = listed["job"] + whole
    taps = [one.name for one in Project.find().plugins.get_plugins_of_type("extractors")]
    settings = {name: said("--environment", "dev", "config", "--unsafe", "print", name) for name in taps}
    found[os.path.basename(folder)] = {"schedules": schedules, "settings": settings}
print(json.dumps(found))
"""
"""Prints what Meltano itself makes of each project of a list: one process, as importing it takes longest."""


@pytest.fixture(scope="module")
def by_meltano(tmp_path_factory):
    """Folder of each project, and what Meltano makes of it."""
    base = tmp_path_factory.mktemp("projects")
    for project, files in PROJECTS.items():
        for name, text in files.items():
            (base / project / name).parent.mkdir(parents=True, exist_ok=True)
            (base / project / name).write_text(text)
    env = {"PATH": os.environ["PATH"], "HOME": str(base)}
    command = [BIN / "python", "-c", ASK_MELTANO, *(base / project for project in PROJECTS)]
    done = subprocess.run(command, env=env, capture_output=True, text=True, timeout=240)
    assert done.returncode == 0, done.stderr
    return base, json.loads(done.stdout)


def given(settings):
    """Without those that have no value, which Meltano lists, too."""
    found = {name: given(value) if isinstance(value, dict) else value for name, value in settings.items()}
    return {name: value for name, value in found.items() if value not in (None, {})}


@pytest.mark.parametrize("project", PROJECTS)
def test_a_project_is_read_as_meltano_reads_it(by_meltano, monkeypatch, project):
    folder, meltano = by_meltano[0] / project, by_meltano[1][project]
    monkeypatch.setattr(layout, "MELTANO_YML", folder / "meltano.yml")
    wanted = {
        one["name"]: (
            [" ".join(task.split()) if isinstance(task, str) else " ".join(task) for task in one["job"]["tasks"]],
            one["env"],
            one["cron_interval"] is None,
        )
        for one in meltano["schedules"]
    }
    found = {
        one.name: ([" ".join(words) for words in one.tasks], dict(one.env), one.interval is None)
        for one in jobs.schedules()
    }
    assert found == wanted
    whole = meltano_plugins.project()
    for name, settings in meltano["settings"].items():
        ours, _ = meltano_plugins.resolved(whole, "extractors", name, "dev")
        assert json.loads(json.dumps(ours, default=str)) == given(settings), name
