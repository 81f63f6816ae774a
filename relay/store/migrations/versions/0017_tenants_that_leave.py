"""When a tenant was deleted, and when nothing of it was left but the proof (GDPR-18)."""

import sqlalchemy as sa
from alembic import op

revision = "0017"
down_revision = "0016"
branch_labels = None
depends_on = None

_COLUMNS = ("deleted_at", "emptied_at")


def upgrade() -> None:
    for name in _COLUMNS:
        op.add_column("tenant", sa.Column(name, sa.Double(), server_default="0", nullable=False))


def downgrade() -> None:
    for name in _COLUMNS:
        op.drop_column("tenant", name)
