"""A network of a test's own: two hosts that see each other and nothing else, each a network namespace."""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import typing as t
from dataclasses import dataclass
from pathlib import Path

from ways_in import debian
from workspace import wait_for


@dataclass
class Host:
    """A network namespace, held by a process that sleeps.

    Args:
        address: its IPv4 address, of those that are kept for documentation.
        holder: the process.
    """

    address: str
    holder: subprocess.Popen[bytes]

    @property
    def prefix(self) -> tuple[str, ...]:
        """What to put before a command that shall run there; its files are this machine's."""
        return ("nsenter", f"--net=/proc/{self.holder.pid}/ns/net", "--")


@contextlib.contextmanager
def two_hosts() -> t.Iterator[tuple[Host, Host]]:
    """Two hosts with a cable between them; gone at the end.

    Raises:
        LookupError: it takes root, and the program `ip`.
    """
    if os.geteuid() != 0:
        raise LookupError("not run as root")
    ip = shutil.which("ip", path=f"{os.environ['PATH']}:/usr/sbin:/sbin")
    ip = ip or str(debian.unpacked("iproute2") / "usr" / "bin" / "ip")
    with contextlib.ExitStack() as stack:
        one, two = (_host(stack, address) for address in ("192.0.2.1", "192.0.2.2"))
        cable = ("link", "add", "cable", "type", "veth", "peer", "name", "cable", "netns", str(two.holder.pid))
        subprocess.run([*one.prefix, ip, *cable], check=True)
        for host in (one, two):
            for words in (f"address add {host.address}/24 dev cable", "link set cable up", "link set lo up"):
                subprocess.run([*host.prefix, ip, *words.split()], check=True)
        yield one, two


def _host(stack: contextlib.ExitStack, address: str) -> Host:
    holder = stack.enter_context(subprocess.Popen(["unshare", "--net", "sleep", "infinity"]))
    stack.callback(holder.kill)
    theirs, mine = (Path("/proc", str(process), "ns", "net") for process in (holder.pid, "self"))
    wait_for(lambda: theirs.readlink() != mine.readlink())
    return Host(address, holder)
