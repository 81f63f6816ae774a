"""A blocking SMTP client for tests: sends what it is told, octet for octet, and waits for replies with a deadline."""

from __future__ import annotations

import base64
import socket
import ssl
from types import TracebackType
from typing import Self

DEADLINE_SECONDS = 15.0


class Closed(Exception):
    """The server closed the connection where a reply was due."""


def insecure_context() -> ssl.SSLContext:
    """TLS without looking at the certificate; which certificate came is a question of the test."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context


class Client:
    """One connection. Every wait ends after `seconds`, with TimeoutError."""

    def __init__(
        self,
        port: int,
        host: str = "127.0.0.1",
        *,
        first: bytes = b"",
        tls: bool = False,
        seconds: float = DEADLINE_SECONDS,
    ) -> None:
        """`first` is sent in clear before anything else, TLS included: a PROXY header."""
        self.sock: socket.socket = socket.create_connection((host, port), timeout=seconds)
        self.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._buffer = b""
        if tls and first:
            self._start_tls_behind(first)
            return
        self.send(first)
        if tls:
            self.start_tls()

    def _start_tls_behind(self, first: bytes) -> None:
        """The handshake with its first flight in one packet with `first`, as balancers may send it."""
        incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        shaken = insecure_context().wrap_bio(incoming, outgoing, server_hostname="gw.test")
        try:
            shaken.do_handshake()
        except ssl.SSLWantReadError:
            pass
        self.sock.sendall(first + outgoing.read())
        while True:
            incoming.write(self.sock.recv(65_536) or self._fail())
            try:
                shaken.do_handshake()
                break
            except ssl.SSLWantReadError:
                self.sock.sendall(outgoing.read())
        self.sock.sendall(outgoing.read())
        self._wrapped: tuple[ssl.MemoryBIO, ssl.MemoryBIO, ssl.SSLObject] | None = (incoming, outgoing, shaken)

    _wrapped = None

    @staticmethod
    def _fail() -> bytes:
        raise Closed("during the handshake")

    def start_tls(self) -> None:
        self.sock = insecure_context().wrap_socket(self.sock, server_hostname="gw.test")

    @property
    def certificate(self) -> bytes:
        """The server's certificate (DER)."""
        assert isinstance(self.sock, ssl.SSLSocket)
        return self.sock.getpeercert(binary_form=True) or b""

    def send(self, octets: bytes) -> None:
        if self._wrapped:
            self._wrapped[2].write(octets)
            octets = self._wrapped[1].read()
        if octets:
            self.sock.sendall(octets)

    def _recv(self) -> bytes:
        if not self._wrapped:
            return self.sock.recv(65_536)
        incoming, _, shaken = self._wrapped
        while True:
            try:
                return shaken.read(65_536)
            except ssl.SSLWantReadError:
                octets = self.sock.recv(65_536)
                if not octets:
                    return b""
                incoming.write(octets)

    def _line(self) -> bytes:
        while b"\n" not in self._buffer:
            try:
                octets = self._recv()
            except (ConnectionError, ssl.SSLError) as error:
                raise Closed(repr(error)) from error
            if not octets:
                raise Closed(f"after {self._buffer!r}" if self._buffer else "")
            self._buffer += octets
        line, _, self._buffer = self._buffer.partition(b"\n")
        assert line.endswith(b"\r"), f"a reply line without CR: {line!r}"
        return line[:-1]

    def reply(self) -> str:
        """The next whole reply, its lines joined by LF. Raises Closed."""
        lines = [self._line()]
        while lines[-1][3:4] == b"-":
            lines.append(self._line())
        for line in lines:
            assert len(line) <= 510, f"a reply line over 512 octets: {line!r}"
        return b"\n".join(lines).decode("ascii")

    def is_closed(self) -> bool:
        """Wait until the server has closed; False when it says something instead."""
        try:
            return not self._buffer and not self._recv()
        except (ConnectionError, ssl.SSLError):
            return True

    def ask(self, command: str) -> str:
        """One command and its reply."""
        self.send(command.encode() + b"\r\n")
        return self.reply()

    def login(self, username: str, password: str) -> str:
        """Greeting, EHLO and AUTH PLAIN; the reply to AUTH."""
        assert self.reply().startswith("220")
        assert self.ask("EHLO client.test").startswith("250")
        return self.login_again(username, password)

    def login_again(self, username: str, password: str) -> str:
        """AUTH PLAIN alone; its reply."""
        return self.ask(f"AUTH PLAIN {plain(username, password)}")

    def envelope(self, sender: str, *recipients: str) -> None:
        """MAIL, RCPT and DATA, all accepted."""
        for command in (f"MAIL FROM:<{sender}>", *(f"RCPT TO:<{to}>" for to in recipients)):
            reply = self.ask(command)
            assert reply.startswith("250"), reply
        assert self.ask("DATA").startswith("354")

    def close(self) -> None:
        self.sock.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()


def plain(username: str, password: str) -> str:
    """The response of AUTH PLAIN."""
    return base64.b64encode(f"\0{username}\0{password}".encode()).decode()
