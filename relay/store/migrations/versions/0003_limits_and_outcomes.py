"""Limits that an operator sets for one tenant, and what tenants told of their mail."""

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None


def upgrade() -> None:
    number = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
    op.create_table(
        "own_limit",
        sa.Column("tenant_id", number, nullable=False),
        sa.Column("scope", sa.Text(), nullable=False),
        sa.Column("subject", sa.Text(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("value", number, nullable=False),
        sa.Column("changed_at", sa.Double(), server_default="0", nullable=False),
        sa.ForeignKeyConstraint(["tenant_id"], ["tenant.id"], name=op.f("fk_own_limit_tenant_id")),
        sa.PrimaryKeyConstraint("tenant_id", "scope", "subject", "name", name=op.f("pk_own_limit")),
    )
    op.create_table(
        "told_outcome",
        sa.Column("key", sa.LargeBinary(), nullable=False),
        sa.Column("tenant_id", number, nullable=False),
        sa.Column("at", sa.Double(), nullable=False),
        sa.ForeignKeyConstraint(["tenant_id"], ["tenant.id"], name=op.f("fk_told_outcome_tenant_id")),
        sa.PrimaryKeyConstraint("key", name=op.f("pk_told_outcome")),
        sqlite_with_rowid=False,
    )
    op.create_index(op.f("ix_told_outcome_at"), "told_outcome", ["at"], unique=False)
