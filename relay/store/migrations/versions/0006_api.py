"""API keys have scopes, an end and the day of their last use. Keys that were there keep every right."""

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("api_key", sa.Column("scopes", sa.Text(), nullable=False, server_default="all"))
    op.add_column("api_key", sa.Column("expires_at", sa.Double(), nullable=False, server_default="0"))
    op.add_column("api_key", sa.Column("used_at", sa.Double(), nullable=False, server_default="0"))


def downgrade() -> None:
    for column in ("used_at", "expires_at", "scopes"):
        op.drop_column("api_key", column)
