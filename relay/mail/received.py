"""The Received field that every accepted message gets (RFC 5321 section 4.4, SMTP-22, CC-16)."""

from __future__ import annotations

import re
import time
from collections.abc import Sequence
from functools import lru_cache

from relay.mail.envelope import Recipient, SessionInfo

_UNSAFE = re.compile(r"[^A-Za-z0-9.:_\[\]-]")


def received_value(
    session: SessionInfo,
    hostname: str,
    queue_id: str,
    now: float,
    recipients: Sequence[Recipient],
    *,
    show_client: bool,
) -> str:
    """The value, folded. `for` only with a single recipient; the client's address only where the operator shows it."""
    ehlo = _UNSAFE.sub("_", session.ehlo)[:64] or "unknown"
    client = f"{ehlo} ([{session.client_ip}])" if show_client and session.client_ip else ehlo
    tls = f" ({session.tls} {session.cipher})" if session.tls else ""
    to = ""
    if len(recipients) == 1 and recipients[0].address.isascii() and len(recipients[0].address) < 200:
        to = f"\r\n for <{recipients[0].address}>"
    return f"from {client}\r\n by {hostname} (Zegel) with {session.protocol} id {queue_id}{tls}{to};\r\n {rfc5322_date(int(now))}"


@lru_cache(maxsize=8)
def rfc5322_date(second: int) -> str:
    """A moment as RFC 5322 section 3.3 writes it, in UTC."""
    moment = time.gmtime(second)
    day = ("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun")[moment.tm_wday]
    month = ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"][moment.tm_mon - 1]
    clock = f"{moment.tm_hour:02d}:{moment.tm_min:02d}:{moment.tm_sec:02d}"
    return f"{day}, {moment.tm_mday:02d} {month} {moment.tm_year} {clock} +0000"
