"""API keys have scopes, an end and the day of their last use; requests of the API are done once.

Keys that were there keep every right.
"""

import sqlalchemy as sa
from alembic import op

revision = "0008"
down_revision = "0007"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("api_key", sa.Column("scopes", sa.Text(), nullable=False, server_default="all"))
    op.add_column("api_key", sa.Column("expires_at", sa.Double(), nullable=False, server_default="0"))
    op.add_column("api_key", sa.Column("used_at", sa.Double(), nullable=False, server_default="0"))
    op.create_table(
        "idempotency",
        sa.Column("key", sa.LargeBinary(), nullable=False),
        sa.Column("tenant_id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False),
        sa.Column("request", sa.LargeBinary(), nullable=False),
        sa.Column("at", sa.Double(), nullable=False),
        sa.Column("begun_at", sa.Double(), nullable=False),
        sa.Column("status", sa.Integer(), nullable=False, server_default="0"),
        sa.Column("answer", sa.LargeBinary(), nullable=True),
        sa.ForeignKeyConstraint(["tenant_id"], ["tenant.id"], name="fk_idempotency_tenant_id"),
        sa.PrimaryKeyConstraint("key", name="pk_idempotency"),
        sqlite_with_rowid=False,
    )
    op.create_index("ix_idempotency_at", "idempotency", ["at"])


def downgrade() -> None:
    op.drop_table("idempotency")
    for column in ("used_at", "expires_at", "scopes"):
        op.drop_column("api_key", column)
