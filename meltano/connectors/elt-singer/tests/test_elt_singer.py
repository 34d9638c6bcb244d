"""What a connector gets that begins with this package alone."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import elt_singer
import pytest
from elt_singer.batch import Batch, destination, local
from elt_singer.errors import InputError, SettingsError
from elt_singer.json_schema import MOST_DIGITS, digits, of_decimal
from hypothesis import given
from hypothesis import strategies as st

SOURCE = Path(elt_singer.__file__).parent
CONNECTOR = """
from elt_singer.cli import Connector
from elt_singer.errors import InputError
from elt_singer.settings import Setting, checked

ENTRY = (Setting("a", "string", "A"),)
KNOWN = (Setting("rows", "integer", "How many", 3), Setting("list", "array", "Some", items=ENTRY))
THIRD = Connector("tap-third", "elt-singer", ("about",), KNOWN, reader="the target")


def run(arguments, settings):
    if (rows := checked(settings, KNOWN)["rows"]) > 3:
        raise InputError("too\\nmany", stream="s", file="f.csv", line=rows, column="c")
    print(rows)


THIRD.main(THIRD.parser("Print."), run)
"""


def third(tmp_path: Path, settings: str, *words: str, level: str = "INFO") -> subprocess.CompletedProcess[str]:
    """Run a connector that is written in a few lines."""
    config = tmp_path / "config.json"
    config.write_text(settings)
    env = os.environ | {"TAP_THIRD_LOGLEVEL": level}
    command = [sys.executable, "-c", CONNECTOR, "--config", str(config), *words]
    return subprocess.run(command, env=env, capture_output=True, text=True)


def test_it_needs_the_standard_library_alone() -> None:
    names = sorted(f"elt_singer.{path.stem}" for path in SOURCE.glob("*.py") if path.stem != "__init__")
    assert len(names) > 5
    code = f"import sys, {', '.join(names)}; print(*{{name.partition('.')[0] for name in sys.modules}})"
    env = {"PYTHONPATH": str(SOURCE.parent)}
    done = subprocess.run([sys.executable, "-S", "-c", code], env=env, capture_output=True, text=True, check=True)
    assert set(done.stdout.split()) - set(sys.stdlib_module_names) == {"elt_singer", "__main__"}


@pytest.mark.parametrize(
    ("settings", "code", "out", "said"),
    [
        ("{}", 0, "3\n", ""),
        ('{"rows": "2"}', 0, "2\n", ""),
        ('{"rows": 7}', 1, "", "tap-third: stream 's', file f.csv, line 7, column 'c': too many\n"),
        ('{"rows": true}', 1, "", "tap-third: rows must be of type integer\n"),
        ("[]", 1, "", "tap-third: {file} must hold an object\n"),
    ],
)
def test_a_third_connector(tmp_path: Path, settings: str, code: int, out: str, said: str) -> None:
    done = third(tmp_path, settings)
    assert (done.returncode, done.stdout) == (code, out)
    assert done.stderr == said.replace("{file}", str(tmp_path / "config.json"))


def test_a_third_connector_describes_itself(tmp_path: Path) -> None:
    about = json.loads(third(tmp_path, "{}", "--about", "--format", "json").stdout)
    properties = about["settings"]["properties"]
    assert properties["rows"] == {"type": ["integer", "null"], "description": "How many", "default": 3}
    assert properties["list"]["items"]["properties"] == {"a": {"type": ["string", "null"], "description": "A"}}
    assert third(tmp_path, "{}", "--version").stdout == f"tap-third {about['version']}\n"
    assert "Traceback" in third(tmp_path, '{"rows": 7}', level="DEBUG").stderr


def test_a_batch_message_says_what_it_was_made_of(tmp_path: Path) -> None:
    files = (tmp_path / "a b.jsonl.gz", tmp_path / "c")
    for file in files:
        file.touch()
    batch = Batch("jsonl", gzip=True, files=files)
    assert Batch.from_message(batch.message("s")) == batch
    files[0].unlink()
    with pytest.raises(InputError, match=f"^file {files[0]}: no such file$"):
        Batch.from_message(batch.message("s"))


def test_files_elsewhere_are_refused(tmp_path: Path) -> None:
    assert local("/a/b") == local("file:///a/b") == Path("/a/b")
    assert local("s3://a/b") is None
    setting = {"encoding": {"format": "parquet"}, "storage": {"root": f"file://{tmp_path}", "prefix": "p"}}
    assert destination(setting) == (tmp_path, "p")
    with pytest.raises(SettingsError, match="only local folders are written, not s3"):
        destination(setting | {"storage": {"root": "s3://a"}})


@given(st.integers(1, MOST_DIGITS).flatmap(lambda most: st.tuples(st.just(most), st.integers(0, most))))
def test_a_decimal_is_read_as_it_is_described(decimal: tuple[int, int]) -> None:
    assert digits(of_decimal(*decimal)) == decimal
