"""The connection under a session: octets in, replies out, time limits. Subclasses aiosmtpd's SMTP class.

What aiosmtpd does line by line, with a timer and a drain for each, is done here over one buffer: complete lines are
handled as they lie there, replies are written together when no complete line is left (PIPELINING), one timer looks at
the session now and then. aiosmtpd's own __init__ inspects its methods for every connection (0.4 ms, measured), so it
is passed by; see docs/decisions/002-aiosmtpd.md.
"""

from __future__ import annotations

import asyncio
import ssl
from asyncio.streams import FlowControlMixin
from collections.abc import Awaitable
from typing import Any, cast

from aiosmtpd.smtp import SMTP

from relay.smtp.line_ends import LineEnds

MAX_LINE = 12_288  # RFC 4954 section 4: an AUTH response; other commands have smaller limits of their own
HIGH_WATER = 512 * 1024
# That a client gets to read the last reply: closing over unread octets resets, and loses it (RFC 1122 section 4.2.2.13).
LINGER_SECONDS = 2.0
HANDSHAKE_SECONDS = 10.0  # also for a PROXY header: machines send both at once
TIMED_OUT = "421 4.4.2 Timed out waiting for the client"


class Lost(Exception):
    """The client is gone, or was sent away: the session ends without a reply."""


class Connection(SMTP):
    """Octets and time; the verbs are in relay.smtp.session."""

    _paused: bool  # FlowControlMixin's: the transport holds more than its high-water mark

    def __init__(self, loop: asyncio.AbstractEventLoop, command_timeout: float, data_min_bytes: int) -> None:
        FlowControlMixin.__init__(self, loop)
        self.loop = loop
        self.transport: asyncio.Transport | None = None
        self.buffer = bytearray()
        self.peer_address = ""
        self.line_ends: LineEnds | None = None  # for the few whose line ends are mended
        self._replies: list[bytes] = []
        self._waiter: asyncio.Future[None] | None = None
        self._eof = False
        self._reading_paused = False  # aiosmtpd's parent class has a `_paused` of its own, for writing
        self._parting = False
        self._is_mute = False  # before and in a handshake there is nothing that a client could read
        self._task: asyncio.Task[None] | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._deadline = 0.0
        self._in_data = False
        self._idle = False
        self._received = 0
        self._data_mark = (0.0, 0)
        self.command_timeout = command_timeout
        self.data_min_bytes = data_min_bytes
        self._tick = min(60.0, command_timeout)

    def __del__(self) -> None:
        """Nothing to do: the parent's future `_closed` is not used."""

    # -- asyncio.Protocol -----------------------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)  # uvloop's own class is no subclass
        peer = transport.get_extra_info("peername")
        self.peer_address = str(peer[0]) if isinstance(peer, tuple) else ""
        self.begin()

    def begin(self) -> None:
        """Start the session's task."""
        self._task = self.loop.create_task(self._handle_client())
        self.expect_command()
        self._timer = self.loop.call_later(self._tick, self._look)

    def data_received(self, data: bytes) -> None:
        if self._parting:
            return
        if self.line_ends is not None:
            data = self.line_ends.mend(data)
        self.buffer += data
        self._received += len(data)
        if len(self.buffer) > HIGH_WATER and not self._in_data:
            self.hold_reading()
        if self._idle:
            self.pump()
        else:
            self._wake()

    def mend_line_ends(self) -> None:
        """From here on every line of this client ends in CRLF, what lies in the buffer included."""
        self.line_ends = LineEnds()
        self.buffer[:] = self.line_ends.mend(bytes(self.buffer))

    def eof_received(self) -> bool:
        self._eof = True
        self._wake()
        return not self._parting and self.transport is not None and self.transport.get_extra_info("sslcontext") is None

    def connection_lost(self, error: Exception | None) -> None:
        # The task is not cancelled: a commit in progress must end, or a message would be lost or sent twice (SMTP-4, OUT-1).
        FlowControlMixin.connection_lost(self, error)
        self.transport = None
        self._eof = True
        if self._timer:
            self._timer.cancel()
        self._wake()
        self.ended()

    def ended(self) -> None:
        """The connection is gone."""

    def pump(self) -> None:
        """Octets came while the session waits for a command; wake it, or answer here what needs no waiting."""
        self._wake()

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    # -- time -----------------------------------------------------------------------------------------------------

    def expect_command(self) -> None:
        """Wait for a command from now on: `command_timeout` seconds (SMTP-11)."""
        self._deadline = self.loop.time() + self.command_timeout
        self._in_data = False

    def expect_soon(self) -> None:
        """Wait for what a client sends without being asked, its PROXY header: `HANDSHAKE_SECONDS` at most."""
        seconds = min(HANDSHAKE_SECONDS, self.command_timeout)
        self._deadline = self.loop.time() + seconds
        if self._timer is not None:
            self._timer.cancel()
            self._timer = self.loop.call_later(seconds, self._look)

    def expect_data(self, total_seconds: float) -> None:
        """Wait for message octets from now on: so much in all, and a least speed (SMTP-11)."""
        now = self.loop.time()
        self._deadline = now + total_seconds
        self._data_mark = (now, self._received)
        self._in_data = True

    def expect_nothing(self) -> None:
        """The gateway is at work: no time limit for the client."""
        self._deadline = float("inf")
        self._in_data = False

    def _look(self) -> None:
        now = self.loop.time()
        late = now >= self._deadline
        if self._in_data:
            since, octets = self._data_mark
            if now - since >= self._tick:
                late = late or self._received - octets < self.data_min_bytes
                self._data_mark = (now, self._received)
        if late:
            self.send_away(TIMED_OUT)
            return
        self._timer = self.loop.call_later(min(self._tick, max(0.1, self._deadline - now)), self._look)

    def send_away(self, reply: str) -> None:
        """Say `reply` and close, whatever the session is doing."""
        if self.transport is not None and not self._parting and not self.transport.is_closing():
            if self._is_mute:
                self.transport.abort()
            else:
                self._replies.append(reply.encode() + b"\r\n")
                self.part()
        self._eof = True
        self.buffer.clear()
        self._wake()

    def part(self, *, linger: bool = True) -> None:
        """Close after the last reply; who does not read it is cut off. `linger`: octets still come and are thrown away."""
        transport = self.transport
        if transport is None or self._parting:
            return
        self.flush()
        self._parting = True
        if self._timer:
            self._timer.cancel()
        if linger and not self._eof and not transport.is_closing() and transport.can_write_eof():
            transport.write_eof()
            self._resume()
        else:
            transport.close()
        self._timer = self.loop.call_later(LINGER_SECONDS, transport.abort)

    # -- in -------------------------------------------------------------------------------------------------------

    def line(self) -> bytes | None:
        """The next complete line without its end, or None. A line that ends in a bare LF keeps that LF."""
        end = self.buffer.find(b"\n")
        if end < 0:
            return None
        line = bytes(self.buffer[: end + 1])
        del self.buffer[: end + 1]
        return line[:-2] if line.endswith(b"\r\n") else line

    async def more(self) -> None:
        """Wait for octets. Raises Lost when none will come."""
        self._check_open(0)
        self._resume()
        self._waiter = self.loop.create_future()
        before = self._received
        try:
            await self._waiter
        finally:
            self._waiter = None
        self._check_open(self._received - before)

    def hold_reading(self) -> None:
        """Take no octets until somebody waits for them."""
        if self.transport is not None and not self._reading_paused:
            self._reading_paused = True
            self.transport.pause_reading()

    def _resume(self) -> None:
        if self._reading_paused and self.transport is not None:
            self._reading_paused = False
            self.transport.resume_reading()

    def _check_open(self, octets: int) -> None:
        if self._eof and not octets:
            raise Lost

    async def next_line(self) -> bytes | None:
        """A line that the session waits for, for instance an AUTH response; None for one that is too long."""
        self.expect_command()
        while (line := self.line()) is None:
            if len(self.buffer) > MAX_LINE:
                await self.skip_line()
                return None
            self.flush()
            await self.more()
        return line if len(line) <= MAX_LINE else None

    async def skip_line(self) -> None:
        """Throw away what came, up to the next line end."""
        while self.line() is None:
            self.buffer.clear()
            await self.more()

    # -- out ------------------------------------------------------------------------------------------------------

    def reply(self, text: str) -> None:
        """Queue one reply; `flush` writes."""
        self._replies.append(text.encode() + b"\r\n")

    def flush(self) -> None:
        """Write what was replied so far."""
        if self._replies and self.transport is not None:
            self.transport.write(self._replies[0] if len(self._replies) == 1 else b"".join(self._replies))
        self._replies.clear()

    @property
    def is_clogged(self) -> bool:
        """The client does not read its replies."""
        return self._paused

    async def drained(self) -> None:
        """Wait when the client does not read its replies."""
        if self.is_clogged:
            self.expect_command()
            try:
                await self._drain_helper()  # type: ignore[attr-defined]  # FlowControlMixin's, not in the stubs
            except ConnectionError as error:
                raise Lost from error

    async def upgrade(self, context: ssl.SSLContext) -> None:
        """TLS from here on. What lies in the buffer is the start of the handshake. Raises Lost when that fails."""
        transport = self.transport
        if transport is None or transport.is_closing() or self._eof:
            raise Lost
        self.flush()
        self._resume()
        self.expect_nothing()
        self._is_mute = True
        early = bytes(self.buffer)
        self.buffer.clear()
        handshake: Awaitable[asyncio.Transport | None] = self.loop.start_tls(
            transport, self, context, server_side=True, ssl_handshake_timeout=HANDSHAKE_SECONDS
        )
        try:
            if early:
                handshake = asyncio.ensure_future(handshake)
                await self._hand_on(early, transport)
            secured = await handshake
        except (OSError, ssl.SSLError, EOFError) as error:
            self._break_off(transport, error)
            raise Lost from error
        if secured is None or self._eof:
            self._break_off(transport, None)
            raise Lost
        self._is_mute = False
        self.transport = secured

    def _break_off(self, transport: asyncio.Transport, error: Exception | None) -> None:
        """The end of a handshake that failed. The TLS layer tells nobody of a connection that is lost in it."""
        transport.abort()
        self.connection_lost(error)

    async def _hand_on(self, early: bytes, transport: asyncio.Transport) -> None:
        """Give octets that were read too early to the TLS layer, before anything else can reach it."""
        for _ in range(2):  # two turns of the loop: start_tls has run, and the layer has been told of its connection
            await asyncio.sleep(0)
        layer: Any = transport.get_protocol()  # asyncio's or uvloop's SSLProtocol, both an asyncio.BufferedProtocol
        while early and layer is not self:
            room = layer.get_buffer(len(early))
            taken = min(len(room), len(early))
            memoryview(room)[:taken] = early[:taken]
            layer.buffer_updated(taken)
            early = early[taken:]

    @property
    def tls_version(self) -> tuple[str, str]:
        """`(version, cipher)`, or two empty strings without TLS."""
        sslobject: Any = self.transport.get_extra_info("ssl_object") if self.transport else None
        if sslobject is None:
            return "", ""
        cipher = sslobject.cipher()
        return sslobject.version() or "", cipher[0] if cipher else ""
