"""Peers that follow a script: one `.smtp` file is one conversation, what the jobs must have become, and why.

# A sentence that says what this proves.
given  job 1 to ann@dest.example bob@dest.example      (from A, 8bit, smtputf8, large, notify=SUCCESS: one word each)
given  peer slow | user | opportunistic | implicit | clear-auth | certificate wrong-name | certificate unknown-issuer
given  timeout final 0.05         given  messages-per-connection 1         given  backoff 0.01
connection                        the lines below belong to the next connection that comes
S: 250 ok                         written with CRLF; successive S lines leave in one packet
C: RCPT TO:<ann@dest.example>     the client's next line, exactly
C: {content 1}                    dot-stuffed content with final dot: job 1's bytes
C: {nothing}                      the client waits for us        C: {eof}  it has closed the connection
S: {half 25} | {drip} (an octet each 10 ms) | {close} | {reset} | {tls} | {much} | {hang} | {stall}
then   job 1 delivered 2.0.0      all recipients; or `job 1 bob@dest.example failed 5.1.1`
then   job 2 deferred 4.4.2 host  with its scope, and `doubt` where there is doubt; `of-nobody` of a failure that names none
then   job 3 waits                never taken
then   host waiting auth          state and stage of the first host
"""

from __future__ import annotations

import asyncio
import itertools
import socket
import ssl
import struct
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from relay.mail.envelope import Recipient
from tests.relay.delivery.jobs import Letter

Steps = list[tuple[str, str]]


class _NoTrust(Exception):
    """The client does not like our certificate and has left."""


class Mismatch(AssertionError):
    """The client said something else than the script."""


@dataclass
class Script:
    """One parsed file."""

    why: str = ""
    jobs: dict[int, Letter] = field(default_factory=dict)
    options: dict[str, str] = field(default_factory=dict)
    connections: list[Steps] = field(default_factory=list)
    then: list[list[str]] = field(default_factory=list)

    @staticmethod
    def read(path: Path) -> Script:
        script = Script()
        for line in path.read_text("utf-8").splitlines():
            word, _, rest = line.partition(" ")
            rest = rest.strip() if word in ("given", "then") else rest
            match word:
                case "#":
                    script.why += rest + " "
                case "given":
                    script._given(rest)
                case "connection":
                    script.connections.append([])
                case "S:" | "C:":
                    script.connections[-1].append((word[0], rest))
                case "then":
                    script.then.append(rest.split())
                case "":
                    pass
                case _:
                    raise ValueError(f"{path.name}: {line!r}")
        assert script.why and script.then, path.name
        return script

    def _given(self, rest: str) -> None:
        words = rest.split()
        if words[0] == "job":
            self.jobs[int(words[1])] = _letter(words[2:])
        elif words[0] in ("timeout", "peer"):
            self.options[" ".join(words[:2])] = words[2] if len(words) > 2 else "yes"
        else:
            self.options[words[0]] = words[1]

    @property
    def ending(self) -> set[int]:
        """The jobs that must be answered."""
        return {int(words[1]) for words in self.then if words[0] == "job" and words[-1] != "waits"}


def _letter(words: list[str]) -> Letter:
    notify = tuple(word[7:] for word in words if word.startswith("notify="))
    orcpt = "".join(word[6:] for word in words if word.startswith("orcpt="))
    sender = words[words.index("from") + 1] if "from" in words else "news@shop.example"
    recipients = [
        Recipient(word, notify, orcpt) for word in words[words.index("to") + 1 :] if "@" in word and "=" not in word
    ]
    body = b"x" * 76 + b"\r\n.\r\n"
    letter = Letter(
        recipients,
        sender,
        body=body * (250_000 if "huge" in words else 20_000 if "large" in words else 1),
        is_ascii="8bit" not in words,
    )
    letter.smtputf8 = "smtputf8" in words
    letter.ret = "".join(word[4:] for word in words if word.startswith("ret="))
    letter.envid = "".join(word[6:] for word in words if word.startswith("envid="))
    return letter


class Peer:
    """Plays the connections of a script in order; `mismatch` holds the first difference."""

    def __init__(self, script: Script, contexts: Mapping[str, ssl.SSLContext], changed: Callable[[], None]) -> None:
        self.mismatch: BaseException | None = None
        self.accepted = 0
        self.played = 0
        self.port = 0
        self._script = script
        self._context = contexts[script.options.get("peer certificate", "good")]
        self._implicit = "peer implicit" in script.options
        self._slow = "peer slow" in script.options
        self._changed = changed
        self._server: asyncio.Server | None = None
        self._tasks: set[asyncio.Task[None]] = set()

    async def start(self) -> None:
        shield = self._context if self._implicit else None
        self._listener = socket.socket()
        if self._slow:  # so that a large message does not vanish into buffers
            self._listener.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        self._listener.bind(("127.0.0.1", 0))
        limit = 4096 if self._slow else 2**22
        self._server = await asyncio.start_server(self._accept, sock=self._listener, ssl=shield, limit=limit)
        self.port = self._listener.getsockname()[1]

    async def stop(self) -> None:
        assert self._server is not None
        self._server.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._server.wait_closed()

    def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        number, self.accepted = self.accepted, self.accepted + 1
        self._tasks.add(asyncio.get_running_loop().create_task(self._play(number, reader, writer)))

    async def _play(self, number: int, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            if number >= len(self._script.connections):
                raise Mismatch(f"connection {number + 1} was not expected")
            async with asyncio.timeout(5):
                await self._steps(self._script.connections[number], reader, writer)
            self.played += 1
            self._changed()
            await self._after(reader, writer)
        except _NoTrust:
            self.played += 1
        except (Mismatch, TimeoutError) as error:
            self.mismatch = self.mismatch or error
        except (ConnectionError, ssl.SSLError, asyncio.IncompleteReadError) as error:
            self.mismatch = self.mismatch or Mismatch(f"connection {number + 1} broke: {error!r}")
        finally:
            self._changed()
            writer.transport.abort()

    async def _steps(self, steps: Steps, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        packet = b""
        for side, text in steps:
            if side == "S" and not text.startswith("{"):
                packet += text.encode() + b"\r\n"
                continue
            if side == "S" and text.startswith("{half "):
                packet += text[6:-1].encode()
                continue
            if packet:
                writer.write(packet)
                packet = b""
            if side == "C":
                await self._expect(text, reader)
            else:
                await self._do(text, reader, writer)
        if packet:
            writer.write(packet)

    async def _do(self, text: str, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        match text:
            case "{close}":
                writer.close()
            case "{reset}":
                writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                writer.transport.abort()
            case "{tls}":
                await writer.drain()
                try:
                    await writer.start_tls(self._context)
                except (ssl.SSLError, ConnectionError):
                    raise _NoTrust from None
            case "{much}":
                for _ in range(80):
                    writer.write(b"250-" + b"x" * 1000 + b"\r\n")
            case "{stall}":
                await self._script.jobs[1].answered.wait()
            case "{drip}":
                gone = asyncio.gather(reader.read(), return_exceptions=True)
                octets = itertools.chain(b"250 ", itertools.repeat(ord("x")))
                while not (await asyncio.wait((gone,), timeout=0.01))[0]:
                    writer.write(bytes((next(octets),)))
            case "{hang}":
                await reader.read()
            case _:
                raise ValueError(text)

    async def _expect(self, text: str, reader: asyncio.StreamReader) -> None:
        if text == "{nothing}":
            try:
                got = await asyncio.wait_for(reader.read(100), 0.03)
            except TimeoutError:
                return
            raise Mismatch(f"expected nothing, got {got!r}")
        if text == "{eof}":
            try:
                got = await reader.read(-1 if self._slow else 100)
            except (ConnectionError, ssl.SSLError):
                return
            if got not in (b"", b"QUIT\r\n") and not self._slow:
                raise Mismatch(f"expected the end, got {got!r}")
            return
        if text.startswith("{content "):
            await self._expect_content(int(text[9:-1]), reader)
            return
        got = await reader.readline()
        if got != text.encode() + b"\r\n":
            raise Mismatch(f"expected {text!r}, got {got!r}")

    async def _expect_content(self, number: int, reader: asyncio.StreamReader) -> None:
        got = await reader.readuntil(b"\r\n.\r\n")
        plain = got[:-3].replace(b"\r\n..", b"\r\n.")
        if plain != self._script.jobs[number].raw:
            raise Mismatch(f"content of job {number} differs: {plain[:200]!r}")

    async def _after(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """After its script a peer only says goodbye."""
        try:
            rest = await reader.read(1000)
            if rest not in (b"", b"QUIT\r\n") and not self._slow:
                raise Mismatch(f"after the script came {rest!r}")
            if rest:
                writer.write(b"221 bye\r\n")
                await writer.drain()
        except (ConnectionError, ssl.SSLError):
            pass
