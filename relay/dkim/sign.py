"""DKIM signatures: relaxed/relaxed, written and folded here, over the header fields of DKIM-5 and no part of a body less.

Theory of operation. What a signature covers depends only on the names of the fields, so the h= text and the order of
the fields are planned once per sequence of names. The signature field is built with its folds before it is hashed;
its canonical form is the same text with each fold read as one space, and the value of b= is the last thing in it, so
nothing that is added after hashing can change what was hashed (DKIM-11). The caller hashes the body once (DKIM-10).
"""

from __future__ import annotations

import hashlib
from base64 import b64encode
from collections.abc import Sequence
from functools import lru_cache
from typing import NamedTuple, Protocol

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.padding import PKCS1v15
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey
from cryptography.hazmat.primitives.hashes import SHA256

from relay.dkim.canonical import body_hash
from relay.mail.message import Field

__all__ = ["OVERSIGNED", "SIGNED", "Signer", "SigningKey", "body_hash", "sign"]

# DKIM-5, in the order of h=. What is not here is not signed.
SIGNED = (
    b"from",
    b"sender",
    b"reply-to",
    b"to",
    b"cc",
    b"subject",
    b"date",
    b"message-id",
    b"in-reply-to",
    b"references",
    b"mime-version",
    b"content-type",
    b"content-transfer-encoding",
    b"content-id",
    b"content-description",
    b"resent-date",
    b"resent-from",
    b"resent-sender",
    b"resent-to",
    b"resent-cc",
    b"resent-message-id",
    b"list-id",
    b"list-help",
    b"list-unsubscribe",
    b"list-unsubscribe-post",
    b"list-subscribe",
    b"list-post",
    b"list-owner",
    b"list-archive",
    b"feedback-id",
    b"cfbl-address",
    b"cfbl-feedback-id",
    b"auto-submitted",
)

# DKIM-6: named once more than they occur, so that none can be added (RFC 6376 section 5.4.2).
OVERSIGNED = frozenset(
    (
        b"from",
        b"sender",
        b"reply-to",
        b"to",
        b"cc",
        b"subject",
        b"date",
        b"message-id",
        b"mime-version",
        b"content-type",
        b"content-transfer-encoding",
        b"list-unsubscribe",
        b"list-unsubscribe-post",
    )
)

LINE = 78  # characters of a line without CRLF (RFC 5322 section 2.1.1)
_BASE64_LINE = LINE - 4  # room for " b=" in front, and one to spare
_PADDING, _SHA256 = PKCS1v15(), SHA256()


class Signer(Protocol):
    """Whatever holds a private key in force and says for whom."""

    @property
    def domain(self) -> str: ...
    @property
    def selector(self) -> str: ...
    @property
    def algorithm(self) -> str: ...
    @property
    def key(self) -> RSAPrivateKey | Ed25519PrivateKey: ...


class SigningKey(NamedTuple):
    """A private key in force for `selector._domainkey.domain` (lower-case A-label)."""

    domain: str
    selector: str
    algorithm: str  # rsa-sha256 | ed25519-sha256
    key: RSAPrivateKey | Ed25519PrivateKey


def sign(fields: Sequence[Field], bh: str, keys: Sequence[Signer], *, now: int, expire_seconds: int) -> list[Field]:
    """One DKIM-Signature field per key, RSA first, to be put on top of `fields`; they are final (DKIM-11).

    `bh` is `body_hash` of the body as it will be sent, `now` seconds since the epoch (DKIM-7). Nothing may change
    `fields` or the result afterwards. A signature takes about 0.3 ms for RSA-2048 and releases the GIL.
    """
    names = tuple([name for name, _ in fields])
    order, signed_names = _cached_plan(names) if len(names) <= 64 else _plan(names)
    parts: list[bytes] = []
    for index in order:
        name, raw = fields[index]
        parts.append(b"%b:%b\r\n" % (name, b" ".join(raw[raw.index(b":") + 1 :].split())))
    head = b"".join(parts)
    tail = f"\r\n t={now}; x={now + expire_seconds}; bh={bh};{signed_names}\r\n b="
    return [_field(signer, head, tail) for signer in sorted(keys, key=_is_second)]


def _is_second(signer: Signer) -> bool:
    return signer.algorithm != "rsa-sha256"


def _field(signer: Signer, head: bytes, tail: str) -> Field:
    text = _opening(signer.domain, signer.selector, signer.algorithm) + tail
    signed = head + b"dkim-signature:" + text.replace("\r\n ", " ").encode("ascii")
    signature = b64encode(_signature(signer.key, signed)).decode("ascii")
    value = "\r\n ".join([signature[at : at + _BASE64_LINE] for at in range(0, len(signature), _BASE64_LINE)])
    return b"dkim-signature", f"DKIM-Signature: {text}{value}\r\n".encode("ascii")


def _signature(key: RSAPrivateKey | Ed25519PrivateKey, signed: bytes) -> bytes:
    if isinstance(key, RSAPrivateKey):
        return key.sign(signed, _PADDING, _SHA256)
    return key.sign(hashlib.sha256(signed).digest())  # RFC 8463 section 3: PureEdDSA over the hash


@lru_cache(maxsize=4_096)
def _opening(domain: str, selector: str, algorithm: str) -> str:
    """The tags that are the same for every message of a key, folded; without the field name."""
    tags = ["v=1;", f"a={algorithm};", "c=relaxed/relaxed;", f"d={domain};", f"s={selector};"]
    return _folded(tags, len("DKIM-Signature:"))[1:]


def _folded(pieces: list[str], column: int) -> str:
    """Pieces with one blank or one fold in front of each, no line over LINE characters unless a piece is."""
    result: list[str] = []
    for piece in pieces:
        if result and column + 1 + len(piece) > LINE:
            result.append("\r\n ")
            column = 0
        else:
            result.append(" ")
        result.append(piece)
        column += 1 + len(piece)
    return "".join(result)


def _plan(names: tuple[bytes, ...]) -> tuple[tuple[int, ...], str]:
    """Indexes of the fields to hash, in the order of h=, and the folded text of the h= tag.

    Equal names are taken from the bottom up (RFC 6376 section 5.4.2).
    """
    places: dict[bytes, list[int]] = {}
    for index in range(len(names) - 1, -1, -1):
        places.setdefault(names[index], []).append(index)
    order: list[int] = []
    listed: list[str] = []
    for name in SIGNED:
        found = places.get(name, ())
        order.extend(found)
        listed.extend([name.decode("ascii")] * (len(found) + (name in OVERSIGNED)))
    return tuple(order), _name_list(listed)


_cached_plan = lru_cache(maxsize=1_024)(_plan)


def _name_list(listed: list[str]) -> str:
    lines = [" h=" + listed[0]]
    for name in listed[1:]:
        if len(lines[-1]) + len(name) + 3 > LINE:  # colon in front, colon or semicolon behind
            lines[-1] += ":"
            lines.append(" " + name)
        else:
            lines[-1] += ":" + name
    return "\r\n" + "\r\n".join(lines) + ";"
