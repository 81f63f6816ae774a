"""One signed POST to an address that the operator chose. Blocks: call it in a thread.

The signature covers the time and the body, so that whoever knows the key can tell that it is ours and not an old one:
`X-Zegel-Signature: t=1767348000,v1=<HMAC-SHA256 of "1767348000." and the body, in hex>`.
"""

from __future__ import annotations

import hashlib
import hmac
import http.client
import urllib.error
import urllib.request
from email.message import Message
from typing import IO

TIMEOUT_SECONDS = 10.0
AGAIN = frozenset((408, 425, 429))
"""Of the 4xx, those that ask for another try."""


class Away(Exception):
    """It could not be told now; try again later. The text names a kind of failure, never the address."""


class Refused(Exception):
    """It does not want this; another try would end the same way."""


class _NoRedirects(urllib.request.HTTPRedirectHandler):
    """What is signed for one address goes to no other."""

    def redirect_request(
        self, req: urllib.request.Request, fp: IO[bytes], code: int, msg: str, headers: Message, newurl: str
    ) -> None:
        return None


_OPENER = urllib.request.build_opener(urllib.request.ProxyHandler({}), _NoRedirects)


def signature(secret: str, at: int, body: bytes) -> str:
    """The value of X-Zegel-Signature."""
    digest = hmac.new(secret.encode(), f"{at}.".encode() + body, hashlib.sha256).hexdigest()
    return f"t={at},v1={digest}"


def post(url: str, secret: str, body: bytes, *, at: int, key: str) -> None:
    """Returns when the other side has said 2xx. `key` is the same for every try. Raises Away or Refused."""
    headers = {
        "Content-Type": "application/json",
        "User-Agent": "zegel",
        "Idempotency-Key": key,
        "X-Zegel-Signature": signature(secret, at, body),
    }
    request = urllib.request.Request(url, data=body, headers=headers, method="POST")
    try:
        with _OPENER.open(request, timeout=TIMEOUT_SECONDS):
            return
    except urllib.error.HTTPError as error:
        error.close()
        if 300 <= error.code < 500 and error.code not in AGAIN:
            raise Refused(f"HTTP {error.code}") from None
        raise Away(f"HTTP {error.code}") from None
    except (OSError, http.client.HTTPException) as error:
        raise Away(type(error).__name__) from None
