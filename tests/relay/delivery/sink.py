"""A well-behaved next hop that keeps what it gets, holds its answers when told, and can be made to fail by a dice."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable

EHLO = b"250-sink.example\r\n250-PIPELINING\r\n250-8BITMIME\r\n250 SIZE 50000000\r\n"


class Sink:
    """Listens on loopback. `messages` are contents as received, `sessions` the transports that are open."""

    def __init__(self, *, ehlo: bytes = EHLO, mischief: Callable[[], str] = lambda: "") -> None:
        self.ehlo = ehlo
        self.mischief = mischief
        self.messages: list[bytes] = []
        self.sessions: set[asyncio.Transport] = set()
        self.accepted = 0
        self.most = 0
        self.release = asyncio.Event()  # clear it, and final dots wait for their answer
        self.release.set()
        self.held = asyncio.Event()  # a final dot waits
        self.port = 0
        self._server: asyncio.Server | None = None
        self.tasks: set[asyncio.Task[None]] = set()

    async def __aenter__(self) -> Sink:
        loop = asyncio.get_running_loop()
        self._server = await loop.create_server(lambda: _Session(self), "127.0.0.1", self.port)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, *_: object) -> None:
        assert self._server is not None
        self._server.close()
        for transport in list(self.sessions):
            transport.abort()
        for task in self.tasks:
            task.cancel()
        await asyncio.gather(*self.tasks, return_exceptions=True)
        await self._server.wait_closed()


class _Session(asyncio.Protocol):
    def __init__(self, sink: Sink) -> None:
        self.sink = sink
        self.buffer = b""
        self.in_data = False
        self.blocked = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert hasattr(transport, "write")
        self.transport = transport
        self.sink.sessions.add(transport)
        self.sink.accepted += 1
        self.sink.most = max(self.sink.most, len(self.sink.sessions))
        transport.write(b"220 sink.example\r\n")

    def connection_lost(self, exc: Exception | None) -> None:
        self.sink.sessions.discard(self.transport)

    def data_received(self, data: bytes) -> None:
        self.buffer += data
        self.work()

    def work(self) -> None:
        while not self.blocked and not self.transport.is_closing():
            end = b"\r\n.\r\n" if self.in_data else b"\r\n"
            if self.in_data and self.buffer.startswith(b".\r\n"):
                part, self.buffer = b"", self.buffer[3:]
            else:
                part, found, rest = self.buffer.partition(end)
                if not found:
                    return
                self.buffer = rest
            if self.in_data:
                self.in_data = False
                self.blocked = True
                task = asyncio.get_running_loop().create_task(self.answer(part))
                self.sink.tasks.add(task)
                task.add_done_callback(self.sink.tasks.discard)
            else:
                self.command(part)

    async def answer(self, content: bytes) -> None:
        self.sink.held.set()
        await self.sink.release.wait()
        self.blocked = False
        if not self.transport.is_closing():
            if self.reply(b"250 2.0.0 queued\r\n"):
                self.sink.messages.append(content)
            self.work()

    def command(self, line: bytes) -> None:
        verb = line[:4].upper()
        if verb == b"EHLO":
            self.transport.write(self.sink.ehlo)
        elif verb == b"QUIT":
            self.transport.write(b"221 bye\r\n")
            self.transport.close()
        elif verb == b"DATA":
            self.in_data = self.reply(b"354 go\r\n")
        else:
            self.reply(b"250 ok\r\n")

    def reply(self, line: bytes) -> bool:
        """Write `line`, or do some mischief instead. False: the good answer was not given."""
        kind = self.sink.mischief()
        if not kind:
            self.transport.write(line)
            return True
        match kind:
            case "close":
                self.transport.close()
            case "abort":
                self.transport.abort()
            case "half":
                self.transport.write(line[:2])
                self.transport.close()
            case "garbage":
                self.transport.write(b"\x00\xff what\r\n")
            case "extra":
                self.transport.write(line + line)
                return True
            case _:
                self.transport.write(kind.encode() + b" mischief\r\n")
                return line.startswith(kind.encode())
        return False


def dice(seed: int, chance: float) -> Callable[[], str]:
    """Mischief with probability `chance` per reply, the same for the same seed."""
    random_ = random.Random(seed)
    kinds = ["close", "abort", "half", "garbage", "extra", "421", "451", "550", "503", "354", "250", "530"]
    return lambda: random_.choice(kinds) if random_.random() < chance else ""
