"""Table of what a tenant's pages for recipients look like; relay.store.schema knows it too."""

from __future__ import annotations

from sqlalchemy import Column, ForeignKey, LargeBinary, Table

from relay.store.columns import ID, metadata, text

tenant_face = Table(
    "tenant_face",
    metadata,
    Column("tenant_id", ID, ForeignKey("tenant.id"), primary_key=True, autoincrement=False),
    text("colour"),  # #rrggbb, "" for the usual
    text("text_colour"),  # on it
    text("origins"),  # web sites whose script may post to the forms, by spaces
    text("logo"),  # name of the picture, which is a digest of it; "" for none
    Column("picture", LargeBinary, nullable=False, server_default=""),
)
