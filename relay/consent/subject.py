"""Texts whose keyed hashes are the keys of the ledger: one for consent (narrow), one for a person (wide) (CONSENT-16)."""

from __future__ import annotations

from relay.keyring import Keyring
from relay.mail.address import wide


def consent_text(tenant_id: int, purpose: str, narrow_address: str) -> str:
    """What is hashed for the consent of one address to one purpose. NUL parts: no name or address holds one."""
    return f"c\0{tenant_id}\0{purpose}\0{narrow_address}"


def person_text(tenant_id: int, folded_address: str) -> str:
    """What is hashed for suppression, tokens and erasure: a wide address, or for a bounce a narrow one (UNSUB-20)."""
    return f"s\0{tenant_id}\0{folded_address}"


def person_hash(keyring: Keyring, tenant_id: int, address: str) -> bytes:
    """Current key (16 octets) of the person behind `address` as given, for tokens and suppression."""
    return keyring.subject_hash(person_text(tenant_id, wide(address)))
