"""Tables of erasures that are under way, and of periods that tenants chose (GDPR-8, GDPR-13)."""

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
