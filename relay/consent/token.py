"""Sealed tokens of the links in mail: opt-out, own data, confirmation, held mail, deletion (UNSUB-5, UNSUB-15, UNSUB-20, GDPR-5).

Theory of operation. A token names its key and carries the tenant and the keyed hash of the person, which is
itself the key of the suppression store, so that the link works when every campaign table is gone. Purpose and
the sender's own subscriber id are encrypted (AES-256-GCM-SIV, RFC 8452); an HMAC-SHA-256 cut to 128 bits covers
every octet and is checked first. There is no expiry and no address in clear.

    version 1 | kind 1 | key id 2 | tenant 4 | hash 16 | nonce 12 | sealed n | mac 16     then base64url, no padding
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import os
import struct
from enum import IntEnum
from functools import lru_cache
from typing import NamedTuple

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCMSIV

from relay.keyring import HASH_BYTES, Keyring

VERSION = 1
MAC_BYTES = 16
MAX_SUBSCRIBER_BYTES = 255
MAX_TOKEN_CHARS = 1_024

_HEAD = struct.Struct(f"!BBHI{HASH_BYTES}s12s")


class TokenKind(IntEnum):
    """What a token opens. The numbers are in mail that was sent: they never change."""

    UNSUBSCRIBE = 1
    MY = 2
    CONFIRM = 3
    HELD = 4
    ASKED = 5
    PROVEN = 6
    MOVE = 7
    DELETE = 8
    START = 9
    ENTER = 10


class Token(NamedTuple):
    """A token that was ours. `subject_hash` is of the person (wide); for `CONFIRM` it is the key of the request (narrow).

    `HELD` is for the sender of a held message: `purpose` is its queue id, `subscriber` since when it is held (CC-10).
    `ASKED` and `PROVEN` travel in the forms of own data, never in mail: `purpose` is the second until which they hold,
    `subscriber` the address that was typed (GDPR-5). `MOVE` is for a new address: `subscriber` is when it was asked for (GDPR-7).
    `START` stands in the pages that begin at a tenant's own site, and proves nothing: anybody gets one for any address (GDPR-5).
    `ENTER` is in the mail with a code, and made as `ASKED` is; it opens once, for a day.
    `DELETE` is for who got what was not for him: `purpose` is the number of the request (GDPR-23).
    """

    kind: TokenKind
    tenant_id: int
    purpose: str
    subject_hash: bytes
    subscriber: str
    key_id: int


@lru_cache(maxsize=64)
def _keys(secret: bytes) -> tuple[bytes, AESGCMSIV]:
    mac = hmac.digest(secret, b"zegel token mac", "sha256")
    return mac, AESGCMSIV(hmac.digest(secret, b"zegel token seal", "sha256"))


def make(
    keyring: Keyring, kind: TokenKind, tenant_id: int, *, purpose: str, subject_hash: bytes, subscriber: str = ""
) -> str:
    """A URL-safe token, about 100 characters. Each call gives another one.

    Raises ValueError where `subscriber` is over 255 octets or `subject_hash` is not 16 octets.
    """
    if len(subject_hash) != HASH_BYTES:
        raise ValueError("subject hash is not 16 octets")
    scope, own = purpose.encode(), subscriber.encode()
    if len(own) > MAX_SUBSCRIBER_BYTES or len(scope) > 255:
        raise ValueError("purpose or subscriber over 255 octets")
    key_id = keyring.current_token_key_id
    mac_key, sealer = _keys(keyring.token_keys[key_id])
    nonce = os.urandom(12)
    head = _HEAD.pack(VERSION, kind, key_id, tenant_id, subject_hash, nonce)
    covered = head + sealer.encrypt(nonce, bytes((len(scope),)) + scope + own, head)
    return base64.urlsafe_b64encode(covered + _mac(mac_key, covered)).rstrip(b"=").decode()


def read(keyring: Keyring, text: str) -> Token | None:
    """The token in `text`, or None for anything that this keyring did not make, whatever is wrong with it."""
    if len(text) > MAX_TOKEN_CHARS or not text.isascii():
        return None
    try:
        data = base64.b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True)
    except binascii.Error:
        return None
    # Unused low bits of the last character would else give one token several spellings.
    if len(data) < _HEAD.size + 17 + MAC_BYTES or base64.urlsafe_b64encode(data).rstrip(b"=").decode() != text:
        return None
    version, kind, key_id, tenant_id, subject_hash, nonce = _HEAD.unpack_from(data)
    secret = keyring.token_keys.get(key_id)
    if version != VERSION or secret is None:
        return None
    mac_key, sealer = _keys(secret)
    covered = data[:-MAC_BYTES]
    if not hmac.compare_digest(_mac(mac_key, covered), data[-MAC_BYTES:]):
        return None
    try:
        opened = sealer.decrypt(nonce, covered[_HEAD.size :], covered[: _HEAD.size])
        cut = opened[0] + 1
        scope, own = opened[1:cut].decode(), opened[cut:].decode()
        return Token(TokenKind(kind), tenant_id, scope, subject_hash, own, key_id)
    except (InvalidTag, ValueError):
        return None


def _mac(key: bytes, covered: bytes) -> bytes:
    return hmac.new(key, covered, hashlib.sha256).digest()[:MAC_BYTES]
