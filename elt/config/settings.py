"""Read and validate the settings of `.env`.

A default stands in `.env.example` and nowhere else.
"""

from __future__ import annotations

import difflib
import ipaddress
import os
import pwd
import re
import typing as t
from pathlib import Path

from dotenv import dotenv_values
from dotenv.parser import parse_stream
from pydantic import Field, PrivateAttr, ValidationError, field_validator, model_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from elt import layout
from elt.config import services
from elt.config.airflow_names import airflow_names
from elt.config.environments import Environment  # noqa: TC001 - pydantic reads it
from elt.config.services import LOOPBACK
from elt.errors import ConfigError, SetupError

Port = t.Annotated[int, Field(ge=1024, le=65535)]
Secret = t.Annotated[str, Field(min_length=16, pattern=r"^[A-Za-z0-9_=-]+$", repr=False)]

ADMIN = "admin"
"""Name of the one user of Airflow and Flower."""
OWNER = "elt"
"""Role of PostgreSQL that owns all databases."""
BI = "bi"
"""Role of PostgreSQL that reads the published marts, and nothing else."""
DEFAULT_PASSWORD = "admin"  # noqa: S105 - of clones before it was random, or by choice; accepted on loopback only


class Settings(BaseSettings):
    """Hold what a user may change, by the names of `.env`."""

    model_config = SettingsConfigDict(env_file=layout.ENV_FILE, extra="ignore")

    bind_address: str
    # the port of each service of elt/config/services.py; those below are named by other code
    for _service in services.SERVICES:
        if _service.port:
            __annotations__[_service.port.lower()] = Port
    allowed_hosts: t.Annotated[str, Field(pattern=r"^((\*\.)?[A-Za-z0-9_-]+(\.[A-Za-z0-9_-]+)* *)+$")]
    allowed_users: str
    airflow_port: Port
    flower_port: Port
    streamlit_port: Port
    postgres_port: Port
    postgres_tcp: t.Literal["off", "bi", "on"]
    valkey_port: Port
    valkey_tcp: t.Literal["off", "on"]
    admin_password: t.Annotated[str, Field(repr=False)]
    elt_environment: Environment
    worker_concurrency: t.Annotated[int, Field(ge=1, le=64)]
    task_retry_seconds: t.Annotated[int, Field(ge=1, le=86_400)]
    elt_parts: str
    elt_groups: str
    elt_supervisor: t.Literal["auto", "process-compose", "embedded"]
    elt_preload: bool
    postgres_password: Secret
    bi_password: Secret
    valkey_password: Secret
    airflow_fernet_key: t.Annotated[str, Field(repr=False)]
    airflow_jwt_secret: Secret
    airflow_api_secret_key: Secret

    _sockets: Path = PrivateAttr()

    def model_post_init(self, _: object) -> None:
        """Find the folder of the sockets, which depends on the present state folder."""
        self._sockets = layout.sockets(Path(os.environ.get("ELT_STATE") or layout.STATE).absolute())

    @field_validator("bind_address")
    @classmethod
    def _is_address(cls, value: str) -> str:
        try:
            address = ipaddress.IPv4Address(value)
        except ValueError:
            raise ValueError("not an IPv4 address; the default is 127.0.0.1") from None
        if address.is_multicast or address.is_reserved:
            raise ValueError("not an address of a machine; the default is 127.0.0.1")
        return value

    @field_validator("allowed_users")
    @classmethod
    def _are_users(cls, value: str) -> str:
        for name in value.split():
            try:
                pwd.getpwnam(name)
            except KeyError:
                raise ValueError(f"this machine has no user {name!r}") from None
        return value

    @field_validator("admin_password")
    @classmethod
    def _is_plain(cls, value: str) -> str:
        if not re.fullmatch(r"[A-Za-z0-9._~@+=!*^/-]+", value):
            raise ValueError(
                "letters, digits and . _ ~ @ + = ! * ^ / - only, since Flower reads the others as something else"
            )
        return value

    @field_validator("airflow_fernet_key")
    @classmethod
    def _is_fernet_key(cls, value: str) -> str:
        if not re.fullmatch(r"[A-Za-z0-9_-]{43}=", value):
            raise ValueError(
                "not a Fernet key (32 bytes in URL-safe base64); remove the line and run scripts/bootstrap.sh"
            )
        return value

    @model_validator(mode="after")
    def _default_password_stays_at_home(self) -> Settings:
        if self.admin_password == DEFAULT_PASSWORD and not ipaddress.ip_address(self.bind_address).is_loopback:
            raise ValueError(
                f"ADMIN_PASSWORD is the default while BIND_ADDRESS is {self.bind_address}: "
                "set another password, or bind to 127.0.0.1"
            )
        return self

    @field_validator("elt_parts")
    @classmethod
    def _names_parts(cls, value: str) -> str:
        known = [one.name for one in services.PARTS]
        if strange := [name for word in value.split(",") if (name := word.strip()) and name not in known]:
            raise ValueError(f"no part is called {strange[0]!r}; there are {', '.join(known)}")
        return value

    @model_validator(mode="after")
    def _ports_differ(self) -> Settings:
        names = [name for name in type(self).model_fields if name.endswith("_port")]
        seen: dict[int, str] = {}
        for name in names:
            other = seen.setdefault(getattr(self, name), name)
            if other != name:
                raise ValueError(f"{name.upper()} and {other.upper()} are the same port")
        return self

    def values(self) -> dict[str, str]:
        """Return every setting as text, by its name in `.env`."""
        return {name.upper(): str(value) for name, value in self.model_dump().items()}

    def listeners(self) -> dict[str, tuple[str, int]]:
        """Return address and port of each server of the stack, by the name of the port's setting."""
        return services.listeners(self.values())

    @property
    def sockets(self) -> Path:
        """Return the folder of the servers' sockets; PostgreSQL names its own after its port."""
        return self._sockets

    @property
    def valkey_socket(self) -> Path:
        """Return the path of the broker's socket."""
        return self._sockets / "valkey.sock"

    @property
    def connect_address(self) -> str:
        """Return the address that clients on this machine connect to: the bind address, unless that is 0.0.0.0."""
        return LOOPBACK if ipaddress.ip_address(self.bind_address).is_unspecified else self.bind_address

    def url(self, port: int) -> str:
        """Return the URL of a server of the stack, without a path."""
        return f"http://{self.connect_address}:{port}"

    def airflow_url(self) -> str:
        """Return the URL of Airflow for a browser, by a name of its own on this machine, as cookies ignore ports."""
        if ipaddress.ip_address(self.bind_address).is_loopback and "*.localhost" in self.allowed_hosts.split():
            return f"http://airflow.localhost:{self.airflow_port}"
        return self.url(self.airflow_port)

    def streamlit_url(self) -> str:
        """Return the URL of the dashboard, which has no login and hence stays on this machine."""
        return f"http://{LOOPBACK}:{self.streamlit_port}"

    def valkey_url(self) -> str:
        """Return the URL of the broker by its socket, password included."""
        return f"redis+socket://:{self.valkey_password}@{self.valkey_socket}?virtual_host=0"

    def postgres_url(self, database: str, scheme: str = "postgresql+psycopg2", role: str = OWNER) -> str:
        """Return the SQLAlchemy URL of a database of the stack's PostgreSQL by its socket, password included."""
        password = self.bi_password if role == BI else self.postgres_password
        return f"{scheme}://{role}:{password}@/{database}?host={self.sockets}&port={self.postgres_port}"


def load() -> Settings:
    """Read and check the settings.

    Raises:
        SetupError: `.env` is not there yet, or lacks a setting.
        ConfigError: a value does not fit.
    """
    if not layout.ENV_FILE.exists():
        raise SetupError(f"{layout.ENV_FILE} is missing: run scripts/bootstrap.sh")
    if layout.ENV_FILE.is_dir():
        raise SetupError(f"{layout.ENV_FILE} is a folder: remove it, and run scripts/bootstrap.sh")
    try:
        _refuse_strange_lines()
        _refuse_typos()
        airflow_names()
        return Settings()  # type: ignore[call-arg]  # the values come from the environment
    except UnicodeDecodeError as error:
        raise ConfigError(f"{layout.ENV_FILE} is not UTF-8: {error}") from None
    except ValidationError as error:
        problems = []
        for one in error.errors(include_url=False, include_input=False):
            field = ".".join(map(str, one["loc"])).upper()
            if one["type"] == "missing":
                from elt.config import env_file  # noqa: PLC0415 - no other call needs it

                lost = env_file.lost_password() if field == "POSTGRES_PASSWORD" else ""
                fix = f", and {lost}" if lost else ": run scripts/bootstrap.sh"
                raise SetupError(f"{layout.ENV_FILE} lacks {field}{fix}") from None
            if one["type"] in {"string_too_short", "string_pattern_mismatch"}:
                one["msg"] += "; put the whole line back, or remove it and run scripts/bootstrap.sh"
            problems.append(": ".join(filter(None, (field, one["msg"].removeprefix("Value error, ")))))
        raise ConfigError(f"{layout.ENV_FILE}: {'; '.join(problems)}") from None


def _refuse_strange_lines() -> None:
    """Refuse a line that cannot be read, without showing it: it hides settings, and may be a secret."""
    with layout.ENV_FILE.open(encoding="utf-8") as file:
        for one in parse_stream(file):
            if one.error:
                place = f"{layout.ENV_FILE}, line {one.original.line}"
                raise ConfigError(f"{place}: not NAME=value; is a quote left open, or a # missing?")


def _refuse_typos() -> None:
    """Refuse a name that is almost a setting's, as it would have no effect; other names are the user's own."""
    known = {name.upper() for name in Settings.model_fields}
    for name in dotenv_values(layout.ENV_FILE, interpolate=False):
        near = difflib.get_close_matches(name, known - {name}, n=1, cutoff=0.9)
        if name not in known and near:
            raise ConfigError(f"{layout.ENV_FILE}: no setting is called {name}; did you mean {near[0]}?")
