"""The shared database, once, for SQLite and PostgreSQL: directory, consent ledger, suppression.

Times are seconds since the epoch, UTC (0.0: never). Documents are JSON text. Keyed hashes are 16 octets. Which
column holds what, why and for how long is in `datamap.toml`, and a test holds the two together (GDPR-1). The rest is in
relay.store.requests, relay.store.incident_tables and relay.store.page_tables, and known here too.
relay.store.requests, relay.store.incident_tables and relay.store.register_tables, and known here too.
"""

from __future__ import annotations

from sqlalchemy import Boolean, Column, Double, ForeignKey, Index, Integer, LargeBinary, Table, Text, UniqueConstraint
from sqlalchemy import text as sa_text

from relay.store.columns import ID, flag, metadata, of_tenant, row_id, text, time
from relay.store.incident_tables import deletion_request, incident, incident_entry, incident_person
from relay.store.page_tables import tenant_face
from relay.store.privacy_tables import erasure, mailing, retention_period
from relay.store.register_tables import instruction, rights_request, sub_processor
from relay.store.requests import (
    access_code,
    address_change,
    api_key,
    audit,
    held_import,
    idempotency,
    import_place,
    refusal_tally,
    tenant_told,
    webhook,
    webhook_event,
)

__all__ = [
    "access_code",
    "address_change",
    "api_key",
    "audit",
    "deletion_request",
    "erasure",
    "held_import",
    "idempotency",
    "import_place",
    "incident",
    "incident_entry",
    "incident_person",
    "instruction",
    "mailing",
    "metadata",
    "refusal_tally",
    "retention_period",
    "rights_request",
    "sub_processor",
    "tenant_face",
    "tenant_told",
    "webhook",
    "webhook_event",
]

# What retention looks for, and nothing else: an index over the whole ledger would cost every import.
_EVIDENCE, _BOUNCE = sa_text("evidence IS NOT NULL"), sa_text("expires_at > 0")

tenant = Table(
    "tenant",
    metadata,
    row_id(),
    Column("name", Text, nullable=False, unique=True),
    text("legal_name"),
    Column("kind", Text, nullable=False, server_default="company"),  # company | charity | government
    text("category"),
    flag("sensitive_audience"),
    Column("language", Text, nullable=False, server_default="nl"),
    text("contact"),
    text("postal_address"),
    Column(
        "refusal_letters", Boolean(create_constraint=False), nullable=False, server_default="1"
    ),  # of refusals, to the contact
    flag("suspended"),
    text("suspended_reason"),
    time("suspension_at"),  # of the last suspension or release: the later word counts on every gateway (THROTTLE-9)
    flag("suspension_told"),  # the contact has been written to
    # On what this tenant may advertise beyond consent of its own, in the import and in the policy alike (decision 021).
    Column("allow_soft_optin", Boolean(create_constraint=False), nullable=False, server_default="1"),  # CONSENT-5
    flag("allow_third_party"),  # CONSENT-7
    flag("allow_published"),  # CONSENT-9
    flag("allow_non_eea"),  # CONSENT-9
    text("free_tier_reason"),  # CONSENT-6: a text switches it on
    flag("german_proof"),  # web forms then need IP and user agent
    time("created_at"),
    time("deleted_at"),  # it left: nothing of it is accepted, sent or shown any more (GDPR-18)
    time("emptied_at"),  # nothing of it is left but what relay.owner.departures keeps
)

domain = Table(
    "domain",
    metadata,
    row_id(),
    of_tenant(),
    Column("name", Text, nullable=False, index=True),
    Column("challenge", Text, nullable=False),  # what the TXT record must say (ID-1)
    time("verified_at"),
    time("vouched_at"),
    text("vouched_by"),
    time("created_at"),
    UniqueConstraint("tenant_id", "name"),
)

purpose = Table(
    "purpose",
    metadata,
    row_id(),
    of_tenant(),
    Column("name", Text, nullable=False),
    Column("optin_key", Text, nullable=False, unique=True),  # of POST /optin/{purpose-key}
    text("controller"),
    text("category"),
    text("title_nl"),
    text("title_en"),
    time("created_at"),
    UniqueConstraint("tenant_id", "name"),
)

credential = Table(
    "credential",
    metadata,
    row_id(),
    of_tenant(index=True),
    Column("name", Text, nullable=False, unique=True),
    Column("stream", Text, nullable=False),  # marketing | transactional | personal
    text("purpose"),
    Column("from_addresses", Text, nullable=False, server_default="[]"),
    flag("null_sender"),
    Column("key_id", Integer, nullable=False),
    Column("digest", LargeBinary, nullable=False),
    time("created_at"),
    time("revoked_at"),
    flag("suspended"),
    text("suspended_reason"),
    time("suspension_at"),
    flag("suspension_told"),
    Column("warmup_behind", Integer, nullable=False, server_default="0"),
    time("alarm_at"),
)

dkim_key = Table(
    "dkim_key",
    metadata,
    row_id(),
    of_tenant(index=True),
    Column("domain", Text, nullable=False),
    Column("selector", Text, nullable=False),
    Column("algorithm", Text, nullable=False),  # rsa-sha256 | ed25519-sha256
    Column("state", Text, nullable=False),  # inactive | active | retired
    Column("record", Text, nullable=False),  # the TXT value to publish
    time("created_at"),
    time("activated_at"),
    text("vouched_by"),
    time("checked_at"),
    time("mismatch_since"),  # DKIM-8: first of the authoritative mismatches in a row
    UniqueConstraint("domain", "selector"),
)

policy_mode = Table(
    "policy_mode",
    metadata,
    of_tenant(primary_key=True),
    Column("policy", Text, primary_key=True),
    Column("stream", Text, primary_key=True),  # "" means every stream
    Column("mode", Text, nullable=False),  # off | observe | enforce | "" (only settings)
    Column("settings", Text, nullable=False, server_default="{}"),
    time("changed_at"),
)

told_outcome = Table(
    "told_outcome",
    metadata,
    Column("key", LargeBinary, primary_key=True),  # keyed hash of message, address and what became of it
    of_tenant(),
    Column("at", Double, nullable=False),
    Index("ix_told_outcome_tenant_id_at", "tenant_id", "at"),
    sqlite_with_rowid=False,
)

own_limit = Table(
    "own_limit",
    metadata,
    of_tenant(primary_key=True),
    Column("scope", Text, primary_key=True),  # tenant | stream | credential | domain
    Column("subject", Text, primary_key=True),  # which of these; "" for the tenant
    Column("name", Text, primary_key=True),
    Column("value", ID, nullable=False),  # 0: no limit
    time("changed_at"),
)

subject = Table(
    "subject",
    metadata,
    row_id(),
    of_tenant(),
    Column("hash", LargeBinary, nullable=False, index=True),
    Column("key_id", Integer, nullable=False),  # of the keyring key that wraps
    Column("wrapped", LargeBinary),  # NULL: erased (CONSENT-14)
    time("erased_at"),
)

consent_text = Table(
    "consent_text",
    metadata,
    of_tenant(primary_key=True),
    Column("hash", LargeBinary, primary_key=True),  # SHA-256 of language, NUL, text
    Column("language", Text, nullable=False),
    Column("text", Text, nullable=False),
    time("first_seen_at"),
)

consent_event = Table(
    "consent_event",
    metadata,
    of_tenant(primary_key=True),
    Column("seq", ID, primary_key=True, autoincrement=False),
    Column("event", Text, nullable=False),  # requested given confirmed changed withdrawn objected restricted erased ...
    Column("at", Double, nullable=False),
    Column("subject_id", ID, ForeignKey("subject.id"), nullable=False, index=True),
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
    time("expired_at"),  # retention took the content; sequence and hashes stay
    Index("ix_consent_event_tenant_id_purpose", "tenant_id", "purpose"),
    Index("ix_consent_event_evidence", "tenant_id", "at", sqlite_where=_EVIDENCE, postgresql_where=_EVIDENCE),
    sqlite_with_rowid=False,
)

ledger_head = Table(
    "ledger_head",
    metadata,
    of_tenant(primary_key=True, autoincrement=False),
    Column("seq", ID, nullable=False),
    Column("hash", LargeBinary, nullable=False),
)

consent_state = Table(
    "consent_state",
    metadata,
    # The first 8 octets of the key as a number, so that a look-up reads one page that is not in the cache (decision 026).
    Column("id", ID, primary_key=True, autoincrement=False),
    Column("key", LargeBinary, nullable=False),
    of_tenant(),
    Column("status", Text, nullable=False),
    Column("basis", Text, nullable=False),
    time("given_at"),
    time("confirmed_at"),
    time("expires_at"),
    text("controller"),
    text("category"),
    text("sale_kind"),
    time("sale_at"),
    Column("provenance", Text, nullable=False, server_default="own"),
    text("jurisdiction"),
    flag("sensitive"),
    Column("event", ID, nullable=False),
    time("ended_at"),
    Column("used_at", Double, nullable=False, server_default="0", index=True),  # a month (CONSENT-13, CONSENT-15)
    Column(
        "proof", LargeBinary, nullable=False
    ),  # 8 octets of the record's keyed hash: the same row twice is one event
)

suppression = Table(
    "suppression",
    metadata,
    Column("key", LargeBinary, primary_key=True),
    Column("scope", Text, primary_key=True),  # all | a purpose
    Column("reason", Text, primary_key=True),  # objection | bounce | complaint | restriction
    of_tenant(),
    Column("at", Double, nullable=False),
    time("expires_at"),  # bounces only (REP-3)
    text("lifted"),  # purposes, space separated, that the person confirmed since (CONSENT-11)
    text("source"),
    Column("subject_id", ID, ForeignKey("subject.id")),
    Column("sealed", LargeBinary),  # the address, readable until the subject's key is erased
    Index("ix_suppression_tenant_id_at", "tenant_id", "at"),
    Index("ix_suppression_subject_id_tenant_id", "subject_id", "tenant_id"),
    Index("ix_suppression_bounce", "tenant_id", "at", sqlite_where=_BOUNCE, postgresql_where=_BOUNCE),
    sqlite_with_rowid=False,
)

confirm_request = Table(
    "confirm_request",
    metadata,
    Column("key", LargeBinary, primary_key=True),  # that of consent_state
    of_tenant(),
    Column("purpose", Text, nullable=False),
    Column("requested_at", Double, nullable=False, index=True),
    Column("mails_sent", Integer, nullable=False, server_default="0"),
    Column("subject_id", ID, ForeignKey("subject.id"), nullable=False),
    Column("event", ID, nullable=False),
    sqlite_with_rowid=False,
)
