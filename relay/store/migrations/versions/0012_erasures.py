"""Erasures that are under way, periods that tenants chose, and indexes for what retention looks for (GDPR-8, GDPR-11)."""

import sqlalchemy as sa
from alembic import op

revision = "0012"
down_revision = "0011"
branch_labels = None
depends_on = None

_ID = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def upgrade() -> None:
    op.create_table(
        "erasure",
        sa.Column("id", _ID, autoincrement=True, nullable=False),
        sa.Column("tenant_id", _ID, nullable=False),
        sa.Column("at", sa.Double(), nullable=False),
        sa.Column("hashes", sa.Text(), nullable=False),
        sa.ForeignKeyConstraint(["tenant_id"], ["tenant.id"], name=op.f("fk_erasure_tenant_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_erasure")),
    )
    op.create_index(op.f("ix_erasure_tenant_id"), "erasure", ["tenant_id"], unique=False)
    op.create_table(
        "retention_period",
        sa.Column("tenant_id", _ID, nullable=False),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("days", _ID, nullable=False),
        sa.Column("changed_at", sa.Double(), server_default="0", nullable=False),
        sa.ForeignKeyConstraint(["tenant_id"], ["tenant.id"], name=op.f("fk_retention_period_tenant_id")),
        sa.PrimaryKeyConstraint("tenant_id", "kind", name=op.f("pk_retention_period")),
    )
    for name, table, where in (
        ("ix_consent_event_evidence", "consent_event", "evidence IS NOT NULL"),
        ("ix_suppression_bounce", "suppression", "expires_at > 0"),
    ):
        only = sa.text(where)
        op.create_index(name, table, ["tenant_id", "at"], unique=False, sqlite_where=only, postgresql_where=only)
    op.create_index(op.f("ix_confirm_request_requested_at"), "confirm_request", ["requested_at"], unique=False)
    op.drop_index(op.f("ix_told_outcome_at"), "told_outcome")
    op.create_index("ix_told_outcome_tenant_id_at", "told_outcome", ["tenant_id", "at"], unique=False)


def downgrade() -> None:
    op.drop_index("ix_told_outcome_tenant_id_at", "told_outcome")
    op.create_index(op.f("ix_told_outcome_at"), "told_outcome", ["at"], unique=False)
    op.drop_index(op.f("ix_confirm_request_requested_at"), "confirm_request")
    op.drop_index("ix_suppression_bounce", "suppression")
    op.drop_index("ix_consent_event_evidence", "consent_event")
    op.drop_table("retention_period")
    op.drop_table("erasure")
