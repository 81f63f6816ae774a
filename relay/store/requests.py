"""Tables of who asks and who is told: programs with their keys, people with their codes, contacts, webhooks, the audit."""

from __future__ import annotations

from sqlalchemy import Column, Double, ForeignKey, Index, Integer, LargeBinary, Table, Text, UniqueConstraint

from relay.store.columns import ID, flag, metadata, of_tenant, row_id, text, time

api_key = Table(
    "api_key",
    metadata,
    row_id(),
    of_tenant(),
    Column("name", Text, nullable=False),
    Column("key_id", Integer, nullable=False),
    Column("digest", LargeBinary, nullable=False, unique=True),
    time("created_at"),
    time("revoked_at"),
    Column("scopes", Text, nullable=False, server_default="all"),  # space separated
    time("expires_at"),
    time("used_at"),  # the day
    UniqueConstraint("tenant_id", "name"),
)

idempotency = Table(
    "idempotency",
    metadata,
    Column("key", LargeBinary, primary_key=True),  # keyed hash of the tenant and its word
    of_tenant(),
    Column("request", LargeBinary, nullable=False),  # keyed hash of what was asked
    Column("at", Double, nullable=False, index=True),
    Column("begun_at", Double, nullable=False),  # of the run that holds it; 0: none does
    Column("status", Integer, nullable=False, server_default="0"),  # 0: not answered yet
    Column("answer", LargeBinary),  # sealed
    sqlite_with_rowid=False,
)

import_place = Table(
    "import_place",
    metadata,
    of_tenant(primary_key=True, autoincrement=False),
    Column("mark", LargeBinary, nullable=False),  # of the file and of the tenant's rules
    Column("done_bytes", ID, nullable=False),
    Column("done_lines", ID, nullable=False),
    Column("imported", ID, nullable=False),
    Column("unchanged", ID, nullable=False),
    Column("refused", ID, nullable=False),
)

held_import = Table(
    "held_import",
    metadata,
    of_tenant(primary_key=True, autoincrement=False),
    Column("digest", LargeBinary, primary_key=True),  # SHA-256 of the file: of its rows nothing is kept (CONSENT-7)
    Column("state", Text, nullable=False),  # waiting | released | refused
    Column("rows", ID, nullable=False),
    Column("shared", ID, nullable=False),  # of them with the most common time of consent
    Column("shared_at", Double, nullable=False),
    Column("asked_by", Text, nullable=False),
    Column("asked_at", Double, nullable=False),
    text("decided_by"),
    time("decided_at"),
    text("reason"),
    sqlite_with_rowid=False,
)

access_code = Table(
    "access_code",
    metadata,
    Column("key", LargeBinary, primary_key=True),  # keyed hash of the person, as in the link
    of_tenant(),
    Column("code", LargeBinary, nullable=False),  # keyed hash of address and code; b"" where none counts
    time("expires_at"),
    Column("wrong", Integer, nullable=False, server_default="0"),
    Column("mails_sent", Integer, nullable=False, server_default="0"),  # within an hour from mails_since
    time("mails_since"),
    Column("asked_at", Double, nullable=False, index=True),
    sqlite_with_rowid=False,
)

address_change = Table(
    "address_change",
    metadata,
    Column("key", LargeBinary, primary_key=True),  # keyed hash of the person
    of_tenant(),
    Column("subject_id", ID, ForeignKey("subject.id"), nullable=False),
    Column("sealed", LargeBinary, nullable=False),  # the old address and the new one
    Column("requested_at", Double, nullable=False, index=True),
    Column("mails_sent", Integer, nullable=False, server_default="0"),  # within a day from mails_since
    time("mails_since"),
    sqlite_with_rowid=False,
)

refusal_tally = Table(
    "refusal_tally",
    metadata,
    of_tenant(primary_key=True),
    Column("rule", Text, primary_key=True),
    Column("kind", Text, primary_key=True),  # refused | held
    Column("count", ID, nullable=False),
    Column("first_at", Double, nullable=False),
)

tenant_told = Table(
    "tenant_told",
    metadata,
    of_tenant(primary_key=True),
    Column("kind", Text, primary_key=True),  # first: of a rule | digest: of a day
    Column("about", Text, primary_key=True),
    Column("at", Double, nullable=False),
)

webhook = Table(
    "webhook",
    metadata,
    row_id(),
    of_tenant(),
    Column("name", Text, nullable=False),
    Column("url", Text, nullable=False),
    text("events"),  # space separated; "": all
    flag("with_address"),
    Column("secret", LargeBinary, nullable=False),  # sealed with the keyring, as is the one before
    Column("secret_before", LargeBinary),
    time("before_until"),  # so long both sign
    time("created_at"),
    time("called_at"),  # somebody asked for a try now
    time("answered_at"),
    text("failure"),  # of the last try; "" where it was taken
    UniqueConstraint("tenant_id", "name"),
)

webhook_event = Table(
    "webhook_event",
    metadata,
    row_id(),  # the order in which it happened
    Column("webhook_id", ID, ForeignKey("webhook.id"), nullable=False),
    of_tenant(),
    Column("event_id", Text, nullable=False, unique=True),
    Column("subject", LargeBinary, nullable=False),  # keyed hash: events of one person keep their order
    Column("at", Double, nullable=False, index=True),
    Column("body", LargeBinary, nullable=False),  # sealed with the keyring
    Column("tries", Integer, nullable=False, server_default="0"),
    time("due_at"),
    text("failure"),
    time("dead_at"),  # since when it is not tried any more
    flag("overtaken"),  # dead, and a later event of the person was delivered since
    Index("ix_webhook_event_line", "webhook_id", "dead_at", "tries", "id"),
    Index("ix_webhook_event_webhook_id_subject_id", "webhook_id", "subject", "id"),
)

audit = Table(
    "audit",
    metadata,
    row_id(),
    Column("at", Double, nullable=False, index=True),
    Column("actor", Text, nullable=False),
    Column("op", Text, nullable=False),
    Column("tenant_id", ID, nullable=False, server_default="0"),
    Column("detail", Text, nullable=False),  # JSON; an address appears as its keyed hash only
    Index("ix_audit_tenant_id_id", "tenant_id", "id"),
)
