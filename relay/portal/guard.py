"""The outermost layer of every request: body limits, security headers, one log event, and the last net under a crash.

Plain ASGI, so that nothing is buffered that the limit does not allow. The log names the route template and never the
path, since paths hold tokens; a crash is logged by its type and place, since its text may hold an address.
"""

from __future__ import annotations

import time
import traceback
from collections.abc import Awaitable, Callable
from typing import Any

from starlette.datastructures import MutableHeaders
from starlette.requests import ClientDisconnect, Request
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from relay.observe.events import REQUEST_ANSWERED, REQUEST_CRASHED
from relay.observe.log import log
from relay.portal.clients import is_local

API_PREFIX = "/api/"
API_BODY_BYTES = 1_000_000
FORM_BODY_BYTES = 16_384
MAX_AT_WORK = 600  # over the bound of connections: only requests whose clients have gone can fill it
HEALTH = frozenset(("/healthz", "/readyz"))

CONTENT_SECURITY_POLICY = (
    "default-src 'none'; style-src 'self'; img-src 'self'; form-action 'self'; frame-ancestors 'none'; base-uri 'none'"
)
HEADERS = {
    "Content-Security-Policy": CONTENT_SECURITY_POLICY,
    "Referrer-Policy": "no-referrer",  # paths hold tokens
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "camera=(), geolocation=(), microphone=()",
    "X-Robots-Tag": "noindex, nofollow",
}

Answer = Callable[[Scope, str, int], ASGIApp]
"""Makes the answer for a text key (too_large, crashed, busy) and a status."""


class TooLarge(Exception):
    """The body is over the limit of its route."""


class Guard:
    """ASGI middleware; `answer` makes the pages that it has to give itself."""

    def __init__(self, app: ASGIApp, answer: Answer, is_https: bool) -> None:
        self._app = app
        self._answer = answer
        self._headers = dict(HEADERS)
        self._at_work = 0
        if is_https:
            self._headers["Strict-Transport-Security"] = "max-age=31536000"

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        began = time.monotonic()
        status = 0

        async def mark(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                self._dress(message)
            await send(message)

        self._at_work += 1
        try:
            await self._admit(scope, receive, mark)
        except TooLarge:
            if not status:
                await self._answer(scope, "too_large", 413)(scope, receive, mark)
        except ClientDisconnect:
            pass  # nobody is there to be answered
        except Exception as error:
            log.error(REQUEST_CRASHED, route=_route(scope), error=type(error).__name__, where=_place(error))
            if not status:
                await self._answer(scope, "crashed", 500)(scope, receive, mark)
        finally:
            self._at_work -= 1
        log.info(
            REQUEST_ANSWERED,
            route=_route(scope),
            method=scope["method"] if scope["method"] in _METHODS else "other",
            status=status,
            elapsed_seconds=round(time.monotonic() - began, 4),
        )

    async def _admit(self, scope: Scope, receive: Receive, send: Send) -> None:
        is_health = scope["path"] in HEALTH and is_local(Request(scope))
        if self._at_work > MAX_AT_WORK and not is_health:
            await self._answer(scope, "busy", 503)(scope, receive, send)
            return
        limit = API_BODY_BYTES if scope["path"].startswith(API_PREFIX) else FORM_BODY_BYTES
        if _declared(scope) > limit:
            raise TooLarge
        await self._app(scope, _bounded(receive, limit), send)

    def _dress(self, message: Message) -> None:
        headers = MutableHeaders(scope=message)
        for name, value in self._headers.items():
            headers.setdefault(name, value)


_METHODS = frozenset(("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"))


def _declared(scope: Scope) -> int:
    for name, value in scope["headers"]:
        if name == b"content-length":
            return int(value) if value.isdigit() else 0
    return 0


def _bounded(receive: Receive, limit: int) -> Callable[[], Awaitable[Message]]:
    """`receive` that raises TooLarge once more than `limit` octets of body have come."""
    seen = 0

    async def bounded() -> Message:
        nonlocal seen
        message = await receive()
        seen += len(message.get("body", b""))
        if seen > limit:
            raise TooLarge
        return message

    return bounded


def _route(scope: Scope) -> str:
    """The template of the route that answered, with the prefix of the API; "none" where no route did."""
    route: Any = scope.get("route")
    path = getattr(route, "path", "")
    prefix = "/api/v1" if scope["path"].startswith("/api/v1") and not path.startswith("/api") else ""
    return f"{prefix}{path}" if path else "none"


def _place(error: BaseException) -> str:
    frames = traceback.extract_tb(error.__traceback__)
    return " < ".join(f"{frame.name}:{frame.lineno}" for frame in reversed(frames[-4:]))
