"""What the outgoing side is handed: a job, what the peer offers, and a copy rendered for that peer."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple, Protocol

from relay.delivery.outcome import Deferred, Failed, Outcome
from relay.mail.envelope import Recipient


class Features(NamedTuple):
    """What a peer offered in its last EHLO. `auth` holds upper-case mechanism names."""

    pipelining: bool = False  # RFC 2920
    eightbitmime: bool = False  # RFC 6152
    smtputf8: bool = False  # RFC 6531
    dsn: bool = False  # RFC 3461
    size: int = -1  # RFC 1870, octets; 0: no fixed limit; -1: SIZE not offered
    chunking: bool = False  # RFC 3030
    starttls: bool = False  # RFC 3207
    auth: tuple[str, ...] = ()  # RFC 4954
    tls: bool = False  # the session is encrypted


class Rendered(NamedTuple):
    """One copy as it leaves, signed, not dot-stuffed. `head` has its closing empty line; lines end in CRLF.

    `recoded` is the rule by which the body was encoded anew for this way, where no edit of the message said so.
    """

    head: bytes
    body: bytes | memoryview
    is_ascii: bool
    recoded: str = ""


class Job(Protocol):
    """One transaction to be tried once: the same bytes and return path for all its recipients."""

    @property
    def mail_from(self) -> str:
        """Return path without angle brackets; "" is the null sender."""

    @property
    def recipients(self) -> Sequence[Recipient]:
        """At least one; `notify`, `orcpt` as they stood on the wire (RFC 3461)."""

    @property
    def ret(self) -> str:
        """FULL, HDRS or ""."""

    @property
    def envid(self) -> str:
        """ENVID as it stood on the wire (xtext) or ""."""

    @property
    def smtputf8(self) -> bool:
        """The sender said SMTPUTF8."""

    def render(self, features: Features) -> Rendered | Deferred | Failed:
        """The copy for a peer with these features, or why there is none (then nothing is written to the peer).

        Called at most once per attempt, right before MAIL is written: MAIL carries the exact SIZE and BODY,
        and after DATA there is no way back short of cutting the connection.
        """

    def done(self, outcomes: list[Outcome]) -> None:
        """Called exactly once per attempt with one outcome per recipient, in the order of `recipients`."""
