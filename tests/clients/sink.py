"""A next hop on loopback, in a thread of its own: it keeps what it is given, to the last octet."""

from __future__ import annotations

import asyncio
import re
import threading
import time
from collections.abc import Callable
from typing import NamedTuple

EVERYTHING = ("PIPELINING", "8BITMIME", "SMTPUTF8", "SIZE 0", "DSN", "ENHANCEDSTATUSCODES")
SEVEN_BIT = ("PIPELINING", "SIZE 0", "ENHANCEDSTATUSCODES")
_PATH = re.compile(r"<([^>]*)>(.*)")


class Received(NamedTuple):
    """One transaction: `sender` and `options` of MAIL, the recipients, the content with its dots unstuffed."""

    sender: str
    options: str
    recipients: tuple[str, ...]
    content: bytes


class Sink:
    """Listens on 127.0.0.1:`port` while it is open. `extensions` are the lines of its EHLO reply."""

    def __init__(self, extensions: tuple[str, ...] = EVERYTHING) -> None:
        self.extensions = extensions
        self.port = 0
        self._received: list[Received] = []
        self._more = threading.Condition()
        self._loop = asyncio.new_event_loop()
        self._ready = threading.Event()
        self._closing: asyncio.Event | None = None
        self._thread = threading.Thread(target=self._loop.run_until_complete, args=(self._serve(),), daemon=True)

    def __enter__(self) -> Sink:
        self._thread.start()
        assert self._ready.wait(10)
        return self

    def __exit__(self, *_: object) -> None:
        assert self._closing is not None
        self._loop.call_soon_threadsafe(self._closing.set)
        self._thread.join(10)
        self._loop.close()

    def wait(self, wanted: Callable[[Received], bool], count: int = 1, seconds: float = 30.0) -> list[Received]:
        """At least `count` transactions that are `wanted`, or an AssertionError that says what came instead."""
        until = time.monotonic() + seconds
        with self._more:
            while len(found := [one for one in self._received if wanted(one)]) < count:
                if not self._more.wait(until - time.monotonic()) and time.monotonic() > until:
                    came = [(one.sender, one.recipients) for one in self._received[-10:]]
                    raise AssertionError(f"{len(found)} of {count} came within {seconds} s; the last ones were {came}")
        return found

    def for_recipient(self, address: str) -> Received:
        """The one transaction for `address`."""
        found = self.wait(lambda one: address in one.recipients)
        assert len(found) == 1, f"{len(found)} copies for {address}"
        return found[0]

    def all(self) -> list[Received]:
        """What came so far."""
        with self._more:
            return list(self._received)

    async def _serve(self) -> None:
        self._closing = asyncio.Event()
        server = await asyncio.start_server(self._session, "127.0.0.1", 0, limit=1 << 26)
        self.port = server.sockets[0].getsockname()[1]
        self._ready.set()
        await self._closing.wait()
        server.close()
        sessions = [task for task in asyncio.all_tasks() if task is not asyncio.current_task()]
        for task in sessions:
            task.cancel()
        await asyncio.gather(*sessions, return_exceptions=True)

    async def _session(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await self._converse(reader, writer)
        except (asyncio.CancelledError, asyncio.IncompleteReadError, ConnectionError):
            pass  # the gateway went, or the test is over
        finally:
            writer.close()

    async def _converse(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        sender, options, recipients = "", "", []
        writer.write(b"220 sink.example ESMTP\r\n")
        while True:
            line = (await reader.readuntil(b"\r\n"))[:-2].decode()
            verb = line[:4].upper()
            path = _PATH.search(line)
            if verb == "EHLO":
                lines = ["sink.example", *self.extensions]
                text = "".join(f"250-{line}\r\n" for line in lines[:-1]) + f"250 {lines[-1]}\r\n"
                writer.write(text.encode())
            elif verb == "MAIL" and path:
                sender, options, recipients = path[1], path[2].strip(), []
                writer.write(b"250 2.1.0 OK\r\n")
            elif verb == "RCPT" and path:
                recipients.append(path[1])
                writer.write(b"250 2.1.5 OK\r\n")
            elif verb == "DATA":
                writer.write(b"354 go on\r\n")
                content = await _content(reader)
                self._keep(Received(sender, options, tuple(recipients), content))
                writer.write(b"250 2.0.0 OK\r\n")
            elif verb == "QUIT":
                writer.write(b"221 2.0.0 bye\r\n")
                await writer.drain()
                return
            else:
                writer.write(b"250 2.0.0 OK\r\n" if verb in ("RSET", "NOOP", "HELO") else b"500 5.5.1 what\r\n")
            await writer.drain()

    def _keep(self, one: Received) -> None:
        with self._more:
            self._received.append(one)
            self._more.notify_all()


async def _content(reader: asyncio.StreamReader) -> bytes:
    """Everything up to the final dot, which is on a line of its own from the first line on."""
    lines: list[bytes] = []
    while (line := await reader.readuntil(b"\r\n")) != b".\r\n":
        lines.append(line[1:] if line.startswith(b".") else line)
    return b"".join(lines)
