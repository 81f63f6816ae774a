"""The next hops of smarthost mode: what a peer is, and which one a new connection goes to (OUT-13)."""

from __future__ import annotations

import ipaddress
import ssl
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal
from urllib.parse import unquote, urlsplit

from relay.delivery import backoff
from relay.delivery.tls import context

TlsMode = Literal["verify", "opportunistic", "off"]
PORTS = {"smtp": 587, "smtps": 465}
REMEDY = 'write "smtp://host:port", "smtps://host:port" or "smtp://user@host:port"'


class PeerError(ValueError):
    """A smarthost setting that cannot work; the text names it and the remedy."""


@dataclass(frozen=True, slots=True)
class Peer:
    """One next hop. `tls` "verify": encrypted to a verified certificate, except that a host on loopback may do without TLS.

    `clear_auth`: the password may go over loopback in clear.
    """

    host: str
    port: int
    implicit_tls: bool = False
    tls: TlsMode = "verify"
    user: str = ""
    password: str = ""
    ca_file: Path | None = None
    clear_auth: bool = False

    def __post_init__(self) -> None:
        if self.user and not self.password:
            raise PeerError(f"{self.name}: user without a password; name a password file")
        if self.user and self.tls == "opportunistic":
            raise PeerError(
                f"{self.name}: a password goes only to a verified host; use tls = verify, with ca_file if need be"
            )
        if self.user and self.tls == "off" and not self.may_auth_in_clear:
            raise PeerError(f"{self.name}: a password needs TLS; use tls = verify")
        if self.implicit_tls and self.tls == "off":
            raise PeerError(f"{self.name}: smtps with tls = off; write smtp:// or use tls = verify")

    @property
    def name(self) -> str:
        """host:port, for metrics, logs and people."""
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"

    @property
    def is_loopback(self) -> bool:
        """The name says that nothing leaves this machine. No look-up."""
        if self.host == "localhost":
            return True
        try:
            return ipaddress.ip_address(self.host).is_loopback
        except ValueError:
            return False

    @property
    def may_auth_in_clear(self) -> bool:
        return self.clear_auth and self.is_loopback

    @property
    def starttls(self) -> str:
        """What `handshake.Manners` is told. A login is never sent before TLS because nobody offered it."""
        if self.implicit_tls or self.tls == "off" or self.may_auth_in_clear:
            return "no"
        if self.tls == "verify" and (self.user or not self.is_loopback):
            return "required"
        return "offered"

    def context(self) -> ssl.SSLContext:
        """A fresh context as the settings want it; reads `ca_file`. Raises ValueError with the remedy."""
        verify = self.tls == "verify" and (self.implicit_tls or self.starttls == "required")
        return context(verify=verify, ca_file=self.ca_file)


def parse_peer(
    url: str, *, tls: TlsMode = "verify", ca_file: Path | None = None, passwords: Mapping[str, str] | None = None
) -> Peer:
    """The peer that `url` names. `passwords` by "user@host", "user" or "*" (`read_passwords`). Raises PeerError."""
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:
        raise PeerError(f"smarthost {url!r}: no valid port; {REMEDY}") from None
    if (
        parts.scheme not in PORTS
        or not parts.hostname
        or parts.path.strip("/")
        or parts.query
        or parts.fragment
        or port == 0
    ):
        raise PeerError(f"smarthost {url!r}: {REMEDY}")
    if parts.password is not None:
        raise PeerError(
            f"smarthost {parts.hostname}: a password does not belong in the address; put it in the password file"
        )
    user = unquote(parts.username or "")
    return Peer(
        parts.hostname,
        port or PORTS[parts.scheme],
        implicit_tls=parts.scheme == "smtps",
        tls=tls,
        user=user,
        password=_password(user, parts.hostname, passwords or {}),
        ca_file=ca_file,
    )


def read_passwords(text: str) -> dict[str, str]:
    """Passwords out of a file or setting: one line is the password of every login; several are `user@host password`."""
    lines = [line for line in text.splitlines() if line.strip()]
    if len(lines) == 1 and not _names_a_login(lines[0]):
        return {"*": lines[0]}
    found: dict[str, str] = {}
    for line in lines:
        login, _, password = line.strip().partition(" ")
        found[login] = password.strip()
    return found


def _names_a_login(line: str) -> bool:
    login, space, _ = line.strip().partition(" ")
    return bool(space) and "@" in login


def _password(user: str, host: str, passwords: Mapping[str, str]) -> str:
    if not user:
        return ""
    for key in (f"{user}@{host}", user, "*"):
        if key in passwords:
            return passwords[key]
    return ""


class Seat:
    """A peer with its back-off and the number of its connections, opening ones included."""

    __slots__ = ("connections", "peer", "state", "tls_context")

    def __init__(self, peer: Peer) -> None:
        self.peer = peer
        self.state = backoff.FRESH
        self.connections = 0
        self.tls_context: ssl.SSLContext | None = None

    def trust(self) -> ssl.SSLContext:
        """The peer's TLS context, made once: it costs milliseconds. Raises ValueError with the remedy."""
        if self.tls_context is None:
            self.tls_context = self.peer.context()
        return self.tls_context


def choose(seats: Sequence[Seat], now: float) -> Seat | None:
    """The first host in the order of the settings that may have one more connection now."""
    for seat in seats:
        if backoff.allows(seat.state, now, seat.connections):
            return seat
    return None


def next_chance(seats: Sequence[Seat]) -> float:
    """When the first waiting host may be tried; hosts that only wait for their trial connection do not count. inf: none."""
    return min((seat.state.until for seat in seats if seat.connections == 0), default=float("inf"))
