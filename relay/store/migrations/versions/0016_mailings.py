"""Invoice dates of mailings (GDPR-12)."""

import sqlalchemy as sa
from alembic import op

revision = "0016"
down_revision = "0015"
branch_labels = None
depends_on = None

_ID = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def upgrade() -> None:
    op.create_table(
        "mailing",
        sa.Column("tenant_id", _ID, nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("invoice_date", sa.Text(), nullable=False),
        sa.Column("changed_at", sa.Double(), server_default="0", nullable=False),
        sa.ForeignKeyConstraint(["tenant_id"], ["tenant.id"], name=op.f("fk_mailing_tenant_id")),
        sa.PrimaryKeyConstraint("tenant_id", "name", name=op.f("pk_mailing")),
    )
    # Who keeps the delivery log for less long did so for what was mailed to his lists, too.
    op.execute(
        "INSERT INTO retention_period (tenant_id, kind, days, changed_at)"
        " SELECT tenant_id, 'campaign_addresses', days, changed_at FROM retention_period WHERE kind = 'delivery_log'"
    )


def downgrade() -> None:
    op.execute("DELETE FROM retention_period WHERE kind = 'campaign_addresses'")
    op.drop_table("mailing")
