"""The next hop of the tests: takes everything on loopback and shows it; a local part `refused...` is refused at RCPT."""

from __future__ import annotations

import socketserver
import threading
from dataclasses import dataclass, field
from typing import Any

PATIENCE_SECONDS = 30.0
"""How long a test waits for what comes in a moment on a machine that has nothing else to do."""
_EHLO = b"250-sink.test\r\n250-PIPELINING\r\n250-8BITMIME\r\n250-SMTPUTF8\r\n250-DSN\r\n250 ENHANCEDSTATUSCODES\r\n"


@dataclass
class Arrived:
    """One message as it came over the wire: MAIL and RCPT lines, content with its stuffed dots taken out once."""

    mail: str
    rcpt: list[str] = field(default_factory=list)
    wire: bytes = b""

    @property
    def raw(self) -> bytes:
        return self.wire.replace(b"\r\n..", b"\r\n.")

    @property
    def head(self) -> str:
        head = self.wire.partition(b"\r\n\r\n")[0].replace(
            b"\r\n..", b"\r\n."
        )  # asked again and again while a test waits
        return head.decode("utf-8", "replace")


class Sink:
    """A listening sink. `wait(count)` returns when that many messages have come."""

    def __init__(self) -> None:
        self.arrived: list[Arrived] = []
        self._changed = threading.Condition()
        self._server = _Server(("127.0.0.1", 0), _Session)
        self._server.sink = self
        self.port: int = self._server.server_address[1]
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True)
        self._thread.start()

    def take(self, message: Arrived) -> None:
        with self._changed:
            self.arrived.append(message)
            self._changed.notify_all()

    def clear(self) -> None:
        with self._changed:
            self.arrived.clear()

    def wait(self, count: int, seconds: float = PATIENCE_SECONDS) -> list[Arrived]:
        """The messages so far, as soon as there are `count`, or whatever there is after `seconds`."""
        with self._changed:
            self._changed.wait_for(lambda: len(self.arrived) >= count, seconds)
            return list(self.arrived)

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


class _Server(socketserver.ThreadingTCPServer):
    daemon_threads = True
    allow_reuse_address = True
    block_on_close = False
    sink: Sink

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A gateway that is killed leaves broken connections; they are no news."""


class _Session(socketserver.StreamRequestHandler):
    server: _Server

    def handle(self) -> None:
        self.wfile.write(b"220 sink.test ESMTP\r\n")
        current: Arrived | None = None
        while line := self.rfile.readline():
            text = line.decode("utf-8", "replace").rstrip("\r\n")
            verb = text[:4].upper()
            if verb == "EHLO":
                self.wfile.write(_EHLO)
            elif verb == "MAIL":
                current = Arrived(text)
                self.wfile.write(b"250 2.1.0 ok\r\n")
            elif verb == "RCPT" and current is not None:
                refused = text[8:].lstrip(" <").startswith("refused")
                if not refused:
                    current.rcpt.append(text)
                self.wfile.write(b"550 5.1.1 nobody here\r\n" if refused else b"250 2.1.5 ok\r\n")
            elif verb == "DATA" and current is not None:
                if not current.rcpt:
                    self.wfile.write(b"554 5.5.1 no valid recipients\r\n")
                    continue
                self._content(current)
                current = None
            elif verb == "QUIT":
                self.wfile.write(b"221 2.0.0 bye\r\n")
                return
            else:
                self.wfile.write(b"250 2.0.0 ok\r\n")

    def _content(self, message: Arrived) -> None:
        self.wfile.write(b"354 go on\r\n")
        lines = []
        while (line := self.rfile.readline()) not in (b".\r\n", b""):
            lines.append(line)
        message.wire = b"".join(lines)
        self.server.sink.take(message)
        self.wfile.write(b"250 2.0.0 taken\r\n")
