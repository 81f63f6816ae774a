"""What a session asks of the rest of the gateway, and the values that pass between them."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple, Protocol

from relay.limits import client_key
from relay.mail.address import Address
from relay.mail.envelope import Account, Envelope, Recipient, SessionInfo
from relay.smtp.auth import Login
from relay.smtp.syntax import MailCommand

if TYPE_CHECKING:
    from relay.settings import model


class Limits(NamedTuple):
    """What a session may use; names and defaults are those of the [limits] table."""

    max_message_bytes: int = 26_214_400
    max_recipients: int = 500
    command_timeout_seconds: float = 300.0
    data_timeout_seconds: float = 900.0
    data_min_bytes_per_minute: int = 1024
    max_errors: int = 10

    @classmethod
    def of(cls, table: model.Limits) -> Limits:
        return cls(**{name: getattr(table, name) for name in cls._fields})


class Listens(NamedTuple):
    """What a listener allows. `implicit`: TLS from the first octet; `plain_auth`: AUTH in clear; `relays`: False on the
    port for reports, where nobody logs in; `proxy`: a PROXY header comes first, from an address that `trusts`; `proxy_tls`: TLS
    ends there, for all who log in; `mends`: line ends of this client are made clean (SMTP-5).
    """

    implicit: bool = False
    plain_auth: bool = False
    proxy: bool = False
    proxy_tls: bool = False
    relays: bool = True
    uncounted: Callable[[str], bool] = lambda address: not address
    trusts: Callable[[str], bool] = lambda address: True
    mends: Callable[[str], bool] = lambda address: False

    def counts(self, address: str) -> bool:
        """The cap on connections of one client holds for this address."""
        return not self.uncounted(address)


@dataclass(slots=True)
class Transaction:
    """MAIL and RCPT so far. `settled` holds what the RCPT decision point has judged, for the end of data."""

    account: Account
    session: SessionInfo
    mail: MailCommand
    recipients: list[Recipient] = field(default_factory=list)
    mailboxes: set[str] = field(default_factory=set)  # of `recipients`: each gets one copy however often it is named
    settled: set[str] = field(default_factory=set)
    is_asked: bool = False  # some RCPT was answered, if only with a refusal
    refused: str = ""  # reject | defer: what policies said of some RCPT
    is_alone: bool = False  # who was taken takes no company (CLASS-7)
    generation: int = 0  # of the consent store when `settled` was judged
    own_limit: int = 0  # recipients that this account may name; 0: as everybody (`Limits.max_recipients`)

    @property
    def mail_from(self) -> str:
        return self.mail.address.text if self.mail.address else ""

    def add(self, address: Address, recipient: Recipient) -> None:
        """One RCPT that was answered with 250."""
        self.recipients.append(recipient)
        self.mailboxes.add(address.mailbox)

    def envelope(self) -> Envelope:
        mail = self.mail
        return Envelope(self.mail_from, tuple(self.recipients), mail.smtputf8, mail.ret, mail.envid)


class Front(Protocol):
    """The gateway as a session sees it. Replies are whole SMTP replies without the closing CRLF; None means go on."""

    hostname: str
    limits: Limits

    def login(self, login: Login, client_ip: str) -> Awaitable[Account | str]: ...

    def mail(self, transaction: Transaction) -> str | None: ...

    def recipient(
        self, transaction: Transaction, address: Address, recipient: Recipient
    ) -> str | Awaitable[str | None] | None: ...

    def message(self, transaction: Transaction, raw: bytes) -> Awaitable[str]: ...

    def unsent(self, transaction: Transaction) -> None:
        """It ended with nobody to send to: what it had were refused."""

    def say(self, reason: str, account: Account | None = None, **detail: str) -> str: ...

    def count(self, event: str) -> None: ...

    def crashed(self, error: BaseException) -> None: ...


class InFlight:
    """Octets of unfinished messages in this process, under one cap (then `452 4.3.1`).

    Three quarters are for who comes; in the last one nobody gets more than a `share`, so that one organisation's large or
    slow mail leaves room for the others'.
    """

    def __init__(self, cap: int, *, share: int) -> None:
        self.cap = cap
        self.share = share
        self.used = 0
        self._of: dict[str, int] = {}

    def take(self, octets: int, holder: str) -> bool:
        """Count `octets` of `holder` in, unless that would pass the cap, or the holder's share of it."""
        own = self._of.get(holder, 0) + octets
        used = self.used + octets
        if used > self.cap or (used > self.cap * 3 // 4 and own > self.share):
            return False
        self.used = used
        self._of[holder] = own
        return True

    def give(self, octets: int, holder: str) -> None:
        self.used -= octets
        left = self._of.get(holder, 0) - octets
        if left > 0:
            self._of[holder] = left
        else:
            self._of.pop(holder, None)


class Presence(Protocol):
    """Counts of who is present in all workers (relay.counters.contract.Counters)."""

    def enter(self, key: str, member: int, now: float) -> int: ...

    def leave(self, key: str, member: int, now: float) -> int: ...


class Gate:
    """Open connections: those of this process in all, and by client address (of IPv6 the /64) those of every worker.

    A connection has its place from the accept on, whether its client ever speaks or not.
    """

    def __init__(self, *, total: int, per_address: int, presence: Presence, member: int) -> None:
        self.total = total
        self.per_address = per_address
        self.sessions: dict[asyncio.BaseProtocol, str] = {}  # what its address is counted by; "" where it is not
        self._presence = presence
        self._member = member

    def enter(self, session: asyncio.BaseProtocol) -> bool:
        """Let a connection in; False when this process has as many as it may."""
        if len(self.sessions) >= self.total:
            return False
        self.sessions[session] = ""
        return True

    def count(self, session: asyncio.BaseProtocol, address: str) -> bool:
        """Count one that is in for its client; False, and not counted, when that address has as many as it may."""
        key = f"client:{client_key(address)}"
        if self._presence.enter(key, self._member, time.time()) > self.per_address:
            self._presence.leave(key, self._member, time.time())
            return False
        self.sessions[session] = key
        return True

    def leave(self, session: asyncio.BaseProtocol) -> None:
        key = self.sessions.pop(session, "")
        if key:
            self._presence.leave(key, self._member, time.time())
