"""Counts of refusals for the daily digest, who was told what, and whether a tenant wants letters on refusals."""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    number = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
    with op.batch_alter_table("tenant", schema=None) as batch_op:
        batch_op.add_column(sa.Column("refusal_letters", sa.Boolean(), server_default="1", nullable=False))
    op.create_table(
        "refusal_tally",
        sa.Column("tenant_id", number, nullable=False),
        sa.Column("rule", sa.Text(), nullable=False),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("count", number, nullable=False),
        sa.Column("first_at", sa.Double(), nullable=False),
        sa.ForeignKeyConstraint(["tenant_id"], ["tenant.id"], name=op.f("fk_refusal_tally_tenant_id")),
        sa.PrimaryKeyConstraint("tenant_id", "rule", "kind", name=op.f("pk_refusal_tally")),
    )
    op.create_table(
        "tenant_told",
        sa.Column("tenant_id", number, nullable=False),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("about", sa.Text(), nullable=False),
        sa.Column("at", sa.Double(), nullable=False),
        sa.ForeignKeyConstraint(["tenant_id"], ["tenant.id"], name=op.f("fk_tenant_told_tenant_id")),
        sa.PrimaryKeyConstraint("tenant_id", "kind", "about", name=op.f("pk_tenant_told")),
    )


def downgrade() -> None:
    op.drop_table("tenant_told")
    op.drop_table("refusal_tally")
    with op.batch_alter_table("tenant", schema=None) as batch_op:
        batch_op.drop_column("refusal_letters")
