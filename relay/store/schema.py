"""The shared database, once, for SQLite and PostgreSQL: directory, consent ledger, suppression, audit.

Times are seconds since the epoch, UTC (0.0: never). Documents are JSON text. Keyed hashes are 16 octets. Which
column holds what, why and for how long is in `datamap.toml`, and a test holds the two together (GDPR-1).
"""

from __future__ import annotations

from typing import Any

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    Double,
    ForeignKey,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    Table,
    Text,
    UniqueConstraint,
)

metadata = MetaData(
    naming_convention={
        "ix": "ix_%(table_name)s_%(column_0_N_name)s",
        "uq": "uq_%(table_name)s_%(column_0_N_name)s",
        "fk": "fk_%(table_name)s_%(column_0_N_name)s",
        "pk": "pk_%(table_name)s",
    }
)

# SQLite numbers rows by itself only where the type is exactly INTEGER.
_ID = BigInteger().with_variant(Integer, "sqlite")


def _id() -> Column[int]:
    return Column("id", _ID, primary_key=True, autoincrement=True)


def _text(name: str) -> Column[str]:
    return Column(name, Text, nullable=False, server_default="")


def _time(name: str) -> Column[float]:
    return Column(name, Double, nullable=False, server_default="0")


def _flag(name: str) -> Column[bool]:
    return Column(name, Boolean(create_constraint=False), nullable=False, server_default="0")


def _tenant(**options: Any) -> Column[int]:
    return Column("tenant_id", _ID, ForeignKey("tenant.id"), nullable=False, **options)


tenant = Table(
    "tenant",
    metadata,
    _id(),
    Column("name", Text, nullable=False, unique=True),
    _text("legal_name"),
    Column("kind", Text, nullable=False, server_default="company"),  # company | charity | government
    _text("category"),
    _flag("sensitive_audience"),
    Column("language", Text, nullable=False, server_default="nl"),
    _text("contact"),
    _text("postal_address"),
    Column(
        "refusal_letters", Boolean(create_constraint=False), nullable=False, server_default="1"
    ),  # of refusals, to the contact
    _flag("suspended"),
    _text("suspended_reason"),
    _time("suspension_at"),  # of the last suspension or release: the later word counts on every gateway (THROTTLE-9)
    _flag("suspension_told"),  # the contact has been written to
    # What this tenant may import beyond its own consents; all off until the operator says so.
    _flag("allow_third_party"),  # CONSENT-7
    _flag("allow_published"),  # CONSENT-9
    _flag("allow_non_eea"),  # CONSENT-9
    _text("free_tier_reason"),  # CONSENT-6: a text switches it on
    _flag("german_proof"),  # web forms then need IP and user agent
    _time("created_at"),
)

domain = Table(
    "domain",
    metadata,
    _id(),
    _tenant(),
    Column("name", Text, nullable=False, index=True),
    Column("challenge", Text, nullable=False),  # what the TXT record must say (ID-1)
    _time("verified_at"),
    _time("vouched_at"),
    _text("vouched_by"),
    _time("created_at"),
    UniqueConstraint("tenant_id", "name"),
)

purpose = Table(
    "purpose",
    metadata,
    _id(),
    _tenant(),
    Column("name", Text, nullable=False),
    Column("optin_key", Text, nullable=False, unique=True),  # of POST /optin/{purpose-key}
    _text("controller"),
    _text("category"),
    _text("title_nl"),
    _text("title_en"),
    _time("created_at"),
    UniqueConstraint("tenant_id", "name"),
)

credential = Table(
    "credential",
    metadata,
    _id(),
    _tenant(index=True),
    Column("name", Text, nullable=False, unique=True),
    Column("stream", Text, nullable=False),  # marketing | transactional | personal
    _text("purpose"),
    Column("from_addresses", Text, nullable=False, server_default="[]"),
    _flag("null_sender"),
    Column("key_id", Integer, nullable=False),
    Column("digest", LargeBinary, nullable=False),
    _time("created_at"),
    _time("revoked_at"),
    _flag("suspended"),
    _text("suspended_reason"),
    _time("suspension_at"),
    _flag("suspension_told"),
    Column("warmup_behind", Integer, nullable=False, server_default="0"),
    _time("alarm_at"),
)

dkim_key = Table(
    "dkim_key",
    metadata,
    _id(),
    _tenant(index=True),
    Column("domain", Text, nullable=False),
    Column("selector", Text, nullable=False),
    Column("algorithm", Text, nullable=False),  # rsa-sha256 | ed25519-sha256
    Column("state", Text, nullable=False),  # inactive | active | retired
    Column("record", Text, nullable=False),  # the TXT value to publish
    _time("created_at"),
    _time("activated_at"),
    _text("vouched_by"),
    _time("checked_at"),
    _time("mismatch_since"),  # DKIM-8: first of the authoritative mismatches in a row
    UniqueConstraint("domain", "selector"),
)

policy_mode = Table(
    "policy_mode",
    metadata,
    _tenant(primary_key=True),
    Column("policy", Text, primary_key=True),
    Column("stream", Text, primary_key=True),  # "" means every stream
    Column("mode", Text, nullable=False),  # off | observe | enforce | "" (only settings)
    Column("settings", Text, nullable=False, server_default="{}"),
    _time("changed_at"),
)

told_outcome = Table(
    "told_outcome",
    metadata,
    Column("key", LargeBinary, primary_key=True),  # keyed hash of message, address and what became of it
    _tenant(),
    Column("at", Double, nullable=False, index=True),
    sqlite_with_rowid=False,
)

own_limit = Table(
    "own_limit",
    metadata,
    _tenant(primary_key=True),
    Column("scope", Text, primary_key=True),  # tenant | stream | credential | domain
    Column("subject", Text, primary_key=True),  # which of these; "" for the tenant
    Column("name", Text, primary_key=True),
    Column("value", _ID, nullable=False),  # 0: no limit
    _time("changed_at"),
)

api_key = Table(
    "api_key",
    metadata,
    _id(),
    _tenant(),
    Column("name", Text, nullable=False),
    Column("key_id", Integer, nullable=False),
    Column("digest", LargeBinary, nullable=False, unique=True),
    _time("created_at"),
    _time("revoked_at"),
    UniqueConstraint("tenant_id", "name"),
)

subject = Table(
    "subject",
    metadata,
    _id(),
    _tenant(),
    Column("hash", LargeBinary, nullable=False, index=True),
    Column("key_id", Integer, nullable=False),  # of the keyring key that wraps
    Column("wrapped", LargeBinary),  # NULL: erased (CONSENT-14)
    _time("erased_at"),
)

consent_text = Table(
    "consent_text",
    metadata,
    _tenant(primary_key=True),
    Column("hash", LargeBinary, primary_key=True),  # SHA-256 of language, NUL, text
    Column("language", Text, nullable=False),
    Column("text", Text, nullable=False),
    _time("first_seen_at"),
)

consent_event = Table(
    "consent_event",
    metadata,
    _tenant(primary_key=True),
    Column("seq", _ID, primary_key=True, autoincrement=False),
    Column("event", Text, nullable=False),  # requested given confirmed changed withdrawn objected restricted erased ...
    Column("at", Double, nullable=False),
    Column("subject_id", _ID, ForeignKey("subject.id"), nullable=False, index=True),
    Column("key", LargeBinary, nullable=False),  # of consent_state; b"" where the event is not about one address
    Column("purpose", Text, nullable=False),  # "" means every purpose
    Column("clear", Text, nullable=False),
    Column("sealed", LargeBinary),
    Column("sealed_hash", LargeBinary, nullable=False),
    Column("evidence", LargeBinary),  # IP and user agent, deleted first (GDPR-14)
    Column("evidence_hash", LargeBinary, nullable=False),
    Column("recorded_by", Text, nullable=False),
    Column("recorded_at", Double, nullable=False),
    Column("content_hash", LargeBinary, nullable=False),
    Column("prev_hash", LargeBinary, nullable=False),
    Column("hash", LargeBinary, nullable=False),
    _time("expired_at"),  # retention took the content; sequence and hashes stay
    Index("ix_consent_event_tenant_id_purpose", "tenant_id", "purpose"),
    sqlite_with_rowid=False,
)

import_place = Table(
    "import_place",
    metadata,
    _tenant(primary_key=True, autoincrement=False),
    Column("mark", LargeBinary, nullable=False),  # of the file and of the tenant's rules
    Column("done_bytes", _ID, nullable=False),
    Column("done_lines", _ID, nullable=False),
    Column("imported", _ID, nullable=False),
    Column("unchanged", _ID, nullable=False),
    Column("refused", _ID, nullable=False),
)

ledger_head = Table(
    "ledger_head",
    metadata,
    _tenant(primary_key=True, autoincrement=False),
    Column("seq", _ID, nullable=False),
    Column("hash", LargeBinary, nullable=False),
)

consent_state = Table(
    "consent_state",
    metadata,
    Column("key", LargeBinary, primary_key=True),
    _tenant(),
    Column("status", Text, nullable=False),
    Column("basis", Text, nullable=False),
    _time("given_at"),
    _time("confirmed_at"),
    _time("expires_at"),
    _text("controller"),
    _text("category"),
    _text("sale_kind"),
    _time("sale_at"),
    Column("provenance", Text, nullable=False, server_default="own"),
    _text("jurisdiction"),
    _flag("sensitive"),
    Column("event", _ID, nullable=False),
    _time("ended_at"),
    Column(
        "proof", LargeBinary, nullable=False
    ),  # 8 octets of the record's keyed hash: the same row twice is one event
    sqlite_with_rowid=False,
)

suppression = Table(
    "suppression",
    metadata,
    Column("key", LargeBinary, primary_key=True),
    Column("scope", Text, primary_key=True),  # all | a purpose
    Column("reason", Text, primary_key=True),  # objection | bounce | complaint | restriction
    _tenant(),
    Column("at", Double, nullable=False),
    _time("expires_at"),  # bounces only (REP-3)
    _text("lifted"),  # purposes, space separated, that the person confirmed since; of scope "all" only (CONSENT-11)
    _text("source"),
    Column("subject_id", _ID, ForeignKey("subject.id")),
    Column("sealed", LargeBinary),  # the address, readable until the subject's key is erased
    Index("ix_suppression_tenant_id_at", "tenant_id", "at"),
    sqlite_with_rowid=False,
)

confirm_request = Table(
    "confirm_request",
    metadata,
    Column("key", LargeBinary, primary_key=True),  # that of consent_state
    _tenant(),
    Column("purpose", Text, nullable=False),
    Column("requested_at", Double, nullable=False),
    Column("mails_sent", Integer, nullable=False, server_default="0"),
    Column("subject_id", _ID, ForeignKey("subject.id"), nullable=False),
    Column("event", _ID, nullable=False),
    sqlite_with_rowid=False,
)

refusal_tally = Table(
    "refusal_tally",
    metadata,
    _tenant(primary_key=True),
    Column("rule", Text, primary_key=True),
    Column("kind", Text, primary_key=True),  # refused | held
    Column("count", _ID, nullable=False),
    Column("first_at", Double, nullable=False),
)

tenant_told = Table(
    "tenant_told",
    metadata,
    _tenant(primary_key=True),
    Column("kind", Text, primary_key=True),  # first: of a rule | digest: of a day
    Column("about", Text, primary_key=True),
    Column("at", Double, nullable=False),
)

audit = Table(
    "audit",
    metadata,
    _id(),
    Column("at", Double, nullable=False, index=True),
    Column("actor", Text, nullable=False),
    Column("op", Text, nullable=False),
    Column("tenant_id", _ID, nullable=False, server_default="0"),
    Column("detail", Text, nullable=False),  # JSON; an address appears as its keyed hash only
)
