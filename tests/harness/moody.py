"""A next hop with moods: what it offers, how it answers, when it cuts and when it is away, set by the test as it goes."""

from __future__ import annotations

import contextlib
import socket
import socketserver
import threading
import time
from collections.abc import Callable

from tests.harness.sink import PATIENCE_SECONDS, Arrived, Sink
from tests.harness.sink import _Server as _BaseServer

OFFERS = ("PIPELINING", "8BITMIME", "SMTPUTF8", "DSN", "ENHANCEDSTATUSCODES")

Answer = Callable[[str, Arrived], bytes | None]
"""From a command line, or "." at the end of the content, and the message so far to a reply; None: the usual one, b"": cut."""


class Moody(Sink):
    """Set `offers` and `answer` at any time. `commands` are the MAIL and RCPT lines as they came, `hello` counts EHLOs."""

    def __init__(self, offers: tuple[str, ...] = OFFERS, answer: Answer = lambda line, message: None) -> None:
        self.offers = offers
        self.answer = answer
        self.commands: list[str] = []
        self.hello = 0
        self.sockets: set[socket.socket] = set()
        super().__init__()
        self.down()
        self.up()

    def down(self) -> None:
        """Nobody listens any more, and open connections are cut."""
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()
        for sock in list(self.sockets):
            with contextlib.suppress(OSError):
                sock.shutdown(socket.SHUT_RDWR)

    def up(self) -> None:
        """Listen again, on the same port."""
        self._server: _BaseServer = _Server(("127.0.0.1", self.port), _Session)
        self._server.sink = self
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True)
        self._thread.start()

    def until(self, is_so: Callable[[], bool], seconds: float = PATIENCE_SECONDS) -> bool:
        """Whether `is_so()` within that time, or a patient one."""
        end = time.monotonic() + max(seconds, PATIENCE_SECONDS)
        while not is_so() and time.monotonic() < end:
            time.sleep(0.01)
        return is_so()


class _Server(_BaseServer):
    sink: Moody


class _Cut(Exception):
    """The test wants the connection to end here."""


class _Session(socketserver.StreamRequestHandler):
    server: _Server

    def handle(self) -> None:
        self.server.sink.sockets.add(self.connection)
        try:
            self._converse()
        except (_Cut, OSError):
            pass
        finally:
            self.server.sink.sockets.discard(self.connection)

    def _converse(self) -> None:
        sink = self.server.sink
        self._say("220 moody.test ESMTP", Arrived(""), b"220 moody.test ESMTP")
        current = Arrived("")
        while line := self.rfile.readline():
            text = line.decode("utf-8", "replace").rstrip("\r\n")
            verb = text[:4].upper()
            if verb == "EHLO":
                sink.hello += 1
                lines = ["moody.test", *sink.offers]
                usual = "\r\n".join([f"250-{each}" for each in lines[:-1]] + [f"250 {lines[-1]}"]).encode()
                self._say(text, current, usual)
            elif verb == "MAIL":
                sink.commands.append(text)
                current = Arrived(text)
                self._say(text, current, b"250 2.1.0 ok")
            elif verb == "RCPT":
                sink.commands.append(text)
                if self._say(text, current, b"250 2.1.5 ok"):
                    current.rcpt.append(text)
            elif verb == "DATA":
                if not current.rcpt:
                    self._say(text, current, b"554 5.5.1 no valid recipients")
                elif self._say(text, current, b"354 go on"):
                    self._content(current)
                    current = Arrived("")
            elif verb == "QUIT":
                self._say(text, current, b"221 2.0.0 bye")
                return
            else:
                self._say(text, current, b"250 2.0.0 ok")

    def _say(self, text: str, message: Arrived, usual: bytes) -> bool:
        reply = self.server.sink.answer(text, message)
        if reply == b"":
            raise _Cut
        self.wfile.write((usual if reply is None else reply) + b"\r\n")
        return (usual if reply is None else reply)[:1] in (b"2", b"3")

    def _content(self, message: Arrived) -> None:
        lines = []
        while (line := self.rfile.readline()) not in (b".\r\n", b""):
            lines.append(line)
        message.wire = b"".join(lines)
        sink = self.server.sink
        reply = sink.answer(".", message)
        if reply == b"" or reply is None or reply[:1] == b"2":
            sink.take(message)
        if reply == b"":
            raise _Cut
        self.wfile.write((reply or b"250 2.0.0 taken") + b"\r\n")
