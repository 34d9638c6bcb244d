"""Define each process of the stack by one record: all that the rest of the workspace knows of it by its name.

process-compose.yaml says how each is run. Standard library only, and of that next to nothing: bootstrap reads this
before the environment exists, and every probe pays for what it imports.
"""

from __future__ import annotations

TYPE_CHECKING = False  # importing typing costs as much as all the rest
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from elt.config.settings import Settings

LOOPBACK = "127.0.0.1"


class Service:
    """Describe a process of process-compose.yaml.

    Attributes:
        process: its name there.
        part: the optional part of the workspace (PARTS) that it belongs to; empty for one that always runs.
        port: the setting of the port that it listens on; empty for none.
        address: from the settings by name, the address that it listens on; empty for none.
        shares_port: from the settings by name, whether the supervisor's guard holds the port as well.
        title: its name in `up` and `elt status`; empty for one that no person opens.
        url: from the settings, the address that a person opens.
        has_login: whether it asks for the user and the password of the workspace.
        health: the path that it answers with 200 when it is healthy.
        job: the type of its row in Airflow's table `job`, whose heartbeat must be fresh.
        broker: what the broker's list of clients must hold for the client with the name of the process.
        forks: whether it is a fork server.
        data: its folders in the state that hold data, each with the names in there that a backup takes, as a regular
            expression.
    """

    def __init__(
        self,
        process: str,
        *,
        part: str = "",
        port: str = "",
        address: Callable[[Mapping[str, str]], str] = lambda _: "",
        shares_port: Callable[[Mapping[str, str]], bool] = lambda _: False,
        title: str = "",
        url: Callable[[Settings], str] = lambda _: "",
        has_login: bool = True,
        health: str = "",
        job: str = "",
        broker: str = "",
        forks: bool = False,
        data: Mapping[str, str] | None = None,
    ) -> None:
        self.process, self.part = process, part
        self.port, self.address, self.shares_port = port, address, shares_port
        self.title, self.url, self.has_login = title, url, has_login
        self.health, self.job, self.broker, self.forks = health, job, broker, forks
        self.data = data or {}


class Part:
    """Describe an optional part of the workspace, which runs where ELT_PARTS names it.

    Attributes:
        name: its name in ELT_PARTS.
        module: a Python module that it needs; empty for none.
        group: the dependency group of pyproject.toml that brings the module; empty for the default installation.
        about: what it is, in a line.
    """

    def __init__(self, name: str, about: str, *, module: str = "", group: str = "") -> None:
        self.name, self.about, self.module, self.group = name, about, module, group

    @property
    def variable(self) -> str:
        """Return the variable by which process-compose.yaml disables its processes: `true` or `false`."""
        return f"ELT_WITHOUT_{self.name.upper()}"


def _bound(values: Mapping[str, str]) -> str:
    return values.get("BIND_ADDRESS", "")


_POSTGRES_DATA = r"PG_VERSION|(base|global|pg_(?!tblspc)\w+)(/.+)?|pg_tblspc"
_VALKEY_DATA = r"appendonlydir(/[\w.]+\.(aof|rdb|manifest))?"

PARTS = (Part("streamlit", "the dashboard on the published marts", module="streamlit"),)

SERVICES = (
    Service(
        "postgres",
        port="POSTGRES_PORT",
        # besides its socket: for BI tools by a relay on loopback, or where BIND_ADDRESS says
        address=lambda values: {"bi": LOOPBACK, "on": _bound(values)}.get(values.get("POSTGRES_TCP", ""), ""),
        shares_port=lambda values: values.get("POSTGRES_TCP") == "bi",
        data={"postgres": _POSTGRES_DATA, "postgres.host": _POSTGRES_DATA},
    ),
    Service(
        "redis",
        port="VALKEY_PORT",
        address=lambda values: _bound(values) if values.get("VALKEY_TCP") == "on" else "",
        data={"valkey": _VALKEY_DATA, "valkey.host": _VALKEY_DATA},
    ),
    Service("airflow-preload", forks=True),
    Service("pipeline-preload", forks=True),
    Service(
        "airflow-api-server",
        port="AIRFLOW_PORT",
        address=_bound,
        shares_port=lambda _: True,
        title="Airflow",
        url=lambda settings: settings.airflow_url(),
        health="/api/v2/version",
    ),
    Service("airflow-scheduler", job="SchedulerJob"),
    Service("airflow-dag-processor", job="DagProcessorJob"),
    Service("airflow-triggerer", job="TriggererJob"),
    Service("celery-worker", broker="cmd=brpop"),  # it waits for tasks
    Service(
        "flower",
        port="FLOWER_PORT",
        address=_bound,
        shares_port=lambda _: True,
        title="Flower",
        url=lambda settings: settings.url(settings.flower_port),
        health="/healthcheck",
        broker="psub=1",  # it hears of tasks: what happens before it listens it never learns of
    ),
    Service(
        "streamlit",
        part="streamlit",
        port="STREAMLIT_PORT",
        address=lambda _: LOOPBACK,  # it has no login
        shares_port=lambda _: True,
        title="Streamlit",
        url=lambda settings: settings.streamlit_url(),
        has_login=False,
        health="/_stcore/health",
    ),
)


def service(process: str) -> Service | None:
    """Return the record of a process; None for one that has none, such as those that run once."""
    return next((one for one in SERVICES if one.process == process), None)


def listeners(values: Mapping[str, str]) -> dict[str, tuple[str, int]]:
    """Return address and port of each server that listens on TCP, by the name of the port's setting.

    Args:
        values: settings by name, as in `.env` or in the environment of a process of the workspace.
    """
    off = parts_off(values.get("ELT_PARTS", ""))
    return {
        one.port: (one.address(values), int(values[one.port]))
        for one in SERVICES
        if one.port and one.address(values) and one.part not in off
    }


def shared_ports(values: Mapping[str, str]) -> dict[str, tuple[str, int]]:
    """Return address and port of each server that shares them with the supervisor's guard, by its process."""
    found = listeners(values)
    return {one.process: found[one.port] for one in SERVICES if one.port in found and one.shares_port(values)}


def parts_off(chosen: str) -> set[str]:
    """Return the names of the parts that do not run.

    Args:
        chosen: the setting ELT_PARTS: names of parts, separated by commas.
    """
    return {one.name for one in PARTS} - {word.strip() for word in chosen.split(",")}
