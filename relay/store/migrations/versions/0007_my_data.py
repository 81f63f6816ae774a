"""Codes that show who asks for his own data, and addresses that wait to be confirmed (GDPR-5, GDPR-7)."""

import sqlalchemy as sa
from alembic import op

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None


def upgrade() -> None:
    number = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
    op.create_table(
        "access_code",
        sa.Column("key", sa.LargeBinary(), nullable=False),
        sa.Column("tenant_id", number, nullable=False),
        sa.Column("code", sa.LargeBinary(), nullable=False),
        sa.Column("expires_at", sa.Double(), server_default="0", nullable=False),
        sa.Column("wrong", sa.Integer(), server_default="0", nullable=False),
        sa.Column("locked_until", sa.Double(), server_default="0", nullable=False),
        sa.Column("mails_sent", sa.Integer(), server_default="0", nullable=False),
        sa.Column("mails_since", sa.Double(), server_default="0", nullable=False),
        sa.Column("asked_at", sa.Double(), nullable=False),
        sa.ForeignKeyConstraint(["tenant_id"], ["tenant.id"], name=op.f("fk_access_code_tenant_id")),
        sa.PrimaryKeyConstraint("key", name=op.f("pk_access_code")),
        sqlite_with_rowid=False,
    )
    op.create_index(op.f("ix_access_code_asked_at"), "access_code", ["asked_at"], unique=False)
    op.create_table(
        "address_change",
        sa.Column("key", sa.LargeBinary(), nullable=False),
        sa.Column("tenant_id", number, nullable=False),
        sa.Column("subject_id", number, nullable=False),
        sa.Column("sealed", sa.LargeBinary(), nullable=False),
        sa.Column("requested_at", sa.Double(), nullable=False),
        sa.Column("mails_sent", sa.Integer(), server_default="0", nullable=False),
        sa.Column("mails_since", sa.Double(), server_default="0", nullable=False),
        sa.ForeignKeyConstraint(["tenant_id"], ["tenant.id"], name=op.f("fk_address_change_tenant_id")),
        sa.ForeignKeyConstraint(["subject_id"], ["subject.id"], name=op.f("fk_address_change_subject_id")),
        sa.PrimaryKeyConstraint("key", name=op.f("pk_address_change")),
        sqlite_with_rowid=False,
    )
    op.create_index(op.f("ix_address_change_requested_at"), "address_change", ["requested_at"], unique=False)


def downgrade() -> None:
    op.drop_table("address_change")
    op.drop_table("access_code")
