"""Incidents with their clocks, their people, and what wrong recipients were asked (GDPR-20 to GDPR-23)."""

import sqlalchemy as sa
from alembic import op

revision = "0010"
down_revision = "0009"
branch_labels = None
depends_on = None

_ID = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def upgrade() -> None:
    _incidents()
    op.create_table(
        "incident_entry",
        sa.Column("id", _ID, autoincrement=True, nullable=False),
        sa.Column("incident_id", _ID, nullable=False),
        sa.Column("at", sa.Double(), nullable=False),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("actor", sa.Text(), nullable=False),
        sa.Column("sealed", sa.LargeBinary(), nullable=False),
        sa.ForeignKeyConstraint(["incident_id"], ["incident.id"], name=op.f("fk_incident_entry_incident_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_incident_entry")),
    )
    op.create_index(op.f("ix_incident_entry_incident_id"), "incident_entry", ["incident_id"], unique=False)
    op.create_table(
        "incident_person",
        sa.Column("incident_id", _ID, nullable=False),
        sa.Column("key", sa.LargeBinary(), nullable=False),
        sa.Column("sealed", sa.LargeBinary(), nullable=False),
        sa.ForeignKeyConstraint(["incident_id"], ["incident.id"], name=op.f("fk_incident_person_incident_id")),
        sa.PrimaryKeyConstraint("incident_id", "key", name=op.f("pk_incident_person")),
        sqlite_with_rowid=False,
    )
    op.create_index("ix_incident_person_key", "incident_person", ["key"], unique=False)
    op.create_table(
        "deletion_request",
        sa.Column("id", _ID, autoincrement=True, nullable=False),
        sa.Column("incident_id", _ID, nullable=False),
        sa.Column("key", sa.LargeBinary(), nullable=False),
        sa.Column("language", sa.Text(), nullable=False),
        sa.Column("asked_at", sa.Double(), nullable=False),
        sa.Column("mails_sent", sa.Integer(), server_default="0", nullable=False),
        sa.Column("due_at", sa.Double(), nullable=False),
        sa.Column("confirmed_at", sa.Double(), server_default="0", nullable=False),
        sa.Column("sealed", sa.LargeBinary(), nullable=False),
        sa.ForeignKeyConstraint(["incident_id"], ["incident.id"], name=op.f("fk_deletion_request_incident_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_deletion_request")),
    )
    for column in ("incident_id", "key", "due_at"):
        op.create_index(op.f(f"ix_deletion_request_{column}"), "deletion_request", [column], unique=False)


def _incidents() -> None:
    op.create_table(
        "incident",
        sa.Column("id", _ID, autoincrement=True, nullable=False),
        sa.Column("tenant_id", _ID, nullable=False),
        sa.Column("ref", sa.Text(), nullable=False),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("mark", sa.Text(), server_default="", nullable=False),
        sa.Column("opened_by", sa.Text(), nullable=False),
        sa.Column("opened_at", sa.Double(), nullable=False),
        sa.Column("detected_at", sa.Double(), nullable=False),
        sa.Column("last_at", sa.Double(), nullable=False),
        sa.Column("times", sa.Integer(), server_default="1", nullable=False),
        sa.Column("tenant_due_at", sa.Double(), nullable=False),
        sa.Column("authority_due_at", sa.Double(), nullable=False),
        sa.Column("seen_at", sa.Double(), server_default="0", nullable=False),
        sa.Column("risk", sa.Text(), server_default="", nullable=False),
        sa.Column("unintelligible", sa.Boolean(create_constraint=False), server_default="0", nullable=False),
        sa.Column("tenant_told_at", sa.Double(), server_default="0", nullable=False),
        sa.Column("authority_told_at", sa.Double(), server_default="0", nullable=False),
        sa.Column("people_told_at", sa.Double(), server_default="0", nullable=False),
        sa.Column("closed_at", sa.Double(), server_default="0", nullable=False),
        sa.Column("sealed", sa.LargeBinary(), nullable=False),
        sa.ForeignKeyConstraint(["tenant_id"], ["tenant.id"], name=op.f("fk_incident_tenant_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_incident")),
        sa.UniqueConstraint("ref", name=op.f("uq_incident_ref")),
    )
    op.create_index(op.f("ix_incident_tenant_id"), "incident", ["tenant_id"], unique=False)
    op.create_index("ix_incident_closed_at", "incident", ["closed_at"], unique=False)


def downgrade() -> None:
    for table in ("deletion_request", "incident_person", "incident_entry", "incident"):
        op.drop_table(table)
