"""Let Flower answer under no foreign name; it reads this file before it listens."""

from __future__ import annotations

import typing as t

from flower.app import Flower  # type: ignore[import-untyped]
from tornado.web import ErrorHandler

from elt.services.allowed_hosts import REFUSAL, is_allowed

if t.TYPE_CHECKING:
    from tornado.httputil import HTTPMessageDelegate, HTTPServerRequest

find_any = Flower.find_handler


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


Flower.find_handler = find_handler
