"""Receiving the message itself: DATA and BDAT, under the caps on size, memory and time.

One scan over the buffer finds the end (data.py); memory holds at most the buffer and the message that is cut from it.
"""

from __future__ import annotations

import asyncio

from relay.mail.envelope import Account
from relay.smtp import data
from relay.smtp.connection import TIMED_OUT, Connection, Lost
from relay.smtp.front import Front, InFlight, Transaction

_DISCARD_FACTOR = 4
NO_TRANSACTION = "503 5.5.1 Say MAIL and RCPT first"
BUSY = "452 4.3.1 The gateway is busy with other messages; try again later"
NO_RECIPIENTS = "554 5.5.1 No valid recipients"


class Receiving(Connection):
    """A connection with a message coming in."""

    def __init__(self, loop: asyncio.AbstractEventLoop, front: Front, in_flight: InFlight) -> None:
        super().__init__(loop, front.limits.command_timeout_seconds, front.limits.data_min_bytes_per_minute)
        self.front = front
        self.in_flight = in_flight
        self.transaction: Transaction | None = None
        self._chunks: bytearray | None = None
        self._held = 0
        self._holder = ""  # whose octets they are
        self._began = 0.0  # when the first chunk of the message was announced, in the loop's time
        self._quit = False

    def _reset(self) -> None:
        ended, self.transaction = self.transaction, None
        self._chunks = None
        self._give_back()
        if ended is not None and ended.refused and not ended.recipients:
            self.front.unsent(ended)

    def _give_back(self) -> None:
        if self._held:
            self.in_flight.give(self._held, self._holder)
            self._held = 0

    async def _receive(self, transaction: Transaction) -> str:
        if self.buffer:  # sent before the 354 was (SMTP-7)
            self._quit = True
            return "503 5.5.1 Wait for 354 before the message"
        self.reply("354 End data with <CR><LF>.<CR><LF>")
        self.flush()
        raw = await self._read_data(transaction)
        if isinstance(raw, str):
            self._reset()
            return raw
        return await self._submit(transaction, raw)

    async def _submit(self, transaction: Transaction, raw: bytes) -> str:
        self.expect_nothing()
        try:
            wrong = data.fault(raw)
            if wrong == data.BARE_LINE_END:
                return self.bare_line_end(transaction.account)
            if wrong:
                return self.front.say(wrong, transaction.account)
            return await self.front.message(transaction, raw)
        finally:
            self._reset()

    def bare_line_end(self, account: Account | None) -> str:
        """The refusal of a CR or LF that stands alone; the session ends, since what follows cannot be trusted (SMTP-5)."""
        self._quit = True
        self.front.count("protocol_error_550")
        return self.front.say(data.BARE_LINE_END, account)

    def _too_big(self, transaction: Transaction) -> str:
        return self.front.say("session.too_big", transaction.account, limit=str(self.front.limits.max_message_bytes))

    async def _read_data(self, transaction: Transaction) -> bytes | str:
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
                await self._discard_data(transaction)
                return self._too_big(transaction)
            if not self._hold(scanned, transaction):
                await self._discard_data(transaction)
                return BUSY
            await self.more()
        if end + 2 > self.front.limits.max_message_bytes:
            del buffer[: end + 5]
            return self._too_big(transaction)
        if not self._hold(end + 2, transaction):
            del buffer[: end + 5]
            return BUSY
        with memoryview(buffer) as view:
            raw = bytes(view[: end + 2])
        del buffer[: end + 5]
        return data.unstuff(raw)

    def _hold(self, total: int, transaction: Transaction) -> bool:
        """Count the octets of this message that are here, `total` of them by now; False where there is no room."""
        octets = total - self._held
        if octets <= 0:
            return True
        self._holder = transaction.account.tenant.name
        if not self.in_flight.take(octets, self._holder):
            return False
        self._held = total
        return True

    async def _discard_data(self, transaction: Transaction) -> None:
        """Read on to the end mark without keeping anything; a client that never ends is sent away (SMTP-8)."""
        gone = 0
        self._give_back()
        while (end := self.buffer.find(data.END)) < 0:
            gone += max(0, len(self.buffer) - 4)
            del self.buffer[:-4]
            if gone > _DISCARD_FACTOR * self.front.limits.max_message_bytes:
                self.send_away(self._too_big(transaction))
                raise Lost
            await self.more()
        del self.buffer[: end + 5]

    async def _chunk(self, length: int, *, last: bool) -> str:
        self.flush()
        if self._chunks is None:
            self._began = self.loop.time()
        # One time for all chunks of a message, or single octets would hold its room for ever (SMTP-11).
        left = self._began + self.front.limits.data_timeout_seconds - self.loop.time()
        if left <= 0:
            self.send_away(TIMED_OUT)
            raise Lost
        self.expect_data(left)
        transaction, before = self.transaction, len(self._chunks or b"")
        refusal = None
        if transaction is None or not transaction.recipients:
            refusal = NO_RECIPIENTS if transaction is not None and transaction.is_asked else NO_TRANSACTION
        elif before + length > self.front.limits.max_message_bytes:
            refusal = self._too_big(transaction)
        if refusal is not None or transaction is None:
            return await self._refuse_chunk(length, refusal or NO_TRANSACTION)
        while len(self.buffer) < length:
            if not self._hold(before + len(self.buffer), transaction):
                return await self._refuse_chunk(length, BUSY)
            await self.more()
        if not self._hold(before + length, transaction):
            return await self._refuse_chunk(length, BUSY)
        chunks, raw = self._chunks, b""
        with memoryview(self.buffer) as view:
            if last and not chunks:
                raw = bytes(view[:length])
            else:  # one piece of memory for all: a list of single octets would take forty times what is counted
                chunks = bytearray() if chunks is None else chunks
                chunks += view[:length]
        del self.buffer[:length]
        if not last:
            self._chunks = chunks
            return f"250 2.0.0 {length} octets received"
        self._chunks = None
        return await self._submit(transaction, raw or bytes(chunks or b""))

    async def _refuse_chunk(self, length: int, refusal: str) -> str:
        self._give_back()
        await self._eat(length)
        self._reset()
        return refusal

    async def _eat(self, length: int) -> None:
        """Announced octets are consumed even when they are refused (SMTP-12), up to the cap of SMTP-8."""
        if length > _DISCARD_FACTOR * self.front.limits.max_message_bytes:
            self._quit = True
            return
        while length > 0:
            if not self.buffer:
                await self.more()
            taken = min(length, len(self.buffer))
            del self.buffer[:taken]
            length -= taken
