"""Keys made once a run, and dkimpy with their public halves instead of DNS."""

from __future__ import annotations

from functools import cache

from relay.dkim.canonical import body_hash
from relay.dkim.keys import ED25519, RSA, dns_record, generate, load_pem, verify_with_dkimpy
from relay.dkim.sign import SigningKey, sign
from relay.mail.message import Field, Message, join_head

EXPIRE_SECONDS = 14 * 86_400


@cache
def pem(algorithm: str) -> bytes:
    return generate("shop.example", "g1", algorithm)


@cache
def key(algorithm: str = RSA, domain: str = "shop.example", selector: str = "g1") -> SigningKey:
    loaded = load_pem(pem(algorithm), domain, selector)
    assert isinstance(loaded, SigningKey), loaded
    return loaded


def both() -> tuple[SigningKey, SigningKey]:
    return key(RSA), key(ED25519, selector="e1")


def split(raw: bytes) -> Message:
    found = Message.split(raw)
    assert isinstance(found, Message), found
    return found


def signed(message: Message, keys: tuple[SigningKey, ...], *, now: int) -> bytes:
    """The message with its signatures on top, as it would be sent."""
    fields: list[Field] = sign(message.fields, body_hash(message.body), keys, now=now, expire_seconds=EXPIRE_SECONDS)
    return join_head([*fields, *message.fields]) + message.body


def verdicts(raw: bytes, keys: tuple[SigningKey, ...]) -> list[bool]:
    """What dkimpy says of each signature, topmost first."""
    records = {record.name: record.value for record in map(dns_record, keys)}
    return [verified.good for verified in verify_with_dkimpy(raw, records.get)]
