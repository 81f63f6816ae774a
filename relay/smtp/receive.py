"""Receiving the message itself: DATA and BDAT, under the caps on size, memory and time.

One scan over the buffer finds the end (data.py); memory holds at most the buffer and the message that is cut from it.
"""

from __future__ import annotations

import asyncio

from relay.mail.lines import has_bare_line_end
from relay.smtp import data
from relay.smtp.connection import Connection, Lost
from relay.smtp.front import Front, InFlight, Transaction

BARE = "550 5.5.2 Lines end in CR LF; a bare CR or LF is refused"
_DISCARD_FACTOR = 4


class Receiving(Connection):
    """A connection with a message coming in."""

    def __init__(self, loop: asyncio.AbstractEventLoop, front: Front, in_flight: InFlight) -> None:
        super().__init__(loop, front.limits.command_timeout_seconds, front.limits.data_min_bytes_per_minute)
        self.front = front
        self.in_flight = in_flight
        self.transaction: Transaction | None = None
        self._chunks: list[bytes] | None = None
        self._held = 0

    def _reset(self) -> None:
        self.transaction = None
        self._chunks = None
        self._give_back()

    def _give_back(self) -> None:
        self.in_flight.give(self._held)
        self._held = 0

    async def _receive(self, transaction: Transaction) -> str:
        self.reply("354 End data with <CR><LF>.<CR><LF>")
        self.flush()
        raw = await self._read_data()
        return raw if isinstance(raw, str) else await self._submit(transaction, raw)

    async def _submit(self, transaction: Transaction, raw: bytes) -> str:
        self.expect_nothing()
        try:
            if has_bare_line_end(raw):
                return BARE
            return await self.front.message(transaction, raw)
        finally:
            self._reset()

    async def _read_data(self) -> bytes | str:
        """The message without its end mark and its stuffed dots, or the reply that refuses it."""
        self.expect_data(self.front.limits.data_timeout_seconds)
        buffer, scanned = self.buffer, 0
        while True:
            if scanned < 3 and buffer[:3] == b".\r\n":
                del buffer[:3]
                return b""
            end = data.find_end(buffer, scanned)
            if end >= 0:
                break
            scanned = len(buffer)
            if scanned > self.front.limits.max_message_bytes + 2:
                await self._discard_data()
                return f"552 5.3.4 Message too big: at most {self.front.limits.max_message_bytes} octets"
            if not self._hold(scanned - self._held):
                await self._discard_data()
                return "452 4.3.1 The gateway is busy with other messages; try again later"
            await self.more()
        if end + 2 > self.front.limits.max_message_bytes:
            del buffer[: end + 5]
            return f"552 5.3.4 Message too big: at most {self.front.limits.max_message_bytes} octets"
        if not self._hold(end + 2 - self._held):
            del buffer[: end + 5]
            return "452 4.3.1 The gateway is busy with other messages; try again later"
        with memoryview(buffer) as view:
            raw = bytes(view[: end + 2])
        del buffer[: end + 5]
        return data.unstuff(raw)

    def _hold(self, octets: int) -> bool:
        if octets <= 0:
            return True
        if not self.in_flight.take(octets):
            return False
        self._held += octets
        return True

    async def _discard_data(self) -> None:
        """Read on to the end mark without keeping anything; a client that never ends is sent away (SMTP-8)."""
        gone = 0
        while (end := self.buffer.find(data.END)) < 0:
            gone += max(0, len(self.buffer) - 4)
            del self.buffer[:-4]
            if gone > _DISCARD_FACTOR * self.front.limits.max_message_bytes:
                self.send_away("552 5.3.4 Message too big")
                raise Lost
            await self.more()
        del self.buffer[: end + 5]

    async def _chunk(self, length: int, *, last: bool) -> str:
        self.flush()
        self.expect_data(self.front.limits.data_timeout_seconds)
        transaction = self.transaction
        refusal = None
        if transaction is None or not transaction.recipients:
            refusal = "503 5.5.1 Say MAIL first" if transaction is None else "554 5.5.1 No valid recipients"
        elif self._chunk_size() + length > self.front.limits.max_message_bytes:
            refusal = f"552 5.3.4 Message too big: at most {self.front.limits.max_message_bytes} octets"
        elif not self._hold(length):
            refusal = "452 4.3.1 The gateway is busy with other messages; try again later"
        if refusal is not None or transaction is None:
            await self._eat(length)
            self._reset()
            return refusal or "503 5.5.1 Say MAIL first"
        while len(self.buffer) < length:
            await self.more()
        with memoryview(self.buffer) as view:
            chunk = bytes(view[:length])
        del self.buffer[:length]
        if self._chunks is None:
            self._chunks = []
        self._chunks.append(chunk)
        if not last:
            return f"250 2.0.0 {length} octets received"
        raw, self._chunks = b"".join(self._chunks), None
        return await self._submit(transaction, raw)

    def _chunk_size(self) -> int:
        return sum(map(len, self._chunks)) if self._chunks else 0

    async def _eat(self, length: int) -> None:
        """Announced octets are consumed even when they are refused (SMTP-12)."""
        while length > 0:
            if not self.buffer:
                await self.more()
            taken = min(length, len(self.buffer))
            del self.buffer[:taken]
            length -= taken
