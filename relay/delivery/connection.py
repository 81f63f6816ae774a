"""One connection to a next hop: the sockets, timers and TLS under `handshake` and `client`.

Theory of operation. Set-up is a coroutine that walks the handshake one reply at a time. From then on there is
none: `data_received` feeds the client, what it wants written leaves in one write, and one timer per connection is
moved lazily, so a message in a busy stream costs no task, no future and no timer of its own.
"""

from __future__ import annotations

import asyncio
import os
import socket
import ssl
from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple, Protocol, cast

from relay.delivery import tls
from relay.delivery.backoff import Failure
from relay.delivery.client import Broken, Client, Source
from relay.delivery.handshake import Manners, Say, SetupFailed, StartTls, Steps, handshake
from relay.delivery.job import Features, Job
from relay.delivery.outcome import OUR_LOGIN, Stage, clean, text_of
from relay.delivery.peers import Peer
from relay.delivery.replies import BadReply, Reply, ReplyReader


class Timeouts(NamedTuple):
    """Seconds, after RFC 5321 section 4.5.3.2. `command` also covers EHLO, STARTTLS, AUTH and RSET; `tls` the handshake."""

    connect: float = 30.0
    greeting: float = 300.0
    tls: float = 60.0
    command: float = 300.0
    mail: float = 300.0
    rcpt: float = 300.0
    data: float = 120.0
    block: float = 180.0
    final: float = 600.0
    quit: float = 5.0

    def of(self, stage: Stage) -> float:
        """The time for the reply to a command."""
        return (self.mail, self.rcpt, self.data, self.final, self.command)[stage]


@dataclass(frozen=True, slots=True)
class Terms:
    """How connections behave. `hello` is our name in EHLO. `pipelining` False: lock-step whatever the peer offers."""

    hello: str
    timeouts: Timeouts = Timeouts()  # noqa: RUF009 - immutable
    idle_seconds: float = 30.0
    pipelining: bool = True


class Owner(Protocol):
    """Who keeps the connection: hands out jobs and is told when it rests or is gone."""

    def take(self, connection: Connection, ahead: bool) -> Job | None: ...

    def crashed(self, bug: Exception) -> None: ...

    def rests(self, connection: Connection) -> None:
        """Idle, and `take` had no job."""

    def gone(self, connection: Connection, failure: Failure | None) -> None:
        """Closed, once per connection; `failure` if the host is to blame. Every job has had its outcome."""


class Connection(asyncio.Protocol):
    """One SMTP connection. Made by `connect`; then `work`, `quit` and `abort` are what there is to do with it."""

    def __init__(self, peer: Peer, terms: Terms, owner: Owner) -> None:
        self.peer = peer
        self.client: Client | None = None
        self.tls = ""  # for instance TLSv1.3
        self.closed: asyncio.Future[None] = asyncio.get_running_loop().create_future()  # done when the socket is
        self._terms = terms
        self._owner = owner
        self._loop = asyncio.get_running_loop()
        self._transport: asyncio.Transport | None = None
        self._reader = ReplyReader()
        self._waiter: asyncio.Future[Reply] | None = self._loop.create_future()  # of the greeting
        self._setup_error = ""
        self._timer: asyncio.TimerHandle | None = None
        self._deadline = 0.0
        self._paused = self._quitting = self._ended = self._pumping = False

    # Set-up

    async def set_up(self, steps: Steps, trust: Callable[[], ssl.SSLContext]) -> Features:
        """Walk the handshake; the features that hold for mail. Raises SetupFailed; the caller aborts."""
        try:
            step = next(steps)
            while True:
                if isinstance(step, StartTls):
                    await self._start_tls(trust())
                    step = steps.send(None)
                else:
                    step = steps.send(await self._ask(step))
        except StopIteration as stop:
            features: Features = stop.value
        if not self._terms.pipelining:
            features = features._replace(pipelining=False)
        source = Source(lambda ahead: self._owner.take(self, ahead), self._owner.crashed)
        self.client = Client(features, self.peer.host, source)
        return features

    async def _ask(self, step: Say) -> Reply:
        if self._setup_error or self._transport is None:
            raise SetupFailed(step.stage, self._setup_error or "connection lost")
        if step.line:
            self._waiter = self._loop.create_future()
            self._transport.write(step.line)
        assert self._waiter is not None
        seconds = self._terms.timeouts.greeting if step.stage == "greeting" else self._terms.timeouts.command
        try:
            async with asyncio.timeout(seconds):
                return await self._waiter
        except TimeoutError:
            raise SetupFailed(step.stage, f"no reply within {seconds:g} s", "4.4.2") from None
        except Broken as broken:
            raise SetupFailed(step.stage, broken.why) from None
        finally:
            self._waiter = None

    async def _start_tls(self, trust: ssl.SSLContext) -> None:
        if self._setup_error or self._transport is None:
            raise SetupFailed("starttls", self._setup_error or "connection lost", "4.7.0")
        self._reader = ReplyReader()
        seconds = self._terms.timeouts.tls
        try:
            transport = await self._loop.start_tls(
                self._transport, self, trust, server_hostname=self.peer.host, ssl_handshake_timeout=seconds
            )
        except (OSError, TimeoutError) as error:
            raise SetupFailed("tls", tls.why(error), "4.7.5") from None
        if transport is None:
            raise SetupFailed("tls", "connection lost during the TLS handshake", "4.7.5")
        self._transport = transport
        self._note_tls()

    def _note_tls(self) -> None:
        assert self._transport is not None
        shield = self._transport.get_extra_info("ssl_object")
        self.tls = (shield.version() or "") if shield is not None else ""

    def _on_setup_data(self, data: bytes) -> None:
        """Exactly one whole reply to what was asked; whatever else came is somebody's injection or a broken peer."""
        waiter = self._waiter
        try:
            replies = self._reader.feed(data)
        except BadReply as bad:
            self._fail_setup(f"no SMTP reply: {bad}")
            return
        if waiter is None or waiter.done() or len(replies) > 1 or (replies and self._reader.is_partial):
            self._fail_setup("the host spoke out of turn")
        elif replies:
            waiter.set_result(replies[0])

    def _fail_setup(self, why: str) -> None:
        self._setup_error = self._setup_error or why
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_exception(Broken(why))
            self._waiter.exception()  # nobody may be waiting for it, and that is no fault

    # Mail

    def work(self) -> None:
        """Begin the next job if this connection is idle and the owner has one."""
        client = self.client
        if client is None or self._ended or self._quitting or not client.idle:
            return
        if client.kick():
            self._write(client)
            if client.idle:  # that job ended without a word to the peer; others get their turn before the next
                self._loop.call_soon(self.work)
        else:
            self._owner.rests(self)
        self._arm(client)

    def quit(self) -> None:
        """Say QUIT and close; only while idle. Then `gone` follows."""
        if self._ended or self._quitting or self._transport is None:
            return
        self._quitting = True
        if not self._transport.is_closing():
            self._transport.write(b"QUIT\r\n")
        self._set_timer(self._loop.time() + self._terms.timeouts.quit)

    async def finish(self) -> None:
        """`quit`, and wait until the socket is closed."""
        self.quit()
        await self.closed

    def abort(self, why: str) -> None:
        """Close at once. Open jobs are deferred, or in doubt; then `gone` follows, before this returns."""
        self._end(why, None, None)

    def data_received(self, data: bytes) -> None:
        client = self.client
        if client is None:
            self._on_setup_data(data)
            return
        if self._quitting:
            if self._transport is not None:
                self._transport.close()
            return
        try:
            answered = client.receive(data)
        except Broken as broken:
            self._end(broken.why, broken.reply, self._blame(broken.why, broken.reply))
            return
        self._write(client)
        if client.idle:
            self.work()
        elif answered:  # a reply that comes octet by octet gets no more time than one that does not come
            self._arm(client)

    def _write(self, client: Client) -> None:
        out = client.out
        if out and self._transport is not None:
            if self._transport.is_closing():  # `connection_lost` is on its way; uvloop raises on a write
                return
            self._transport.write(out[0] if len(out) == 1 else b"".join(out))
            out.clear()
        if client.streaming and not self._paused and not self._pumping:
            self._pumping = True
            self._loop.call_soon(self._pump)

    def _pump(self) -> None:
        """One piece of a large content per turn of the loop, as long as the socket takes it."""
        self._pumping = False
        client = self.client
        if client is None or self._ended or self._paused:
            return
        client.pump()
        self._write(client)
        self._arm(client)

    def pause_writing(self) -> None:
        self._paused = True

    def resume_writing(self) -> None:
        self._paused = False
        if self.client is not None and self.client.streaming:
            self._pump()

    # Timers

    def _arm(self, client: Client) -> None:
        if self._ended or self._quitting:
            return
        stage = client.awaits
        if stage is not None:
            seconds = self._terms.timeouts.of(stage)
        else:
            seconds = self._terms.timeouts.block if client.streaming else self._terms.idle_seconds
        self._deadline = deadline = self._loop.time() + seconds
        if self._timer is None or deadline < self._timer.when():
            self._set_timer(deadline)

    def _set_timer(self, when: float) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._deadline = when
        self._timer = self._loop.call_at(when, self._on_timer)

    def _on_timer(self) -> None:
        self._timer = None
        client = self.client
        if self._ended or client is None:
            return
        if self._loop.time() < self._deadline - 0.005:
            self._set_timer(self._deadline)
        elif self._quitting:
            self._end("no answer to QUIT", None, None)
        elif client.idle:
            self.quit()
        else:
            why = "the host stopped taking data" if client.streaming else "no reply in time"
            self._end(why, None, self._blame(why, None))

    # Endings

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        self._note_tls()

    def connection_lost(self, exc: Exception | None) -> None:
        why = "connection lost"
        self._fail_setup(why)
        self._end(why, None, None if self._quitting else self._blame(why, None))
        if not self.closed.done():
            self.closed.set_result(None)

    def _blame(self, why: str, reply: Reply | None) -> Failure | None:
        """A session that has carried mail may end when it likes; one that fails its first message tells of the host."""
        client = self.client
        if client is None or not client.carries:
            return None
        if reply is not None and reply.code in OUR_LOGIN:
            return Failure("auth", text_of(reply))
        return None if client.settled else Failure("session", text_of(reply) if reply is not None else clean(why))

    def _end(self, why: str, reply: Reply | None, failure: Failure | None) -> None:
        if self._ended:
            return
        self._ended = True
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._transport is not None:
            self._transport.abort()
        self._fail_setup(why)
        if self.client is not None:
            self.client.lost(why, reply)
            self._owner.gone(self, failure)


async def connect(peer: Peer, terms: Terms, owner: Owner, *, trust: Callable[[], ssl.SSLContext]) -> Connection:
    """A connection that is ready for mail; call `work` on it. Raises SetupFailed, and ValueError where `trust` does.

    Where TLS is merely opportunistic and its handshake fails, a second connection goes without (RFC 7435).
    """
    starttls = peer.starttls
    try:
        return await _connect(peer, terms, owner, trust=trust, starttls=starttls)
    except SetupFailed as failed:
        if failed.stage != "tls" or starttls != "offered":
            raise
    return await _connect(peer, terms, owner, trust=trust, starttls="no")


async def _connect(
    peer: Peer, terms: Terms, owner: Owner, *, trust: Callable[[], ssl.SSLContext], starttls: str
) -> Connection:
    connection = Connection(peer, terms, owner)
    manners = Manners(terms.hello, starttls, peer.user, peer.password, peer.may_auth_in_clear, peer.implicit_tls)
    try:
        await _dial(connection, terms.timeouts, trust)
        await connection.set_up(handshake(manners), trust)
    except BaseException:
        connection.abort("set-up failed")
        raise
    return connection


async def _dial(connection: Connection, timeouts: Timeouts, trust: Callable[[], ssl.SSLContext]) -> None:
    peer = connection.peer
    loop = asyncio.get_running_loop()
    shield = trust() if peer.implicit_tls else None
    name = peer.host if peer.implicit_tls else None
    try:
        async with asyncio.timeout(timeouts.connect + (timeouts.tls if shield else 0.0)):
            await loop.create_connection(lambda: connection, peer.host, peer.port, ssl=shield, server_hostname=name)
    except ssl.SSLError as error:
        raise SetupFailed("tls", tls.why(error), "4.7.5") from None
    except TimeoutError:
        raise SetupFailed("connect", f"no connection within {timeouts.connect:g} s", "4.4.1") from None
    except OSError as error:
        raise SetupFailed("connect", clean(f"cannot connect: {_words(error)}"), "4.4.1") from None


def _words(error: OSError) -> str:
    """The system's words; asyncio puts the address in their place, and resolver errors have numbers of their own."""
    if error.errno is None or error.errno <= 0 or isinstance(error, socket.gaierror):
        return error.strerror or str(error)
    return os.strerror(error.errno)
