"""The connections of one process to its next hops: opened on demand, kept busy, closed when idle (OUT-13).

Theory of operation. The pool has no queue. A connection that can begin a message asks `take`, so the scheduler
decides the order at the last moment. While no host is usable `take` is not called: jobs stay where they are safe
and fairly ordered. Connections grow like TCP's window: one more for each time that all were busy and a job
was found. A connection takes the next message ahead of the answer to the last one only while none is idle.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from relay.delivery import backoff
from relay.delivery.backoff import Failure
from relay.delivery.connection import Connection, Terms, connect
from relay.delivery.handshake import SetupFailed
from relay.delivery.job import Features, Job
from relay.delivery.peers import Peer, Seat, choose, next_chance


@dataclass(frozen=True, slots=True)
class PoolSettings:
    """`peers` in the order in which they are tried. `connections` and `messages_per_connection` are per pool and connection."""

    peers: tuple[Peer, ...]
    terms: Terms
    connections: int = 8
    messages_per_connection: int = 1000
    backoff: backoff.Plan = field(default_factory=backoff.Plan)


class PeerState(NamedTuple):
    """One host for metrics and doctor. `state`: usable | waiting | trial; `retry_seconds` until a waiting one is tried."""

    name: str
    state: str
    connections: int
    failures: int
    retry_seconds: float
    stage: str
    why: str


class PoolState(NamedTuple):
    """`busy` connections carry mail, `idle` ones could; `opened` counts since the start."""

    peers: tuple[PeerState, ...]
    busy: int
    idle: int
    opening: int
    opened: int

    @property
    def usable(self) -> bool:
        """Some host takes mail, or may be tried."""
        return any(peer.state != "waiting" for peer in self.peers)


class Checked(NamedTuple):
    """What `check` found at one host: `why` is "" if it would take mail; `tls` for instance TLSv1.3 or ""."""

    name: str
    why: str
    stage: str = ""
    tls: str = ""
    features: Features = Features()


class Doors(NamedTuple):
    """Time, chance and bad news, passed in. `clock` must be the loop's kind of time: monotonic seconds."""

    clock: Callable[[], float] | None = None
    chance: Callable[[], float] = random.random
    noticed: Callable[[PeerState], None] = lambda state: None  # a host's state changed; for log and metrics
    crashed: Callable[[Exception], None] | None = None  # a bug in a job; default: the loop's exception handler


class Pool:
    """Keeps up to `settings.connections` connections as busy as `take` allows. Belongs to the running event loop."""

    def __init__(self, settings: PoolSettings, take: Callable[[], Job | None], *, doors: Doors = Doors()) -> None:  # noqa: B008
        self._settings = settings
        self._take = take
        self._doors = doors
        self._loop = asyncio.get_running_loop()
        self._clock = doors.clock or self._loop.time
        self._seats = [Seat(peer) for peer in settings.peers]
        self._open: dict[Connection, Seat] = {}
        self._idle: list[Connection] = []  # last in, first out: what is not needed ages and closes
        self._opening: set[asyncio.Task[None]] = set()
        self._timer: asyncio.TimerHandle | None = None
        self._hungry = False  # the scheduler may have work that nobody has asked for
        self._scheduled = False
        self._draining = False
        self._closed = False
        self._empty = asyncio.Event()
        self._opened = 0

    # For the worker

    def wake(self) -> None:
        """There may be new work. Cheap, callable from anywhere in the loop's thread, `take` and `done` included."""
        self._hungry = True
        if not self._scheduled and (self._idle or self._may_grow()):
            self._scheduled = True
            self._loop.call_soon(self._dispatch)

    async def drain(self, timeout: float) -> None:
        """Take nothing more, let what is on its way end, then close; after `timeout` seconds cut what is left."""
        self._draining = True
        self._stop_timer()
        for connection in list(self._idle):
            self._retire(connection)
        self._note_empty()
        try:
            async with asyncio.timeout(timeout):
                await self._empty.wait()
        except TimeoutError:
            pass
        left = [connection.closed for connection in self._open]
        opening = list(self._opening)
        self.close()
        await asyncio.gather(*opening, *left, return_exceptions=True)

    def close(self) -> None:
        """Cut everything now. Jobs under way get their outcome (deferred or in doubt) before this returns."""
        self._draining = self._closed = True
        self._stop_timer()
        for task in self._opening:
            task.cancel()
        for connection in list(self._open):
            connection.abort("the gateway stops")

    def state(self) -> PoolState:
        """What is happening, for metrics and `zegel doctor`."""
        idle = len(self._idle)
        peers = tuple(self._describe(seat) for seat in self._seats)
        return PoolState(peers, len(self._open) - idle, idle, len(self._opening), self._opened)

    async def check(self) -> list[Checked]:
        """Connect, EHLO, STARTTLS, AUTH, QUIT at every host, whatever its back-off; no mail is sent (OUT-13)."""
        return list(await asyncio.gather(*(check_peer(seat, self._settings.terms) for seat in self._seats)))

    # For connections (connection.Owner)

    def take(self, connection: Connection, ahead: bool) -> Job | None:
        """The next job for this connection, if it may have one."""
        if self._draining or (ahead and self._idle) or self._is_spent(connection):
            return None
        self._prove(connection)
        self._hungry = False
        try:
            job = self._take()
        except Exception as bug:  # the scheduler's; the session it would have used is sound
            self.crashed(bug)
            return None
        if job is not None:
            self._hungry = True
            if not self._idle:
                self._grow()
        return job

    def crashed(self, bug: Exception) -> None:
        if self._doors.crashed is not None:
            self._doors.crashed(bug)
        else:
            self._loop.call_exception_handler({"message": "delivery job failed", "exception": bug})

    def rests(self, connection: Connection) -> None:
        self._prove(connection)
        if self._draining or self._is_spent(connection):
            self._retire(connection)
        elif connection not in self._idle:
            self._idle.append(connection)
        if self._hungry:
            self.wake()

    def gone(self, connection: Connection, failure: Failure | None) -> None:
        seat = self._open.pop(connection, None)
        if connection in self._idle:
            self._idle.remove(connection)
        if seat is None:
            return
        seat.connections -= 1
        if failure is not None:
            self._fail(seat, failure)
        elif connection.client is not None and connection.client.settled:
            self._clear(seat)
        self._after_change()

    # Inside

    def _dispatch(self) -> None:
        self._scheduled = False
        while self._hungry and self._idle and not self._draining:
            self._idle.pop().work()
        if self._hungry:
            self._grow()

    def _is_spent(self, connection: Connection) -> bool:
        client = connection.client
        return client is None or client.begun >= self._settings.messages_per_connection

    def _retire(self, connection: Connection) -> None:
        if connection in self._idle:
            self._idle.remove(connection)
        connection.quit()

    def _prove(self, connection: Connection) -> None:
        seat = self._open.get(connection)
        if seat is not None and seat.state.failures and connection.client is not None and connection.client.settled:
            self._clear(seat)

    def _may_grow(self) -> bool:
        """One connection is opened at a time for each that is open, so that one mail does not open eight."""
        if self._draining or len(self._opening) >= max(1, len(self._open)):
            return False
        return len(self._open) + len(self._opening) < self._settings.connections

    def _grow(self) -> None:
        if not self._may_grow():
            return
        now = self._clock()
        seat = choose(self._seats, now)
        if seat is None:
            self._wait(now)
            return
        seat.connections += 1
        task = self._loop.create_task(self._connect(seat))
        self._opening.add(task)
        task.add_done_callback(self._opened_or_not)

    def _opened_or_not(self, task: asyncio.Task[None]) -> None:
        self._opening.discard(task)
        if not task.cancelled() and (bug := task.exception()) is not None:
            self._loop.call_exception_handler({"message": "delivery pool failed", "exception": bug})
        self._after_change()

    async def _connect(self, seat: Seat) -> None:
        try:
            connection = await connect(seat.peer, self._settings.terms, self, trust=seat.trust)
        except SetupFailed as failed:
            seat.connections -= 1
            self._fail(seat, Failure(failed.stage, failed.why))
        except ValueError as wrong:  # a setting: ca_file that went away, a host name that is none
            seat.connections -= 1
            self._fail(seat, Failure("connect", str(wrong)))
        except BaseException:
            seat.connections -= 1
            raise
        else:
            self._opened += 1
            self._open[connection] = seat
            if self._closed:
                connection.abort("the gateway stops")
            else:
                connection.work()

    def _fail(self, seat: Seat, failure: Failure) -> None:
        seat.state = backoff.failed(
            seat.state, failure, self._clock(), plan=self._settings.backoff, jitter=self._doors.chance()
        )
        self._doors.noticed(self._describe(seat))

    def _clear(self, seat: Seat) -> None:
        if seat.state.failures:
            seat.state = backoff.proven(seat.state)
            self._doors.noticed(self._describe(seat))
            if self._hungry:
                self.wake()

    def _after_change(self) -> None:
        """A connection came or went, or a host may be tried again: work that waits may need one more."""
        self._note_empty()
        if self._hungry and not self._draining:
            self.wake()

    def _note_empty(self) -> None:
        if self._draining and not self._open and not self._opening:
            self._empty.set()

    def _wait(self, now: float) -> None:
        """No host may be used: look again when the first may."""
        chance = next_chance(self._seats)
        self._stop_timer()
        if chance > now and chance != float("inf"):
            self._timer = self._loop.call_later(chance - now, self._after_change)

    def _stop_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _describe(self, seat: Seat) -> PeerState:
        now = self._clock()
        state = seat.state
        left = max(0.0, state.until - now)
        name = backoff.name_of(state, now)
        return PeerState(seat.peer.name, name, seat.connections, state.failures, left, state.stage, state.why)


async def check_peer(seat: Seat, terms: Terms) -> Checked:
    """Whether one host would take mail now."""
    try:
        connection = await connect(seat.peer, terms, _NO_MAIL, trust=seat.trust)
    except SetupFailed as failed:
        return Checked(seat.peer.name, failed.why, failed.stage)
    except ValueError as wrong:
        return Checked(seat.peer.name, str(wrong), "connect")
    features = connection.client.features if connection.client is not None else Features()
    await connection.finish()
    return Checked(seat.peer.name, "", "", connection.tls, features)


async def check_peers(peers: Sequence[Peer], terms: Terms) -> list[Checked]:
    """`Pool.check` without a pool, for the start-up check and `zegel doctor`."""
    return list(await asyncio.gather(*(check_peer(Seat(peer), terms) for peer in peers)))


class _NoMail:
    """The owner of a connection that only checks."""

    def take(self, connection: Connection, ahead: bool) -> Job | None:
        return None

    def crashed(self, bug: Exception) -> None:
        raise bug

    def rests(self, connection: Connection) -> None:
        connection.quit()

    def gone(self, connection: Connection, failure: Failure | None) -> None:
        return


_NO_MAIL = _NoMail()
