"""Listeners of one worker: sockets from the supervisor, sessions on them, drain."""

from __future__ import annotations

import asyncio
import socket
import ssl
from collections.abc import Callable, Sequence

from relay.observe import metrics
from relay.settings.model import Listener, Settings
from relay.smtp import tls
from relay.smtp.front import Front, Gate, InFlight, Listens
from relay.smtp.session import Session

DRAIN_TICK_SECONDS = 0.05
COMMIT_SECONDS = 5.0  # that a commit in progress gets after the drain


class Listeners:
    """Every listener of this process."""

    def __init__(self, settings: Settings, front: Front, gate: Gate, in_flight: InFlight) -> None:
        self._settings = settings
        self._front = front
        self._gate = gate
        self._in_flight = in_flight
        self._shields: list[tuple[str, tls.Shield]] = []  # with the kind of their listener
        self._servers: list[asyncio.Server] = []

    async def start(self, sockets: Sequence[tuple[int, int]]) -> None:
        """Serve the descriptors, each for the listener of its index. Raises CertificateError."""
        loop = asyncio.get_running_loop()
        for index, descriptor in sockets:
            listener = self._settings.listener[index]
            context = None
            if listener.certificate is not None and listener.key is not None and listener.tls != "off":
                shield = tls.Shield(listener.certificate, listener.key)
                self._shields.append((listener.kind, shield))
                context = shield.context
            kind = self._kind(listener)
            sock = socket.socket(fileno=descriptor)
            # In plain on every port: with `ssl` a session would hear of its connection after the handshake only, and who
            # never begins one would be counted by nobody.
            self._servers.append(await loop.create_server(self._factory(loop, context, kind), sock=sock))
        self._measure()

    def _kind(self, listener: Listener) -> Listens:
        exempt, private = self._settings.connections_exempt, self._settings.private
        mended = self._settings.line_ends_mended
        return Listens(
            implicit=listener.kind == "submissions",
            plain_auth=listener.tls == "off" and listener.endpoint.is_loopback,
            relays=listener.kind != "feedback",
            proxy=listener.proxy_protocol,
            proxy_tls=listener.proxy_tls,
            uncounted=lambda address: not address or address in exempt,
            trusts=lambda address: address in private,
            mends=lambda address: address in mended,
        )

    def _factory(
        self, loop: asyncio.AbstractEventLoop, context: ssl.SSLContext | None, kind: Listens
    ) -> Callable[[], Session]:
        def make() -> Session:
            return Session(loop, self._front, self._gate, self._in_flight, tls=context, listener=kind)

        return make

    def reload_certificates(self) -> list[str]:
        """Take renewed certificates; what could not be taken, in words."""
        problems = []
        for _, shield in self._shields:
            try:
                shield.reload()
            except tls.CertificateError as error:
                problems.append(str(error))
        self._measure()
        return problems

    def _measure(self) -> None:
        """When the certificates in force run out, the first of each kind of listener."""
        ends: dict[str, float] = {}
        for kind, shield in self._shields:
            ends[kind] = min(shield.expires_at, ends.get(kind, shield.expires_at))
        for kind, end in ends.items():
            metrics.CERTIFICATE_EXPIRES.set(end, (kind,))

    async def drain(self, seconds: float) -> None:
        """Take no new session; let those that are in a transaction end, at most `seconds`; say 421 to the rest."""
        for server in self._servers:
            server.close()
        loop = asyncio.get_running_loop()
        end = loop.time() + seconds
        while self._gate.sessions and loop.time() < end:
            for session in list(self._gate.sessions):
                if isinstance(session, Session) and session.transaction is None:
                    session.send_away("421 4.3.2 The gateway is shutting down; try again later")
            await asyncio.sleep(DRAIN_TICK_SECONDS)
        for session in list(self._gate.sessions):
            if isinstance(session, Session):
                session.send_away("421 4.3.2 The gateway is shutting down; try again later")
        busy = [s.finished() for s in list(self._gate.sessions) if isinstance(s, Session)]
        if busy:
            await asyncio.wait([asyncio.ensure_future(wait) for wait in busy], timeout=COMMIT_SECONDS)
