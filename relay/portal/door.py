"""Who may stand at the web port, and for how long: anybody may connect, nobody may keep others out by keeping silent.

Theory of operation. A connection either waits for its client (for the first octet, the rest of a head, the rest of a
body, the next request) or works for it. Every wait has an end, counted from its beginning, so that an octet now and then
buys no time. When the door is full, the longest waiting connection goes and the new one comes in; those that work are
never closed for a newcomer. A client address has a share of the door, so that one client makes room among its own.
Loopback and private networks have no such share: there stand proxies, who speak for many.
"""

from __future__ import annotations

import asyncio
from ipaddress import IPv6Address
from typing import Any, ClassVar, NamedTuple, cast

import h11
from uvicorn.protocols.http.h11_impl import H11Protocol

from relay.settings.endpoint import Networks, parse_ip


class Bounds(NamedTuple):
    """What the door bears. Times count from the beginning of a wait, whatever trickles in."""

    head_seconds: float = 10.0  # from the connection, or the first octet of a further request, to the end of the head
    body_seconds: float = 30.0  # from the end of the head to the end of the body
    answer_seconds: float = 120.0  # from the end of the request until the client has read the answer
    last_seconds: float = 2.0  # from the beginning of a stop, for who has come in and not yet said what for
    connections: int = 500
    per_address: int = 50  # of an IPv6 client: per /64, which one client has whole


class Door:
    """The connections of one web process. `exempt` networks have no share per address."""

    def __init__(self, bounds: Bounds, exempt: Networks) -> None:
        self.bounds = bounds
        self._exempt = exempt
        self._inside: dict[str, set[PortalProtocol]] = {}
        self._count = 0

    def enter(self, connection: PortalProtocol) -> bool:
        """Let a connection in, for which a waiting one may have to go; False where it must be closed instead."""
        house = _house(connection.peer)
        own = self._inside.get(house, set())
        if connection.peer not in self._exempt and len(own) >= self.bounds.per_address and not self._make_room(own):
            return False
        # Health checks come from this machine and are let in over the bound: a full gateway is not a dead one.
        is_local = (ip := parse_ip(connection.peer)) is not None and ip.is_loopback
        if self._count >= self.bounds.connections and not self._make_room(self._all()) and not is_local:
            return False
        self._inside.setdefault(house, set()).add(connection)
        self._count += 1
        return True

    def leave(self, connection: PortalProtocol) -> None:
        """Forget a connection; nothing happens where it is not known."""
        house = _house(connection.peer)
        own = self._inside.get(house)
        if own is None or connection not in own:
            return
        own.remove(connection)
        self._count -= 1
        if not own:
            del self._inside[house]

    def _all(self) -> set[PortalProtocol]:
        return set().union(*self._inside.values())

    def _make_room(self, among: set[PortalProtocol]) -> bool:
        """Close the one that has waited longest for its client; False where all work."""
        waiting = [connection for connection in among if connection.is_waiting]
        if not waiting:
            return False
        longest = min(waiting, key=lambda connection: connection.since)
        self.leave(longest)
        longest.drop()
        return True


def _house(peer: str) -> str:
    """What counts as one client: an IPv4 address, an IPv6 network of 64 bits."""
    ip = parse_ip(peer)
    if isinstance(ip, IPv6Address):
        return ip.packed[:8].hex()
    return str(ip) if ip is not None else peer


class PortalProtocol(H11Protocol):
    """uvicorn's connection with an end to every wait. Use a subclass that sets `door`."""

    door: ClassVar[Door]

    peer = ""  # the client's IP address
    since = 0.0  # when the present wait or work began, in the loop's time
    _deadline: asyncio.TimerHandle | None = None
    _phase: tuple[str, object] = ("", None)
    _is_last = False  # what is asked now is answered, and no more

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(cast(Any, transport))
        self.peer = self.client[0] if self.client else ""
        if self.door.enter(self):
            self._watch()
        else:
            self.drop()

    def data_received(self, data: bytes) -> None:
        if not self.transport.is_closing():
            super().data_received(data)
            if self._is_last and self.cycle is not None:
                self.cycle.keep_alive = False
            self._watch()

    def on_response_complete(self) -> None:
        super().on_response_complete()
        self._watch()

    def connection_lost(self, exc: Exception | None) -> None:
        self.door.leave(self)
        if self._deadline is not None:
            self._deadline.cancel()
        super().connection_lost(exc)

    def drop(self) -> None:
        """Close at once: what was not sent yet is lost, and the application is told of a client that went."""
        self.transport.abort()

    def shutdown(self) -> None:
        """uvicorn ends. Who has just come in may still ask: a close would reset what is on its way, an opt-out perhaps."""
        if self._phase != ("head", None):
            super().shutdown()
            return
        self._is_last = True
        if self._deadline is not None:
            self._deadline.cancel()
        self._deadline = self.loop.call_later(self.door.bounds.last_seconds, self.drop)

    @property
    def is_waiting(self) -> bool:
        """It is the client's turn: to say something, or to read what it was answered."""
        return self._phase[0] != "answer" or self.flow.write_paused

    def _watch(self) -> None:
        """Start the clock of the phase that has begun; that of a phase that goes on runs on."""
        phase = self._now()
        if phase == self._phase:
            return
        self._phase = phase
        self.since = self.loop.time()
        if self._deadline is not None:
            self._deadline.cancel()
        bounds = self.door.bounds
        # An idle connection is closed by uvicorn, which waits for ever for a client that does not read its answer.
        seconds = {"head": bounds.head_seconds, "body": bounds.body_seconds}.get(phase[0], bounds.answer_seconds)
        self._deadline = self.loop.call_later(seconds, self.drop)

    def _now(self) -> tuple[str, object]:
        """The phase, and the request that it belongs to."""
        theirs = self.conn.their_state
        if theirs is h11.SEND_BODY:
            return "body", self.cycle
        if theirs is not h11.IDLE:
            return "answer", self.cycle
        is_idle = self.cycle is not None and self.timeout_keep_alive_task is not None
        return ("idle" if is_idle else "head"), self.cycle
