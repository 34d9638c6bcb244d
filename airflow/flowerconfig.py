"""Let Flower answer under no foreign name, show no secret, hold no long request; it reads this before it listens."""

from __future__ import annotations

import functools
import re
import typing as t

from flower import app  # type: ignore[import-untyped]
from flower.app import Flower  # type: ignore[import-untyped]
from flower.events import EventsState  # type: ignore[import-untyped]
from flower.inspector import Inspector  # type: ignore[import-untyped]
from tornado.web import ErrorHandler

from elt.services.allowed_hosts import REFUSAL, is_allowed

if t.TYPE_CHECKING:
    from tornado.httputil import HTTPMessageDelegate, HTTPServerRequest

SECRET = re.compile(r"(://[^\s/:@]*:)[^\s/@]+(?=@)|\beyJ[\w-]{8,}\.[\w.-]+")
"""Pattern of a URL's password, as workers tell the broker's, and of a token, as the arguments of tasks hold it."""

MAX_BODY_BYTES = 100_000
"""Bytes of a request's body; by default 100 MB of each are held before a password is asked for."""

find_any = Flower.find_handler
take_event = EventsState.event
take_answer = Inspector._on_update  # noqa: SLF001 - all that a worker answers passes it


class Refused(ErrorHandler):
    """Answer requests under any other host name."""

    def prepare(self) -> None:
        """Answer 400."""
        self.set_status(400)
        self.set_header("Content-Type", "text/plain")
        self.finish(REFUSAL)


def find_handler(self: Flower, request: HTTPServerRequest, **named: t.Any) -> HTTPMessageDelegate:  # noqa: ANN401
    """Choose the handler of a request."""
    if all(map(is_allowed, request.headers.get_list("Host"))):
        return t.cast("HTTPMessageDelegate", find_any(self, request, **named))
    return t.cast("HTTPMessageDelegate", self.get_handler_delegate(request, Refused, {"status_code": 400}))


def masked(value: object) -> t.Any:  # noqa: ANN401
    """Return a copy of what a worker tells, with *** for each secret."""
    if isinstance(value, str):
        return SECRET.sub(r"\1***", value)
    if isinstance(value, dict):
        return {name: masked(one) for name, one in value.items()}
    return [masked(one) for one in value] if isinstance(value, (list, tuple)) else value


# Before Flower keeps it: a search in what it keeps would tell as much as a page.
Flower.find_handler = find_handler
EventsState.event = lambda self, event: take_event(self, masked(event))
Inspector._on_update = lambda self, *told: take_answer(self, *map(masked, told))  # noqa: SLF001
app.HTTPServer = functools.partial(app.HTTPServer, max_body_size=MAX_BODY_BYTES)
