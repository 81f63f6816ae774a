"""Many senders and the next hop as a process of its own: it hands in mail as fast as it is answered, and writes down all it sees.

    python -m tests.harness.senders

Says the next hop's port first. Then each line on standard input is a command, answered with one line of JSON:

    {"begin": [...], "pause_seconds": 0.2}    the connections, and how long each rests after an attempt
    "count"                                   what has come of it so far
    "stop"                                    begin no more attempts, and finish those under way
    {"tell": FILE}                            write down all attempts and arrivals

The end of the input ends it. An attempt is one message with its number in the subject. Each connection logs in once, from an
address of its own or one that it shares, and stays; where it ends before it should, that is odd.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import sys
import time
from collections import Counter
from pathlib import Path
from typing import Any, NamedTuple, TypedDict

import uvloop

from tests.harness.client import plain

EHLO = b"250-sink.test\r\n250-PIPELINING\r\n250-8BITMIME\r\n250-DSN\r\n250 ENHANCEDSTATUSCODES\r\n"
CLOSED = (ConnectionError, asyncio.IncompleteReadError, OSError)


class Line(TypedDict):
    """One connection. `address`: its client's. Attempts have 1 to `most` recipients in turn, `of` so many `people`; * is who."""

    port: int
    address: str
    login: str
    username: str
    password: str
    sender: str
    people: str
    of: int
    most: int


class Attempt(NamedTuple):
    """`sent` is before its first octet, `replied` after the last reply, which is `code` and the id in the queue."""

    number: int
    login: str
    address: str
    recipients: int
    sent: float
    replied: float
    code: str
    queue_id: str


class Arrival(NamedTuple):
    number: int
    at: float
    recipients: list[str]


class Senders:
    def __init__(self) -> None:
        self.attempts: list[Attempt] = []
        self.arrivals: list[Arrival] = []
        self.odd: list[str] = []  # replies that end no attempt in a regular way
        self._number = 0
        self._turns: dict[str, int] = {}
        self._done: Counter[str] = Counter()  # attempts of each login
        self._tasks: list[asyncio.Task[None]] = []
        self._pause_seconds = 0.0
        self._is_over = False

    # -- handing in -----------------------------------------------------------------------------------------------

    async def answer(self, command: Any) -> Any:
        if command == "stop":
            self._is_over = True
            await asyncio.gather(*self._tasks)
        elif command != "count":
            self._pause_seconds = command.get("pause_seconds", 0.0)
            for line in command.get("begin", ()):
                self._done[line["login"]] += 0
                self._tasks.append(asyncio.create_task(self._stay(line)))
            if "tell" in command:
                told = {"attempts": self.attempts, "arrivals": self.arrivals, "odd": self.odd}
                Path(command["tell"]).write_text(json.dumps(told))
        least = min(self._done.values(), default=0)
        return {"attempts": len(self.attempts), "least": least, "arrivals": len(self.arrivals), "odd": self.odd[:5]}

    async def _stay(self, line: Line) -> None:
        try:
            reader, writer = await asyncio.open_connection("127.0.0.1", line["port"])
            with contextlib.closing(writer):
                await self._log_in(line, reader, writer)
                while not self._is_over:
                    await self._attempt(line, reader, writer)
                    await asyncio.sleep(self._pause_seconds)
        except CLOSED as error:
            self.odd.append(f"{line['login']}: {error!r}")

    async def _log_in(self, line: Line, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        address = line["address"]
        writer.write(f"PROXY TCP4 {address} {address} 40000 25\r\n".encode())
        await _reply(reader)
        for command in ("EHLO client.test", f"AUTH PLAIN {plain(line['username'], line['password'])}"):
            writer.write(f"{command}\r\n".encode())
            reply = await _reply(reader)
        if not reply.startswith("235"):
            raise ConnectionError(reply)

    def _people(self, line: Line) -> list[str]:
        """The next in turn of this login, over all its connections."""
        turn = self._turns.get(line["login"], 0)
        count = 1 + turn % line["most"]
        self._turns[line["login"]] = turn + count
        return [line["people"].replace("*", str((turn + each) % line["of"])) for each in range(count)]

    async def _attempt(self, line: Line, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._number += 1
        number, people, sent = self._number, self._people(line), time.time()
        commands = [f"MAIL FROM:<{line['sender']}>", *(f"RCPT TO:<{one}>" for one in people), "DATA", ""]
        writer.write("\r\n".join(commands).encode())
        replies = [await _reply(reader) for _ in range(len(people) + 2)]
        if not all(reply[0] in "23" for reply in replies):
            raise ConnectionError(*replies)
        head = f"From: <{line['sender']}>\r\nTo: {', '.join(people)}\r\nSubject: Attempt {number}\r\n"
        writer.write(f"{head}\r\nThis is number {number}.\r\n.\r\n".encode())
        reply = await _reply(reader)
        if not reply.startswith(("250 2.0.0", "450 4.7.28")):
            self.odd.append(reply)
        queue_id = reply.rpartition(" ")[2] if reply[0] == "2" else ""
        row = (number, line["login"], line["address"], len(people), sent, time.time(), reply[:3], queue_id)
        self.attempts.append(Attempt(*row))
        self._done[line["login"]] += 1

    # -- the next hop ---------------------------------------------------------------------------------------------

    async def hop(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(*CLOSED):
            writer.write(b"220 sink.test ESMTP\r\n")
            people: list[str] = []
            while line := await reader.readline():
                verb = line[:4].upper()
                if verb == b"MAIL":
                    people = []
                elif verb == b"RCPT":
                    people.append(line.decode().partition("<")[2].partition(">")[0])
                elif verb == b"DATA":
                    writer.write(b"354 go on\r\n")
                    self._arrived(await reader.readuntil(b"\r\n.\r\n"), people)
                writer.write(EHLO if verb == b"EHLO" else b"250 2.0.0 ok\r\n")
                if verb == b"QUIT":
                    break
        writer.close()

    def _arrived(self, content: bytes, people: list[str]) -> None:
        head = content.partition(b"\r\n\r\n")[0]
        subject = head.partition(b"\r\nSubject: Attempt ")[2]
        if not subject:  # a report or a letter
            self.odd.append(content[:2000].decode("utf-8", "replace"))
            return
        self.arrivals.append(Arrival(int(subject.partition(b"\r\n")[0]), time.time(), people))


async def _reply(reader: asyncio.StreamReader) -> str:
    """The last line of the next reply."""
    while True:
        line = await reader.readuntil(b"\r\n")
        if line[3:4] == b" ":
            return line[:-2].decode()


async def main() -> None:
    senders = Senders()
    server = await asyncio.start_server(senders.hop, "127.0.0.1", 0)
    _say(server.sockets[0].getsockname()[1])
    commands = asyncio.StreamReader(limit=1 << 20)
    loop = asyncio.get_running_loop()
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(commands), sys.stdin)
    while command := await commands.readline():
        _say(await senders.answer(json.loads(command)))
    server.close()


def _say(what: Any) -> None:
    sys.stdout.write(json.dumps(what) + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    uvloop.run(main())
