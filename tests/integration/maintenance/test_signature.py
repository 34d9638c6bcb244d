"""minisign and the workspace check each other's signatures."""

from __future__ import annotations

import shutil
import subprocess

import pytest

from elt.maintenance import signature


@pytest.mark.skipif(not shutil.which("minisign"), reason="no minisign on PATH")
def test_minisign_checks_what_is_signed_here_and_signs_by_a_key_of_here(tmp_path):
    file = tmp_path / "file"
    file.write_text("hi\n")
    key = file.with_name("mine")
    signature.new_key(key)
    public = signature.of_key(key)
    signature.of_file(file).write_text(signature.load_key(key).sign(file))
    subprocess.run(["minisign", "-V", "-p", public, "-m", file], check=True)
    signature.of_file(file).unlink()
    subprocess.run(["minisign", "-S", "-s", key, "-m", file], check=True)
    assert signature.verify(file, public)
    own, secret = file.with_name("own.pub"), file.with_name("own")
    subprocess.run(["minisign", "-G", "-W", "-p", own, "-s", secret], check=True)
    signature.of_file(file).write_text(signature.load_key(secret).sign(file))
    subprocess.run(["minisign", "-V", "-p", own, "-m", file], check=True)
    assert signature.verify(file, own)
