"""Tables of incidents (GDPR-20 to GDPR-23); relay.store.schema knows them too."""

from __future__ import annotations

from sqlalchemy import Column, Double, ForeignKey, Index, Integer, LargeBinary, Table, Text

from relay.store.columns import ID, flag, metadata, of_tenant, row_id, text, time

incident = Table(
    "incident",
    metadata,
    row_id(),
    of_tenant(index=True),
    Column("ref", Text, nullable=False, unique=True),  # what people call it: day and four letters
    Column("kind", Text, nullable=False),  # exposure | leak | export | loss | access | other
    text("mark"),  # what the gateway noticed again is the same incident; "" where a person opened it
    Column("opened_by", Text, nullable=False),
    Column("opened_at", Double, nullable=False),
    Column("detected_at", Double, nullable=False),
    Column("last_at", Double, nullable=False),
    Column("times", Integer, nullable=False, server_default="1"),
    Column("tenant_due_at", Double, nullable=False),
    Column("authority_due_at", Double, nullable=False),
    time("seen_at"),  # a person has looked at it
    text("risk"),  # unlikely | likely | high; "" until a person has said
    flag("unintelligible"),  # to whoever got the data (GDPR 34(3)(a))
    time("tenant_told_at"),
    time("authority_told_at"),
    time("people_told_at"),
    time("closed_at"),
    Column("sealed", LargeBinary, nullable=False),
    Index("ix_incident_closed_at", "closed_at"),
)

incident_entry = Table(
    "incident_entry",
    metadata,
    row_id(),
    Column("incident_id", ID, ForeignKey("incident.id"), nullable=False, index=True),
    Column("at", Double, nullable=False),
    Column("kind", Text, nullable=False),  # opened | noted | assessed | notified | asked | confirmed | closed
    Column("actor", Text, nullable=False),
    Column("sealed", LargeBinary, nullable=False),
)

incident_person = Table(
    "incident_person",
    metadata,
    Column("incident_id", ID, ForeignKey("incident.id"), primary_key=True),
    Column("key", LargeBinary, primary_key=True),
    Column("sealed", LargeBinary, nullable=False),
    Index("ix_incident_person_key", "key"),
    sqlite_with_rowid=False,
)

deletion_request = Table(
    "deletion_request",
    metadata,
    row_id(),
    Column("incident_id", ID, ForeignKey("incident.id"), nullable=False, index=True),
    Column("key", LargeBinary, nullable=False, index=True),
    Column("language", Text, nullable=False),
    Column("asked_at", Double, nullable=False),
    Column("mails_sent", Integer, nullable=False, server_default="0"),
    Column("due_at", Double, nullable=False, index=True),  # of the next letter; 0.0: none
    time("confirmed_at"),
    Column("sealed", LargeBinary, nullable=False),
)
