"""Read and change the secrets of a team: a file of sops for each environment, encrypted for its members by age.

sops does all of it; what is decrypted goes from its output into the environment of processes, and to no disk.
"""

from __future__ import annotations

import importlib
import json
import os
import re
import shutil
import stat
import subprocess
import sys
import typing as t
from functools import cache
from pathlib import Path

import yaml
from dotenv import dotenv_values

from elt import layout
from elt.atomic import atomic_write
from elt.config import env_file
from elt.config.environments import ENVIRONMENTS
from elt.errors import ConfigError, SetupError, last_line

SUFFIX = ".enc.env"
DECIDED = re.compile(r"PYTHONDONTWRITEBYTECODE$|AIRFLOW__|DBT_(?!ENV_)|MELTANO_|CELERY_|PG[A-Z]+$")
"""Variables that would change what the workspace decides. Bytecode saves 3 CPU seconds a start."""
CODE = re.compile(
    r"(DY)?LD_\w+$|PYTHON[A-Z]+$|PERL5\w+$|RUBY(OPT|LIB)$|(NODE|JAVA_TOOL|_JAVA)_OPTIONS$|OPENSSL_(CONF|ENGINES|MODULES)$"
    r"|GIT_(ASKPASS|CONFIG\w*|EDITOR|EXEC_PATH|EXTERNAL_DIFF|PAGER|PROXY_COMMAND|SSH|SSH_COMMAND|TEMPLATE_DIR)$"
    r"|((BASH_)?ENV|PATH|IFS|PS4|SHELLOPTS|BASHOPTS|PROMPT_COMMAND|GCONV_PATH|SSLKEYLOGFILE)$|BASH_FUNC_"
    r"|(XDG_CONFIG_(HOME|DIRS)|AWS_(CONFIG|SHARED_CREDENTIALS)_FILE|BROWSER|EDITOR|VISUAL|PAGER)$"
    r"|(MARIADB|LIBMYSQL)_PLUGIN\w*$|MPL(BACKEND|CONFIGDIR)$|FLOWER_|STREAMLIT_"
)
"""Variables that have programs run other code, name files of settings that do, or open a server to foreign pages.

Nobody sees in a review what an encrypted value says.
"""
RULES = ".sops.yaml"
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_RECIPIENT = re.compile(r"age1[02-9ac-hj-np-z]{58}")
_SEALED = re.compile(r"ENC\[AES256_GCM,data:[^\]]+\]")
_OTHER_KEYS = re.compile(r"^sops_(?!age__)\w+?__", re.MULTILINE)
"""Keys that sops asks a server for, whose address the file names: it would be sent this user's tokens."""
_PLAIN = "_unencrypted"
"""What the names of values end with that sops leaves as they are."""
_MASK = "***"
_ONLY_AGE = "names keys of another kind than age: take it back from git"
_SHORTEST = 5
"""Characters of a value that is masked: a shorter one stands in other words, too. Airflow has the same limit."""


def path_of(environment: str) -> Path:
    """Return the file of an environment."""
    return layout.SECRETS / f"{environment}{SUFFIX}"


def lines() -> dict[str, str]:
    """Return what `.env` says, and where it says nothing the secrets of its environment, without expanding `$`.

    Raises:
        ConfigError: the secrets cannot be read.
    """
    own = {name: value for name, value in dotenv_values(layout.ENV_FILE, interpolate=False).items() if value}
    return values(os.environ.get("ELT_ENVIRONMENT") or own.get("ELT_ENVIRONMENT", "")) | own


def values(environment: str) -> dict[str, str]:
    """Decrypt the secrets of an environment; none if it has no file.

    Raises:
        ConfigError: the file cannot be read, or has a name that would have no effect.
        SetupError: sops is missing, or no key opens the file.
    """
    path = path_of(environment)
    if not path.is_file():
        return {}
    found = _decrypted(_existing(environment), path.stat().st_mtime_ns)
    _refuse_names(path, found)
    return dict(found)


def _refuse_names(path: Path, names: t.Iterable[str]) -> None:
    """Check names of secrets.

    Raises:
        ConfigError: one is no secret of a team.
    """
    settings = {name for name, _, _ in env_file.example_settings()}
    for name in names:
        if name in settings:
            raise ConfigError(f"{path}: {name} is of one clone: write it into {layout.ENV_FILE}")
        if DECIDED.match(name):
            raise ConfigError(f"{path}: {name} would have no effect, since the workspace decides on it")
        if CODE.match(name):
            raise ConfigError(
                f"{path}: {name} runs other code or opens a server, and is no secret: write it into {layout.ENV_FILE}"
            )


def switched(env: t.Mapping[str, str], environment: str) -> dict[str, str]:
    """Return a process' environment with the secrets of another environment in place of its own.

    Args:
        env: with the secrets of the environment that it names in ELT_ENVIRONMENT.
        environment: the one of a run.
    """
    own = values(env.get("ELT_ENVIRONMENT", ""))
    kept = {name: value for name, value in env.items() if own.get(name) != value}
    return values(environment) | kept


def masked(text: str, secrets: t.Iterable[str]) -> str:
    """Return a text without the secrets that it holds."""
    for secret in secrets:
        for one in parts_of(secret):
            text = text.replace(one, _MASK)
    return text


def parts_of(secret: str) -> list[str]:
    """Return what of a secret is masked: all of it, and each line, as logs have lines."""
    return [one for one in dict.fromkeys([secret, *secret.splitlines()]) if len(one.strip()) >= _SHORTEST]


def init(environment: str) -> None:
    """Make a key for this user if there is none, and an empty file for an environment; say what to do next.

    Raises:
        SetupError: sops or age is missing.
    """
    recipient = _recipient() or _make_key()
    rules = layout.ROOT / RULES
    if not rules.exists():
        _write_rules([recipient])
        print(f"written: {rules}, for the recipient {recipient}")
    path = path_of(environment)
    if path.exists():
        print(f"{path} is there already: left as it is")
        return
    layout.SECRETS.mkdir(exist_ok=True)
    with atomic_write(path) as new:
        # sops chooses by the name of the file to be, and reads no settings of other folders.
        new.write_text(_sops("encrypt", "--filename-override", str(path), "/dev/stdin", given=""))
    print(f"written: {path}; next: .venv/bin/elt secrets set NAME")
    print(f"commit both; who shall read it sends you his recipient: yours is {recipient}")


def put(environment: str, name: str, value: str) -> None:
    """Set a secret; the other lines of the file stay as they are.

    Raises:
        ConfigError: the name cannot be one.
    """
    path = _existing(environment)
    if not _NAME.fullmatch(name) or name.startswith("sops_"):
        raise ConfigError(f"{name!r} is no name: letters, digits and _, and not sops_ before them")
    _refuse_names(path, [name])
    if not value or "\0" in value:
        raise ConfigError(f"{name}: its value is empty, or holds a NUL")
    _sops("set", "--value-stdin", "--idempotent", str(path), json.dumps([name]), given=json.dumps(value))


def drop(environment: str, name: str) -> None:
    """Remove a secret.

    Raises:
        ConfigError: there is none of the name.
    """
    if name not in values(environment):
        raise ConfigError(f"{_existing(environment)}: no secret is called {name}")
    _sops("unset", str(path_of(environment)), json.dumps([name]))


def edit(environment: str) -> None:
    """Open the secrets in the editor, in memory where the machine has such a folder."""
    path, shm = _existing(environment), Path("/dev/shm")  # noqa: S108 - sops makes a folder of its own there
    env = os.environ | ({"TMPDIR": str(shm)} if os.access(shm, os.W_OK) else {})
    code = subprocess.call([_program(), "--config", str(layout.ROOT / RULES), "edit", str(path)], env=env)
    if code not in {0, 200}:  # 200: nothing was changed
        raise ConfigError(f"{path}: sops edit failed with exit code {code}: the file is as it was")


def recipients(environment: str) -> list[str]:
    """Return for whom the secrets are encrypted."""
    text = _existing(environment).read_text(encoding="utf-8")
    return re.findall(r"^sops_age__list_\d+__map_recipient=(\S+)$", text, re.MULTILINE)


def rotate(environments: t.Iterable[str], *, add: str = "", remove: str = "") -> None:
    """Encrypt anew with a new data key, for one recipient more or less.

    Raises:
        ConfigError: a recipient is none, or would be the last to go.
    """
    for one in filter(None, (add, remove)):
        if not _RECIPIENT.fullmatch(one):
            raise ConfigError(f"{one!r} is no recipient: it begins with age1, as `elt secrets init` prints it")
    wanted: list[str] = []
    for environment in environments:
        there = recipients(environment)
        wanted = [one for one in dict.fromkeys([*there, add]) if one and one != remove]
        if not wanted:
            raise ConfigError(f"{path_of(environment)}: nobody could read it then")
        more = [word for word in ("--add-age", add) if add and add not in there]
        less = [word for word in ("--rm-age", remove) if remove in there and remove]
        _sops("rotate", "--in-place", *more, *less, str(path_of(environment)))
        print(f"{path_of(environment)}: encrypted anew for {len(wanted)}")
    if wanted and (add or remove):
        _write_rules(wanted)


def present() -> list[str]:
    """Return the environments that have a file."""
    return [one for one in ENVIRONMENTS if path_of(one).is_file()]


def problem(path: Path) -> str:
    """Return why a file may not be committed in the folder of secrets; empty if it may."""
    if path.suffix == ".md":
        return ""
    if path.name not in {f"{one}{SUFFIX}" for one in ENVIRONMENTS}:
        return f"only {', '.join(f'{one}{SUFFIX}' for one in ENVIRONMENTS)} belong there, and notes in Markdown"
    has_mac = False
    for number, line in enumerate(path.read_text(encoding="utf-8", errors="replace").splitlines(), 1):
        name, there, value = line.partition("=")
        if _OTHER_KEYS.match(line):
            return f"line {number} {_ONLY_AGE}"
        has_mac |= name == "sops_mac" and bool(_SEALED.match(value))
        if not line.strip() or name.startswith("sops_") or name.endswith(_PLAIN):
            continue
        sealed = line[1:] if line.startswith("#") else value if there else line
        if sealed and not _SEALED.fullmatch(sealed):
            return f"line {number} is not encrypted: `elt secrets set NAME` is the way to add one"
    return "" if has_mac else "is no file of sops: `elt secrets init` makes one"


@cache
def _decrypted(path: Path, changed: int) -> t.Mapping[str, str]:  # noqa: ARG001 - the time is part of the cache's key
    return dict(json.loads(_sops("decrypt", "--output-type", "json", str(path)) or "{}"))


def _existing(environment: str) -> Path:
    path = path_of(environment)
    if not path.is_file():
        raise ConfigError(f"{path} is not there: `elt secrets init --environment {environment}` makes it")
    if _OTHER_KEYS.search(path.read_text(encoding="utf-8", errors="replace")):
        raise ConfigError(f"{path}: {_ONLY_AGE}")
    return path


def _program() -> str:
    found = shutil.which("sops", path=os.pathsep.join((str(Path(sys.prefix) / "bin"), os.environ.get("PATH", ""))))
    if not found:
        raise SetupError(_missing("sops"))
    return found


def _sops(*words: str, given: str | None = None) -> str:
    """Run sops, and return what it prints.

    Raises:
        SetupError: no key opens the file.
        ConfigError: it failed otherwise.
    """
    command = [_program(), "--config", str(layout.ROOT / RULES), *words]
    done = subprocess.run(command, input=given or "", capture_output=True, text=True, cwd=layout.ROOT)
    if not done.returncode:
        return done.stdout
    path, said = words[-1], done.stderr
    if given is not None:
        path = next(word for word in words if word.endswith(SUFFIX))
    if "0 successful groups" in said or "failed to get the data key" in said.lower():
        mine = _recipient()
        who = f"send your recipient {mine} to" if mine else "run `elt secrets init`, and send your recipient to"
        what = f"none of your age keys opens it: {who} somebody who runs `elt secrets share` with it"
        raise SetupError(f"{path}: {what}")
    if "MAC mismatch" in said or "Error decrypting tree" in said:
        raise ConfigError(f"{path}: was changed by something that does not know its key: take it back from git")
    raise ConfigError(f"{path}: sops {words[0]}: {last_line(said)}")


def _key_file() -> Path:
    """Return where sops looks for the keys of this user."""
    if named := os.environ.get("SOPS_AGE_KEY_FILE"):
        return Path(named)
    macos = Path.home() / "Library" / "Application Support"
    usual = macos if sys.platform == "darwin" else Path.home() / ".config"
    return Path(os.environ.get("XDG_CONFIG_HOME") or usual, "sops", "age", "keys.txt")


def _recipient() -> str:
    """Return the first recipient that this user's keys stand for; empty without any."""
    text, path = os.environ.get("SOPS_AGE_KEY", ""), _key_file()
    if path.is_file():
        text += "\n" + path.read_text(encoding="utf-8")
    found = re.search(r"^AGE-SECRET-KEY-1\w+", text, re.MULTILINE)
    return str(_pyrage().x25519.Identity.from_str(found[0]).to_public()) if found else ""


def _make_key() -> str:
    path, key = _key_file(), _pyrage().x25519.Identity.generate()
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, stat.S_IRUSR | stat.S_IWUSR)
    with os.fdopen(descriptor, "w", encoding="utf-8") as file:
        file.write(f"# public key: {key.to_public()}\n{key}\n")
    print(f"written: {path}, your private key: keep a copy elsewhere, since nothing else opens the files")
    return str(key.to_public())


def _pyrage() -> t.Any:  # noqa: ANN401 - of a package that may be absent
    try:
        return importlib.import_module("pyrage")
    except ImportError:
        raise SetupError(_missing("pyrage")) from None


def _missing(program: str) -> str:
    where = f"add `secrets` to ELT_GROUPS in {layout.ENV_FILE}, and run scripts/bootstrap.sh"
    return f"{layout.SECRETS}: {program} is missing: {where}"


def _write_rules(wanted: t.Sequence[str]) -> None:
    """Write the rules by which anybody's sops encrypts new files for the same recipients."""
    rule = {"path_regex": rf"secrets/[^/]+{re.escape(SUFFIX)}$", "age": ",".join(wanted)}
    with atomic_write(layout.ROOT / RULES) as path:
        path.write_text(yaml.safe_dump({"creation_rules": [rule]}, sort_keys=False, width=10_000), encoding="utf-8")


def main() -> int:
    """Check files of the folder of secrets, for the hook of git; print what is wrong, and return the exit code."""
    wrong = [(path, what) for path in sys.argv[1:] if (what := problem(Path(path)))]
    for path, what in wrong:
        print(f"{path}: {what}", file=sys.stderr)
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
