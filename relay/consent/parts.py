"""How a record is divided over an event: what names nobody, what is sealed, what is deleted first (GDPR-14)."""

from __future__ import annotations

import hashlib
import os

from relay.consent.record import Record

SCHEMA_VERSION = 1

_CLEAR = (
    "text_language", "policy_url", "jurisdiction", "provenance", "sale_kind", "informed_at_collection",
    "optout_offered_at_collection", "supplier", "contract_ref", "third_party_named", "doi_sent_at", "published_at",
    "country", "local_rule",
)  # fmt: skip
_SEALED = ("email", "source", "sale_ref", "doi_message_id", "published_url", "published_hash")
_EVIDENCE = ("evidence_ip", "evidence_user_agent", "doi_ip")


def text_hash(language: str, text: str) -> bytes:
    """The name of a consent text in `consent_text`: a text once stored is never another one."""
    return hashlib.sha256(f"{language}\0{text}".encode()).digest()


def clear_part(record: Record, text: bytes) -> dict[str, object]:
    """The fields of an event that name nobody."""
    values = record.values
    clear: dict[str, object] = {
        "v": SCHEMA_VERSION,
        "record_id": os.urandom(16).hex(),
        "basis": record.basis,
        "method": record.method,
        "given_at": record.given_at,
        "text_hash": text.hex(),
        "controller": record.controller,
        "sensitive": record.sensitive,
    }
    for name in _CLEAR:
        if name in values:
            clear[name] = values[name]
    if "product_category" in values:
        clear["category"] = values["product_category"]
    for name, at in (
        ("confirmed_at", record.confirmed_at),
        ("expires_at", record.expires_at),
        ("sale_at", record.sale_at),
    ):
        if at:
            clear[name] = at
    return clear


def sealed_part(record: Record) -> dict[str, str]:
    """The fields that name the person or lead to them."""
    return {name: record.values[name] for name in _SEALED if name in record.values}


def evidence_part(record: Record) -> dict[str, str]:
    """The fields that are deleted first (GDPR-14)."""
    return {name: record.values[name] for name in _EVIDENCE if name in record.values}
