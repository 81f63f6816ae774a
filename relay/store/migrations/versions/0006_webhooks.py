"""Webhooks of tenants, and the events that wait for them (GDPR-25)."""

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None

_ID = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def upgrade() -> None:
    op.create_table(
        "webhook",
        sa.Column("id", _ID, autoincrement=True, nullable=False),
        sa.Column("tenant_id", _ID, nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("url", sa.Text(), nullable=False),
        sa.Column("events", sa.Text(), server_default="", nullable=False),
        sa.Column("with_address", sa.Boolean(), server_default="0", nullable=False),
        sa.Column("secret", sa.LargeBinary(), nullable=False),
        sa.Column("secret_before", sa.LargeBinary(), nullable=True),
        sa.Column("before_until", sa.Double(), server_default="0", nullable=False),
        sa.Column("created_at", sa.Double(), server_default="0", nullable=False),
        sa.Column("called_at", sa.Double(), server_default="0", nullable=False),
        sa.Column("answered_at", sa.Double(), server_default="0", nullable=False),
        sa.Column("failure", sa.Text(), server_default="", nullable=False),
        sa.ForeignKeyConstraint(["tenant_id"], ["tenant.id"], name="fk_webhook_tenant_id"),
        sa.PrimaryKeyConstraint("id", name="pk_webhook"),
        sa.UniqueConstraint("tenant_id", "name", name="uq_webhook_tenant_id_name"),
    )
    op.create_table(
        "webhook_event",
        sa.Column("id", _ID, autoincrement=True, nullable=False),
        sa.Column("webhook_id", _ID, nullable=False),
        sa.Column("tenant_id", _ID, nullable=False),
        sa.Column("event_id", sa.Text(), nullable=False),
        sa.Column("subject", sa.LargeBinary(), nullable=False),
        sa.Column("at", sa.Double(), nullable=False),
        sa.Column("body", sa.LargeBinary(), nullable=False),
        sa.Column("tries", sa.Integer(), server_default="0", nullable=False),
        sa.Column("due_at", sa.Double(), server_default="0", nullable=False),
        sa.Column("failure", sa.Text(), server_default="", nullable=False),
        sa.Column("dead_at", sa.Double(), server_default="0", nullable=False),
        sa.Column("overtaken", sa.Boolean(), server_default="0", nullable=False),
        sa.ForeignKeyConstraint(["tenant_id"], ["tenant.id"], name="fk_webhook_event_tenant_id"),
        sa.ForeignKeyConstraint(["webhook_id"], ["webhook.id"], name="fk_webhook_event_webhook_id"),
        sa.PrimaryKeyConstraint("id", name="pk_webhook_event"),
        sa.UniqueConstraint("event_id", name="uq_webhook_event_event_id"),
    )
    op.create_index("ix_webhook_event_at", "webhook_event", ["at"])
    op.create_index("ix_webhook_event_line", "webhook_event", ["webhook_id", "dead_at", "tries", "id"])
    op.create_index("ix_webhook_event_webhook_id_subject_id", "webhook_event", ["webhook_id", "subject", "id"])


def downgrade() -> None:
    op.drop_table("webhook_event")
    op.drop_table("webhook")
