"""Sessions of relay.smtp in the process of the test, for what a whole gateway cannot show: every listener, every order."""

from __future__ import annotations

import asyncio
import socket
import time
from collections.abc import Awaitable, Callable

from relay.mail.address import Address
from relay.mail.envelope import Account, Credential, Recipient, Stream, Tenant
from relay.settings.model import Settings
from relay.smtp.auth import Login
from relay.smtp.front import Gate, InFlight, Limits, Transaction
from relay.smtp.listener import Listeners

TENANT = Tenant(1, "shop")
ACCOUNT = Account(TENANT, Credential("shop", "shop", "shop", Stream.PERSONAL))
PASSWORD = "correct horse"


class Permissive:
    """A front (relay.smtp.front.Front) that lets everything through: what is refused then, the session refuses itself."""

    hostname = "gw.test"

    def __init__(self, limits: Limits | None = None) -> None:
        self.limits = limits or Limits()
        self.taken: list[tuple[Transaction, bytes]] = []
        self.crashes: list[BaseException] = []
        self.events: list[str] = []
        self.on_message: Callable[[bytes], Awaitable[str]] | None = None

    async def login(self, login: Login, client_ip: str) -> Account | str:
        return ACCOUNT if login.password == PASSWORD else "535 5.7.8 no"

    def mail(self, transaction: Transaction) -> str | None:
        return None

    def recipient(self, transaction: Transaction, address: Address, recipient: Recipient) -> str | None:
        return None

    async def message(self, transaction: Transaction, raw: bytes) -> str:
        if self.on_message is not None:
            return await self.on_message(raw)
        self.taken.append((transaction, raw))
        return "250 2.0.0 queued"

    def unsent(self, transaction: Transaction) -> None:
        return

    def say(self, reason: str, account: Account | None = None, **detail: str) -> str:
        codes = {"session.relay_denied": "550 5.7.1", "session.login_needs_tls": "538 5.7.11"}
        return f"{codes.get(reason, '530 5.7.0')} {reason}"

    def count(self, event: str) -> None:
        self.events.append(event)

    def crashed(self, error: BaseException) -> None:
        self.crashes.append(error)


class Present:
    """Presence counts (relay.smtp.front.Presence) of this process alone."""

    def __init__(self) -> None:
        self.counts: dict[str, int] = {}

    def enter(self, key: str, member: int, now: float) -> int:
        assert abs(now - time.time()) < 60
        self.counts[key] = self.counts.get(key, 0) + 1
        return self.counts[key]

    def leave(self, key: str, member: int, now: float) -> int:
        self.counts[key] -= 1
        assert self.counts[key] >= 0, key
        return self.counts[key]


class Doors:
    """The listeners of `settings` on loopback ports of their own, whatever addresses the settings name."""

    def __init__(self, settings: Settings, front: Permissive) -> None:
        self.settings = settings
        self.front = front
        self.presence = Present()
        self.in_flight = InFlight(settings.limits.max_in_flight_bytes, share=settings.limits.max_in_flight_bytes // 4)
        per_address = settings.limits.connections_per_address
        self.gate = Gate(total=1000, per_address=per_address, presence=self.presence, member=0)
        self.listeners = Listeners(settings, front, self.gate, self.in_flight)
        self.ports: list[int] = []

    async def __aenter__(self) -> Doors:
        given = []
        for index in range(len(self.settings.listener)):
            sock = socket.socket()
            sock.bind(("127.0.0.1", 0))
            sock.listen()
            self.ports.append(sock.getsockname()[1])
            given.append((index, sock.detach()))
        await self.listeners.start(given)
        return self

    async def __aexit__(self, *error: object) -> None:
        await self.listeners.drain(0.2)

    async def connect(self, index: int = 0) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        return await asyncio.open_connection("127.0.0.1", self.ports[index])
