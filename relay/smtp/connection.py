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
from typing import Any, cast

from aiosmtpd.smtp import SMTP

MAX_LINE = 12_288  # RFC 4954 section 4: an AUTH response; other commands have smaller limits of their own
HIGH_WATER = 512 * 1024
OUT_WATER = 64 * 1024


class Lost(Exception):
    """The client is gone, or was sent away: the session ends without a reply."""


class Connection(SMTP):
    """Octets and time; the verbs are in relay.smtp.session."""

    def __init__(self, loop: asyncio.AbstractEventLoop, command_timeout: float, data_min_bytes: int) -> None:
        FlowControlMixin.__init__(self, loop)
        self.loop = loop
        self.transport: asyncio.Transport | None = None
        self.buffer = bytearray()
        self.peer_address = ""
        self._replies: list[bytes] = []
        self._waiter: asyncio.Future[None] | None = None
        self._eof = False
        self._paused = False
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
        self.buffer += data
        self._received += len(data)
        if len(self.buffer) > HIGH_WATER and not self._in_data and not self._paused and self.transport:
            self._paused = True
            self.transport.pause_reading()
        if self._idle:
            self.pump()
        else:
            self._wake()

    def eof_received(self) -> bool:
        self._eof = True
        self._wake()
        return self.transport is not None and self.transport.get_extra_info("sslcontext") is None

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
            self.send_away("421 4.4.2 Timed out waiting for the client")
            return
        self._timer = self.loop.call_later(min(self._tick, max(0.1, self._deadline - now)), self._look)

    def send_away(self, reply: str) -> None:
        """Say `reply` and close, whatever the session is doing."""
        if self.transport is not None and not self.transport.is_closing():
            self._replies.append(reply.encode() + b"\r\n")
            self.flush()
            self.transport.close()
        self._eof = True
        self.buffer.clear()
        self._wake()

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
        if self._paused and self.transport is not None:
            self._paused = False
            self.transport.resume_reading()
        self._waiter = self.loop.create_future()
        before = self._received
        try:
            await self._waiter
        finally:
            self._waiter = None
        self._check_open(self._received - before)

    def _check_open(self, octets: int) -> None:
        if self._eof and not octets:
            raise Lost

    async def next_line(self) -> bytes:
        """A line that the session waits for, for instance an AUTH response."""
        while (line := self.line()) is None:
            if len(self.buffer) > MAX_LINE:
                raise Lost
            self.flush()
            await self.more()
        return line

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
        return self.transport is not None and self.transport.get_write_buffer_size() > OUT_WATER

    async def drained(self) -> None:
        """Wait when the client does not read its replies."""
        if self.is_clogged:
            await self._drain_helper()  # type: ignore[attr-defined]  # FlowControlMixin's, not in the stubs

    async def upgrade(self, context: ssl.SSLContext) -> None:
        """TLS from here on. Everything received in clear is thrown away (SMTP-3). Raises Lost when the handshake fails."""
        assert self.transport is not None
        self.flush()
        self.buffer.clear()
        self._received = 0
        try:
            transport = await self.loop.start_tls(
                self.transport, self, context, server_side=True, ssl_handshake_timeout=30.0
            )
        except (OSError, ssl.SSLError, EOFError, asyncio.CancelledError) as error:
            raise Lost from error
        if transport is None:
            raise Lost
        self.transport = transport

    @property
    def tls_version(self) -> tuple[str, str]:
        """`(version, cipher)`, or two empty strings without TLS."""
        sslobject: Any = self.transport.get_extra_info("ssl_object") if self.transport else None
        if sslobject is None:
            return "", ""
        cipher = sslobject.cipher()
        return sslobject.version() or "", cipher[0] if cipher else ""
