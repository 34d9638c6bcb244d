"""Servers of the tests' own for what is sent out: a Slack webhook (Slack itself cannot be had here) and SMTP."""

from __future__ import annotations

import contextlib
import email
import email.policy
import json
import socket
import threading
import typing as t
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from aiosmtpd.controller import Controller
from aiosmtpd.smtp import AuthResult
from workspace import free_ports

if t.TYPE_CHECKING:
    import ssl
    from email.message import EmailMessage


@dataclass
class Slack:
    """What a webhook was sent, and how it answers."""

    port: int = 0
    status: int = 200
    texts: list[str] = field(default_factory=list)
    paths: list[str] = field(default_factory=list)
    hangs: threading.Event | None = None
    """An event that never comes while the test runs: no request is answered before it."""


@contextlib.contextmanager
def slack() -> t.Iterator[Slack]:
    """A Slack webhook on a free port of 127.0.0.1."""
    received = Slack()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            if received.hangs:
                received.hangs.wait(60)
                return
            received.texts.append(body["text"])
            received.paths.append(self.path)
            self.send_response(received.status)
            self.end_headers()
            self.wfile.write(b"ok" if received.status == 200 else b"no_service")

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        received.port = server.server_port
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield received
        finally:
            if received.hangs:
                received.hangs.set()
            server.shutdown()
            thread.join()


@dataclass
class Mail:
    """What an SMTP server accepted."""

    port: int = 0
    messages: list[EmailMessage] = field(default_factory=list)
    recipients: list[list[str]] = field(default_factory=list)

    async def handle_DATA(self, _server: object, _session: object, envelope: t.Any) -> str:  # noqa: N802
        """Keep a message; aiosmtpd calls this."""
        message = email.message_from_bytes(envelope.content, policy=email.policy.default)
        self.messages.append(t.cast("EmailMessage", message))
        self.recipients.append(envelope.rcpt_tos)
        return "250 OK"

    @property
    def texts(self) -> list[str]:
        """The HTML of each message."""
        parts = [part for message in self.messages for part in message.walk()]
        return [part.get_content() for part in parts if part.get_content_type() == "text/html"]


@contextlib.contextmanager
def smtp(
    login: tuple[str, str] | None = None, *, tls: ssl.SSLContext | None = None, starttls: bool = False
) -> t.Iterator[Mail]:
    """An SMTP server on a free port of 127.0.0.1.

    Args:
        login: name and password that it asks for.
        tls: certificate that it shows.
        starttls: whether it turns to TLS only when it is asked to.
    """
    received = Mail()
    options: dict[str, t.Any] = {}
    if login:
        wanted = tuple(word.encode() for word in login)
        options |= {
            "authenticator": lambda *words: AuthResult(success=(words[-1].login, words[-1].password) == wanted),
            "auth_required": True,
            "auth_require_tls": starttls,  # it does not count a TLS that was there from the start
        }
    if tls and starttls:
        options |= {"tls_context": tls, "require_starttls": True}
    (received.port,) = free_ports(1)
    controller = Controller(
        received,
        hostname="127.0.0.1",
        port=received.port,
        ready_timeout=30,
        ssl_context=None if starttls else tls,
        **options,
    )
    controller.start()
    try:
        yield received
    finally:
        controller.stop()


def silent() -> socket.socket:
    """A port of 127.0.0.1 that takes connections and says nothing."""
    return socket.create_server(("127.0.0.1", 0))
