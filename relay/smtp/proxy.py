"""PROXY protocol, versions 1 and 2: who the client behind a balancer is. Pure.

Specification: HAProxy, "The PROXY protocol", versions 1 and 2. Only TCP over IPv4 and IPv6 counts; LOCAL, UNKNOWN and
what is no TCP keep the address of the connection itself. What the specification does not know is refused: whose address
counts must never be a guess. Of the fields behind the addresses (TLV) one is read: whether the client came by TLS.
"""

from __future__ import annotations

import ipaddress
import re
import struct
from typing import NamedTuple

SIGNATURE_V2 = b"\r\n\r\n\x00\r\nQUIT\n"
MAX_V1 = 107
MAX_V2 = 16 + 4096
_PORT = re.compile(rb"0|[1-9][0-9]{0,4}")
_ADDRESSES = {0: 0, 1: 12, 2: 36, 3: 216}  # family: octets of both addresses and ports
_STREAM = 1
_TRANSPORTS = 3
_TLV_SSL, _CLIENT_SSL = 0x20, 0x01


class Proxied(NamedTuple):
    """`address` is the client's, or "" for the connection's own; `length` octets of the buffer were the header.

    `secure`: the balancer says that the client came by TLS (PP2_CLIENT_SSL), which only version 2 can. `is_own`: the
    connection is for nobody else, so its own address is the client's.
    """

    address: str
    length: int
    secure: bool = False
    is_own: bool = False


class BadProxyHeader(NamedTuple):
    """The connection must be closed; `why` is for the log."""

    why: str


def read_header(buffer: bytes | bytearray) -> Proxied | BadProxyHeader | None:
    """The header at the start of `buffer`; None while more octets are needed."""
    if buffer[:12] == SIGNATURE_V2[: len(buffer)]:
        return _version_2(buffer)
    if buffer[:6] == b"PROXY "[: len(buffer)]:
        return _version_1(buffer)
    return BadProxyHeader("no PROXY header")


def _version_1(buffer: bytes | bytearray) -> Proxied | BadProxyHeader | None:
    end = buffer.find(b"\r\n", 0, MAX_V1)
    if end < 0:
        return BadProxyHeader("version 1 header too long") if len(buffer) >= MAX_V1 else None
    words = bytes(buffer[:end]).split(b" ")
    if len(words) >= 2 and words[1] == b"UNKNOWN":
        return Proxied("", end + 2)
    if len(words) != 6 or words[1] not in (b"TCP4", b"TCP6"):
        return BadProxyHeader("version 1 header malformed")
    kind = ipaddress.IPv4Address if words[1] == b"TCP4" else ipaddress.IPv6Address
    try:
        client, _ = (kind(word.decode("ascii")) for word in words[2:4])
    except ValueError:
        return BadProxyHeader("version 1 address malformed")
    if b"%" in words[2] or not all(_PORT.fullmatch(port) and int(port) <= 65535 for port in words[4:]):
        return BadProxyHeader("version 1 zone or port wrong")
    return Proxied(str(client), end + 2)


def _version_2(buffer: bytes | bytearray) -> Proxied | BadProxyHeader | None:
    if len(buffer) < 16:
        return None
    version_command, family, length = struct.unpack_from("!BBH", buffer, 12)
    if version_command >> 4 != 2 or version_command & 15 > 1 or 16 + length > MAX_V2:
        return BadProxyHeader("version 2 header malformed")
    is_local = version_command & 15 == 0  # the balancer itself, asking whether we live: the rest means nothing
    if not is_local and (family & 15 >= _TRANSPORTS or length < _ADDRESSES.get(family >> 4, MAX_V2)):
        return BadProxyHeader("version 2 family unknown, or its addresses too short")
    if len(buffer) < 16 + length:
        return None
    if is_local or family >> 4 not in (1, 2) or family & 15 != _STREAM:
        return Proxied("", 16 + length, is_own=is_local)
    size = 4 if family >> 4 == 1 else 16
    secure = _came_by_tls(bytes(buffer[16 + _ADDRESSES[family >> 4] : 16 + length]))
    return Proxied(str(ipaddress.ip_address(bytes(buffer[16 : 16 + size]))), 16 + length, secure)


def _came_by_tls(fields: bytes) -> bool:
    """Whether one of the fields says so; what cannot be read says nothing."""
    while len(fields) >= 3:
        kind, size = struct.unpack_from("!BH", fields)
        if kind == _TLV_SSL and 5 <= size <= len(fields) - 3:
            return bool(fields[3] & _CLIENT_SSL)
        fields = fields[3 + size :]
    return False
