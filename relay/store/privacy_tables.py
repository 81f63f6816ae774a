"""Tables of erasures that are under way, of periods that tenants chose, of invoice dates (GDPR-8, GDPR-12, GDPR-13)."""

from __future__ import annotations

from sqlalchemy import Column, Double, Table, Text

from relay.store.columns import ID, metadata, of_tenant, row_id, time

erasure = Table(
    "erasure",
    metadata,
    row_id(),
    of_tenant(index=True),
    Column("at", Double, nullable=False),
    Column("hashes", Text, nullable=False),  # keyed, JSON: see relay.consent.erased
)

retention_period = Table(
    "retention_period",
    metadata,
    of_tenant(primary_key=True),
    Column("kind", Text, primary_key=True),  # see relay.owner.periods
    Column("days", ID, nullable=False),
    time("changed_at"),
)

mailing = Table(
    "mailing",
    metadata,
    of_tenant(primary_key=True),
    Column("name", Text, primary_key=True),  # see relay.mail.mailing
    Column("invoice_date", Text, nullable=False),  # 2026-03-01
    time("changed_at"),
)
