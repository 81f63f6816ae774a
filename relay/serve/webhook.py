"""One signed POST to an address that the operator chose. Blocks: call it in a thread.

The signature covers the time and the body, so that whoever knows the key can tell that it is ours and not an old one:
`X-Zegel-Signature: t=1767348000,v1=<HMAC-SHA256 of "1767348000." and the body, in hex>`.
"""

from __future__ import annotations

import hashlib
import hmac
import http.client
import socket
import threading
from urllib.parse import urlsplit

TIMEOUT_SECONDS = 10.0
"""For each step of connecting, and then for the rest in all."""
AGAIN = frozenset((408, 425, 429))
"""Of the 4xx, those that ask for another try."""


class Away(Exception):
    """It could not be told now; try again later. The text names a kind of failure, never the address."""


class Refused(Exception):
    """It does not want this; another try would end the same way."""


def signature(secret: str, at: int, body: bytes) -> str:
    """The value of X-Zegel-Signature."""
    digest = hmac.new(secret.encode(), f"{at}.".encode() + body, hashlib.sha256).hexdigest()
    return f"t={at},v1={digest}"


def post(url: str, secret: str, body: bytes, *, at: int, key: str) -> None:
    """Returns when the other side itself has said 2xx. `key` is the same for every try. Raises Away or Refused."""
    headers = {
        "Content-Type": "application/json",
        "User-Agent": "zegel",
        "Idempotency-Key": key,
        "X-Zegel-Signature": signature(secret, at, body),
    }
    parts = urlsplit(url)
    target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    kind = http.client.HTTPSConnection if parts.scheme == "https" else http.client.HTTPConnection
    connection = kind(parts.hostname or "", parts.port, timeout=TIMEOUT_SECONDS)
    deadline: Deadline | None = None
    try:
        connection.connect()
        deadline = Deadline(connection.sock, TIMEOUT_SECONDS)
        with deadline:
            connection.request("POST", target, body, headers)
            code = connection.getresponse().status
        if deadline.is_over:
            raise Away("TimeoutError")
    except (OSError, http.client.HTTPException) as error:
        raise Away("TimeoutError" if deadline is not None and deadline.is_over else type(error).__name__) from None
    finally:
        connection.close()
    if not 200 <= code < 300:  # a 1xx promises an answer and is none
        raise Refused(f"HTTP {code}") if 300 <= code < 500 and code not in AGAIN else Away(f"HTTP {code}")


class Deadline:
    """Cuts a connection that is not done in time: a time-out of a socket begins anew with every octet that drips in."""

    def __init__(self, sock: socket.socket, seconds: float) -> None:
        self._sock = sock
        self._timer = threading.Timer(seconds, self._cut)
        self._timer.daemon = True
        self.is_over = False

    def __enter__(self) -> Deadline:
        self._timer.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._timer.cancel()

    def _cut(self) -> None:
        self.is_over = True
        try:
            socket.socket.shutdown(self._sock, socket.SHUT_RDWR)  # below TLS, which another thread is using
        except OSError:
            pass  # it has ended by itself
