"""Schedules are read as Meltano itself reads them, however the project is written."""

from __future__ import annotations

import json
import os
import subprocess

import pytest
from workspace import BIN

from elt import layout
from elt.sources import jobs

HEAD = """
version: 1
project_id: test
send_anonymous_usage_stats: false
default_environment: dev
environments: [{name: dev, env: {A: b}, config: {plugins: {extractors: [{name: tap-a, config: {x: 1}}]}}}]
plugins:
  extractors: [{name: tap-a, namespace: tap_a, executable: tap-a}, {name: tap-a--b, inherit_from: tap-a}]
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
}


@pytest.mark.parametrize("project", PROJECTS)
def test_schedules_are_those_of_meltano(tmp_path, monkeypatch, project):
    for name, text in PROJECTS[project].items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text)
    monkeypatch.setattr(layout, "MELTANO_YML", tmp_path / "meltano.yml")
    command = [BIN / "meltano", "schedule", "list", "--format", "json"]
    env = {"PATH": os.environ["PATH"], "HOME": str(tmp_path)}
    done = subprocess.run(command, cwd=tmp_path, env=env, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    wanted = {
        one["name"]: (
            [" ".join(task.split()) if isinstance(task, str) else " ".join(task) for task in one["job"]["tasks"]],
            one["env"],
            one["cron_interval"] is None,
        )
        for one in json.loads(done.stdout)["schedules"]["job"]
    }
    found = {
        one.name: ([" ".join(words) for words in one.tasks], dict(one.env), one.interval is None)
        for one in jobs.schedules()
    }
    assert found == wanted
