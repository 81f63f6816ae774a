"""Tables of requests of people, and of what the register of processing shows (GDPR-17, GDPR-18, GDPR-24)."""

from __future__ import annotations

from sqlalchemy import Column, Double, Index, Integer, LargeBinary, Table, Text

from relay.store.columns import ID, metadata, of_tenant, row_id, text, time

rights_request = Table(
    "rights_request",
    metadata,
    row_id(),
    of_tenant(index=True),
    Column("ref", Text, nullable=False, unique=True),  # what people call it: day and four letters
    Column("kind", Text, nullable=False),  # access | rectify | erase | restrict | object | portability
    Column("channel", Text, nullable=False),  # hand | api | my
    Column("key", LargeBinary, nullable=False, index=True),
    Column("opened_by", Text, nullable=False),
    Column("opened_at", Double, nullable=False),
    Column("asked_at", Double, nullable=False),
    Column("due_at", Double, nullable=False),
    time("extended_at"),
    text("outcome"),  # answered | refused; "" while it waits
    time("settled_at"),
    Column("sealed", LargeBinary, nullable=False),
    Index("ix_rights_request_settled_at", "settled_at"),
)

instruction = Table(
    "instruction",
    metadata,
    of_tenant(primary_key=True),
    Column("version", Integer, primary_key=True, autoincrement=False),
    Column("at", Double, nullable=False),
    Column("actor", Text, nullable=False),
    Column("op", Text, nullable=False),
    Column("digest", LargeBinary, nullable=False),  # SHA-256 of the document
    Column("document", Text, nullable=False),
    sqlite_with_rowid=False,
)

sub_processor = Table(
    "sub_processor",
    metadata,
    Column("id", ID, primary_key=True, autoincrement=True),
    Column("name", Text, nullable=False),
    Column("service", Text, nullable=False),
    Column("country", Text, nullable=False),
    text("ground"),  # outside of the EEA: which, as in processing.endpoints
    text("contact"),
    Column("announced_at", Double, nullable=False),
    Column("from_at", Double, nullable=False),
    text("without_notice"),  # why it began before the notice was over
    time("until_at"),
    Column("added_by", Text, nullable=False),
)
