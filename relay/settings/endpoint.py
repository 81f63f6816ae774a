"""Places on a network as settings write them: where to listen, whom to trust, where to send on."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable
from functools import lru_cache
from typing import NamedTuple
from urllib.parse import urlsplit

IPAddress = ipaddress.IPv4Address | ipaddress.IPv6Address
IPNetwork = ipaddress.IPv4Network | ipaddress.IPv6Network

SMARTHOST_PORTS = {"smtp": 587, "smtps": 465}


class Endpoint(NamedTuple):
    """Where to listen: `host` is an IP address without brackets; port 0 lets the system choose one."""

    host: str
    port: int

    @property
    def is_loopback(self) -> bool:
        return ipaddress.ip_address(self.host).is_loopback

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


class Smarthost(NamedTuple):
    """Next hop of smarthost mode. `implicit_tls`: TLS from the first byte, as on port 465 (RFC 8314)."""

    host: str
    port: int
    implicit_tls: bool

    @property
    def is_loopback(self) -> bool:
        return is_loopback_name(self.host)


class Networks:
    """A set of networks; `address in networks` costs one cached look-up for an address seen before."""

    __slots__ = ("_networks", "holds")

    def __init__(self, networks: Iterable[str]) -> None:
        self._networks: tuple[IPNetwork, ...] = tuple(ipaddress.ip_network(text) for text in networks)
        self.holds = lru_cache(maxsize=8192)(self._holds)

    def __contains__(self, address: str) -> bool:
        return self.holds(address)

    def _holds(self, address: str) -> bool:
        ip = parse_ip(address)
        return ip is not None and any(ip.version == network.version and ip in network for network in self._networks)


def parse_ip(text: str) -> IPAddress | None:
    """The IP address in `text`, an IPv4 one where it is written as IPv6 (::ffff:1.2.3.4); None if it is none."""
    try:
        ip = ipaddress.ip_address(text)
    except ValueError:
        return None
    if isinstance(ip, ipaddress.IPv6Address) and ip.ipv4_mapped is not None:
        return ip.ipv4_mapped
    return ip


def parse_endpoint(text: str) -> Endpoint | None:
    """`127.0.0.1:2525`, `[::1]:2525` or `localhost:2525`; None for anything else. Names are not looked up."""
    host, colon, port = text.rpartition(":")
    if not colon or not port.isascii() or not port.isdigit() or int(port) > 65_535:
        return None
    if host == "localhost":
        return Endpoint("127.0.0.1", int(port))
    bracketed = host.startswith("[") and host.endswith("]")
    ip = parse_ip(host[1:-1] if bracketed else host)
    if ip is None or (":" in host) != bracketed:
        return None
    return Endpoint(str(ip), int(port))


def parse_smarthost(text: str) -> Smarthost | None:
    """`smtp://host[:port]` (587) or `smtps://host[:port]` (465); None for anything else, credentials included."""
    try:
        parts = urlsplit(text)
        port = parts.port
    except ValueError:
        return None
    usual = SMARTHOST_PORTS.get(parts.scheme)
    extra = parts.path.strip("/") or parts.query or parts.fragment or "@" in parts.netloc
    if usual is None or not parts.hostname or extra or port == 0:
        return None
    return Smarthost(parts.hostname, usual if port is None else port, parts.scheme == "smtps")


def is_loopback_name(host: str) -> bool:
    """`localhost` or an address of this machine only."""
    ip = parse_ip(host)
    return host == "localhost" or (ip is not None and ip.is_loopback)


def is_hook(url: str) -> bool:
    """An address that events or alarms may be posted to, as it is written; whether it may be reached is asked when it is used."""
    try:
        parts = urlsplit(url)
        host, port = parts.hostname or "", parts.port
    except ValueError:
        return False
    if not host or port == 0 or "@" in parts.netloc or parts.fragment or not url.isascii() or not url.isprintable():
        return False
    if " " in url or "\\" in url:
        return False
    return parts.scheme == "https" or (parts.scheme == "http" and is_loopback_name(host))
