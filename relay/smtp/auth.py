"""AUTH PLAIN and LOGIN (RFC 4954, RFC 4616): decoding what a client sent. Pure."""

from __future__ import annotations

import base64
import binascii
from typing import NamedTuple

MECHANISMS = ("PLAIN", "LOGIN")


class Login(NamedTuple):
    """What the client claims; to be compared with a keyed digest, never kept."""

    username: str
    password: str

    def __repr__(self) -> str:
        return "Login(...)"


def decode(line: bytes) -> bytes | None:
    """The octets behind one base64 line; `=` alone stands for none (RFC 4954 section 4). None if it is no base64."""
    if line == b"=":
        return b""
    try:
        return base64.b64decode(line, validate=True)
    except (binascii.Error, ValueError):
        return None


def plain(response: bytes) -> Login | None:
    """The login in a PLAIN response: authorization id NUL authentication id NUL password."""
    parts = response.split(b"\0")
    if len(parts) != 3 or not parts[1] or (parts[0] and parts[0] != parts[1]):
        return None
    return login(parts[1], parts[2])


def login(username: bytes, password: bytes) -> Login | None:
    """A login from two octet strings; None unless both are UTF-8 without control characters."""
    try:
        pair = Login(username.decode(), password.decode())
    except UnicodeDecodeError:
        return None
    if len(pair.username) > 255 or len(pair.password) > 255 or not (pair.username + pair.password).isprintable():
        return None
    return pair
