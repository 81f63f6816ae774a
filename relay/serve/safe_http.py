"""One POST to an address that a tenant chose, and so maybe to one that is none of his business. Blocks: call it in a thread.

Theory of operation. The name is looked up once; every address that comes out is judged, and the connection is made to one of
these very addresses, so that a name server that answers otherwise the next time (DNS rebinding) wins nothing. The certificate
is checked against the name. Redirects are not followed, and of the answer nothing is read but its head. Everything together
has one deadline, and after it nothing more is sent.
"""

from __future__ import annotations

import http.client
import socket
import ssl
import time
from collections.abc import Callable, Mapping
from functools import cache
from typing import NamedTuple
from urllib.parse import urlsplit

from relay.serve.webhook import AGAIN, Away, Deadline, Refused
from relay.settings.endpoint import Networks
from relay.settings.reach import may_reach

TOTAL_SECONDS = 15.0
CONNECT_SECONDS = 5.0
MOST_ADDRESSES = 2
UNREACHED = "its host has no address that webhooks may reach: check its name"
"""The same of a name that does not exist and of one inside: a tenant must not learn which names a network has."""
PORTS = {"https": 443, "http": 80}
Resolve = Callable[[str, int], list[str]]


class Barred(Away):
    """No webhook may reach that address. The text says why, never which it is."""


class Request(NamedTuple):
    """What is sent."""

    url: str
    headers: Mapping[str, str]
    body: bytes


def look_up(host: str, port: int) -> list[str]:
    """Every address of `host`, as the system resolves it; a number in any spelling is itself. Raises Away."""
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError):
        raise Away(UNREACHED) from None
    return list(dict.fromkeys(str(entry[4][0]) for entry in found))


def post(
    request: Request, allowed: Networks, *, resolve: Resolve = look_up, context: ssl.SSLContext | None = None
) -> None:
    """Returns when the other side has said 2xx. Raises Away or Refused, whose text names a kind, never an address."""
    ends = time.monotonic() + TOTAL_SECONDS
    parts = urlsplit(request.url)
    host, scheme = parts.hostname or "", parts.scheme
    port = parts.port or PORTS[scheme]
    addresses = resolve(host, port)
    if not addresses or not all(may_reach(address, scheme, allowed) for address in addresses):
        raise Barred(UNREACHED)
    try:
        sock = _connect(addresses, port, ends)
        code = _exchange(sock, request, ends, context)
    except (OSError, http.client.HTTPException) as error:
        raise Away(type(error).__name__) from None
    if not 200 <= code < 300:  # a 1xx promises an answer and is none
        raise Refused(f"HTTP {code}") if 300 <= code < 500 and code not in AGAIN else Away(f"HTTP {code}")


def _connect(addresses: list[str], port: int, ends: float) -> socket.socket:
    """To the first that answers of those that were judged."""
    failure: OSError = TimeoutError()
    for address in addresses[:MOST_ADDRESSES]:
        try:
            return socket.create_connection((address, port), timeout=min(CONNECT_SECONDS, _left(ends)))
        except OSError as error:
            failure = error
    raise failure


def _exchange(sock: socket.socket, request: Request, ends: float, context: ssl.SSLContext | None) -> int:
    """The code of the answer."""
    parts = urlsplit(request.url)
    host, port = parts.hostname or "", parts.port
    kind = http.client.HTTPSConnection if parts.scheme == "https" else http.client.HTTPConnection
    try:
        sock.settimeout(_left(ends))
        if parts.scheme == "https":
            sock = (context or _context()).wrap_socket(sock, server_hostname=host, do_handshake_on_connect=False)
        with Deadline(sock, _left(ends)) as deadline:
            if isinstance(sock, ssl.SSLSocket):
                sock.do_handshake()
            connection = kind(host, port)
            connection.sock = sock  # so it makes no connection of its own
            connection.request("POST", _target(request.url), request.body, dict(request.headers))
            code = connection.getresponse().status
    finally:
        sock.close()
    if deadline.is_over:
        raise TimeoutError
    return code


def _target(url: str) -> str:
    parts = urlsplit(url)
    return (parts.path or "/") + (f"?{parts.query}" if parts.query else "")


def _left(ends: float) -> float:
    left = ends - time.monotonic()
    if left <= 0:
        raise TimeoutError
    return left


@cache
def _context() -> ssl.SSLContext:
    return ssl.create_default_context()
