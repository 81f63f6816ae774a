"""When a consent was last used, by month (CONSENT-13, CONSENT-15)."""

import calendar
import time

import sqlalchemy as sa
from alembic import op

revision = "0011"
down_revision = "0010"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("consent_state", sa.Column("used_at", sa.Double(), server_default="0", nullable=False))
    # Nobody knows when these were used: they begin to age today, since none may be refused for what we did not keep.
    now = time.gmtime()
    month = float(calendar.timegm((now.tm_year, now.tm_mon, 1, 0, 0, 0)))
    op.get_bind().execute(sa.text("UPDATE consent_state SET used_at = :month"), {"month": month})
    op.create_index(op.f("ix_consent_state_used_at"), "consent_state", ["used_at"], unique=False)


def downgrade() -> None:
    op.drop_index(op.f("ix_consent_state_used_at"), "consent_state")
    op.drop_column("consent_state", "used_at")
