"""Suspension of one login, when an account was suspended or released (THROTTLE-9), and how its warm-up goes (THROTTLE-3)."""

import time

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None


def upgrade() -> None:

    with op.batch_alter_table("tenant", schema=None) as batch_op:
        batch_op.add_column(sa.Column("suspension_at", sa.Double(), server_default="0", nullable=False))
        batch_op.add_column(sa.Column("suspension_told", sa.Boolean(), server_default="0", nullable=False))

    # Whoever is suspended already gets the whole time that frozen mail is kept.
    op.get_bind().execute(sa.text("UPDATE tenant SET suspension_at = :now WHERE suspended"), {"now": time.time()})

    with op.batch_alter_table("credential", schema=None) as batch_op:
        batch_op.add_column(sa.Column("suspended", sa.Boolean(), server_default="0", nullable=False))
        batch_op.add_column(sa.Column("suspended_reason", sa.Text(), server_default="", nullable=False))
        batch_op.add_column(sa.Column("suspension_at", sa.Double(), server_default="0", nullable=False))
        batch_op.add_column(sa.Column("suspension_told", sa.Boolean(), server_default="0", nullable=False))
        batch_op.add_column(sa.Column("warmup_behind", sa.Integer(), server_default="0", nullable=False))
        batch_op.add_column(sa.Column("alarm_at", sa.Double(), server_default="0", nullable=False))


def downgrade() -> None:

    with op.batch_alter_table("credential", schema=None) as batch_op:
        for name in ("alarm_at", "warmup_behind", "suspension_told", "suspension_at", "suspended_reason", "suspended"):
            batch_op.drop_column(name)

    with op.batch_alter_table("tenant", schema=None) as batch_op:
        batch_op.drop_column("suspension_told")
        batch_op.drop_column("suspension_at")
