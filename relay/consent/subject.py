"""Texts whose keyed hashes are the keys of the ledger: one for consent (narrow), one for a person (wide) (CONSENT-16)."""

from __future__ import annotations

from relay.keyring import Keyring
from relay.mail.address import wide


def consent_text(tenant_id: int, purpose: str, narrow_address: str) -> str:
    """What is hashed for the consent of one address to one purpose. NUL parts: no name or address holds one."""
    return f"c\0{tenant_id}\0{purpose}\0{narrow_address}"


def state_id(key: bytes) -> int:
    """The row of `consent_state` under a key of 16 octets: the first 8, a signed number in network order (decision 026)."""
    return int.from_bytes(key[:8], signed=True)


def person_text(tenant_id: int, folded_address: str) -> str:
    """What is hashed for suppression, tokens and erasure: a wide address, or for a bounce a narrow one (UNSUB-20)."""
    return f"s\0{tenant_id}\0{folded_address}"


def person_hash(keyring: Keyring, tenant_id: int, address: str) -> bytes:
    """Current key (16 octets) of the person behind `address` as given, for tokens and suppression."""
    return keyring.subject_hash(person_text(tenant_id, wide(address)))
